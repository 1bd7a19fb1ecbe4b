"""Every generated section and table of the documentation can be built from the code and the results."""

from __future__ import annotations

import importlib
import re

import pytest
from blocks import PAGES, ROOT

from docs import SECTIONS, fields
from mien.cards import Card
from mien.data.datasets import DATASETS, reader
from mien.models import MODELS
from site_hooks import GENERATE, generated
from tables import PLACE, fill

PLACES = [(str(page.relative_to(ROOT)), request) for page in PAGES for request in GENERATE.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize(("page", "request_"), PLACES)
def test_a_section_has_rows(page: str, request_: str) -> None:
    text = generated(f"<!-- generate: {request_} -->")
    assert text.count("\n|") > 2 or "* `" in text or "<svg" in text


def test_every_section_has_its_place() -> None:
    assert set(SECTIONS) <= {request.split()[0] for _, request in PLACES}


def test_readers_show_their_flaws_and_architectures_their_diagrams() -> None:
    text = generated("<!-- generate: datasets -->")
    assert all(flaw in text for name in DATASETS for entry in reader(name).protocols.values() for flaw in entry.flaws)
    text = generated("<!-- generate: models -->")
    described = set(MODELS) - {"mien-base", "mien-nano"}
    assert all(f"### {name}\n" in text for name in described) and text.count("```mermaid") >= len(described)


def test_the_python_reference_names_modules_that_exist() -> None:
    names = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert names and all(importlib.import_module(name) for name in names)


def test_the_architecture_page_lists_every_package() -> None:
    listed = set(re.findall(r"^[├└]─ (\w+)", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), re.MULTILINE))
    entries = {
        path.stem for path in (ROOT / "src" / "mien").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert listed == entries - {"__init__", "__main__"}


def test_the_architecture_page_names_files_and_tables_that_exist() -> None:
    source, text = ROOT / "src" / "mien", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert all((source / name).exists() for name in re.findall(r"`(\w+/[\w/]*(?:\.py)?)`", text))
    tables = re.findall(r"`([A-Z_]+)` (?:or `([A-Z_]+)` )?in `([\w/]+\.py)`", text)
    assert len(tables) == 5
    for *names, path in tables:
        module = importlib.import_module(f"mien.{path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}")
        assert all(hasattr(module, name) for name in names if name)


def test_fields_have_descriptions() -> None:
    rows = [line.split("|") for line in fields(Card).splitlines()[2:]]
    assert rows and all(row[4].strip() for row in rows if "`path`" not in row[1])


def test_committed_tables_are_current() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert PLACE.search(text) and fill(text) == text
