"""Core or not: two lists leave no module out; what the core's tests do not run is listed by what it says."""

import tomllib
from pathlib import Path

from coverage_of_core import ELSEWHERE, REASONS, ROOT, Places

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
REST = set().union(*ELSEWHERE.values())


def test_every_module_is_kept_from_torch_or_stands_among_what_needs_something():
    contracts = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in contracts if each["type"] == "forbidden")
    core = {name.removeprefix("mien.") for name in contract["source_modules"]}
    there = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert not core & REST
    assert core | REST == there - {"__init__"}


def test_reasons_why_lines_are_not_run_name_lines_and_functions_that_exist():
    for file, reasons in tomllib.loads(REASONS.read_text(encoding="utf-8")).items():
        assert Path(file).parts[0].removesuffix(".py") not in REST, file
        assert set(reasons) <= Places((ROOT / file).read_text(encoding="utf-8")).all(), file
        assert all(reasons.values()), file


def test_places_are_named_by_their_text_or_the_function_around_them():
    places = Places("class A:\n    def b(self):\n        def c():\n            return 1\n        return c\nx = 1\n")
    assert places.keys(4) == ["return 1", "A.b.c", "A.b"]
    assert places.keys(6) == ["x = 1"]
    assert "A" not in places.all()
