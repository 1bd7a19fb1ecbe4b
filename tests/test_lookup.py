"""Names of tables and names of the caller's own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from mien.errors import UnknownName
from mien.registry import lookup

TABLE = {"plain": len, "lazy": "math:sqrt", "gone": "mien.no_such_module:thing", "absent": "math:no_such_function"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that is no part of the path of modules."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    return tmp_path


def test_entries_are_objects_or_imported_on_lookup() -> None:
    assert lookup("plain", TABLE, "function") is len
    assert lookup("lazy", TABLE, "function")(9.0) == 3.0


def test_where_nothing_has_a_name_the_form_of_a_name_is_said() -> None:
    with pytest.raises(UnknownName, match="module:attribute"):
        lookup("thing", {}, "metric")


def test_a_file_of_the_working_folder_is_found_after_everything_installed(here: Path) -> None:
    (here / "my_own_thing.py").write_text("answer = 42\n")
    (here / "json.py").write_text("dumps = 'the wrong one'\n")
    assert lookup("my_own_thing:answer", {}, "thing") == 42
    assert lookup("json:dumps", {}, "thing")(1) == "1"


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("no_such_module_at_all:thing", "no_such_module_at_all"),
        ("json.py:loads", "json:loads"),
        ("math:no_such_function", "no_such_function"),
        ("gone", "mien.no_such_module"),
        ("absent", "no_such_function"),
        ("plane", "plain"),
        ("xyz", "absent, gone, lazy, plain"),
    ],
)
def test_missing_entries_are_named(name: str, named: str, here: Path) -> None:
    with pytest.raises(UnknownName, match=re.escape(named)):
        lookup(name, TABLE, "function")


def test_what_a_plug_in_lacks_is_not_taken_for_the_plug_in(here: Path) -> None:
    (here / "needs_more.py").write_text("import something_not_installed\n")
    with pytest.raises(ModuleNotFoundError, match="something_not_installed"):
        lookup("needs_more:thing", {}, "thing")


def test_names_from_files_import_nothing(here: Path) -> None:
    (here / "never_run.py").write_text("raise SystemExit('this ran')\n")
    with pytest.raises(UnknownName, match="never_run:thing"):
        lookup("never_run:thing", TABLE, "thing", plugins=False)
