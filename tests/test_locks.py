"""One writer at a time, with real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mien.errors import ConfigError
from mien.io.files import locked

pytest.importorskip("fcntl", reason="files are locked where the system is one of POSIX")

HOLD = """
import sys
from mien.io.files import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def another(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that writes a file or folder until it is told to end."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("name", ["rows.csv", "folder"])
def test_a_second_process_waits_with_a_message_until_the_first_ends(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    with another(path) as process:
        with pytest.raises(ConfigError), locked(path):
            pass
        process.kill()  # what a killed process leaves locks nothing
        process.wait()
        with locked(path):
            pass
    assert not list(tmp_path.rglob("*.lock"))


def test_who_waits_comes_in_when_the_first_ends(tmp_path: Path) -> None:
    with another(tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write("\n")  # it ends now or a moment later, while we wait
        process.stdin.flush()
        with locked(tmp_path, wait=True):
            assert list(tmp_path.glob(".lock"))
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError),
        locked(tmp_path / "nowhere" / "rows.csv"),
    ):
        pass
