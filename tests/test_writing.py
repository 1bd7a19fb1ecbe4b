"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mien.errors import ConfigError, ExportError
from mien.io.files import atomic_write


def test_a_file_gets_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    with atomic_write(path) as part:
        part.write_text("half")
        assert not path.exists() and part.name.startswith(".") and part.parent == path.parent
    assert path.read_text() == "half" and os.listdir(path.parent) == ["table.csv"]  # noqa: PTH208


def test_a_block_that_ends_badly_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as part:
        part.write_text("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["table.csv"]  # noqa: PTH208


def test_two_writers_of_one_file_never_mix(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a") as first:
        first.write_text("first")
        with atomic_write(tmp_path / "a") as second:
            second.write_text("second")
        assert (tmp_path / "a").read_text() == "second"
    assert (tmp_path / "a").read_text() == "first"


@pytest.mark.parametrize("name", ["", "folder", "file/below", "x" * 300])
def test_what_cannot_be_written_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    path = tmp_path / name
    with pytest.raises(ExportError) as caught, atomic_write(path, "take another", ExportError) as part:
        part.write_text("content")
    assert str(caught.value).startswith(f"{path} cannot be written: ") and str(caught.value).endswith("; take another")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]  # noqa: PTH208


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_device_stays_one() -> None:
    with atomic_write("/dev/null") as part:
        part.write_text("content")
    with (
        pytest.raises(ConfigError),
        atomic_write("/dev/full") as part,
    ):
        part.write_text("content")
    assert not Path("/dev/null").is_file() and not Path("/dev/full").is_file()
