"""The command in surroundings that are against it: a full disk, a clock that jumps, a network that must not be used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from command import Done, environment

HOSTILE = """
import itertools, os, sys, time

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        os.write(2, f"NETWORK: {event} {arguments}\\n".encode())
        os._exit(99)

sys.addaudithook(watch)
backwards = itertools.count(4_000_000_000, -3600)
time.time = lambda: float(next(backwards))
time.time_ns = lambda: next(backwards) * 10**9
from mien.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""Ends with 99 at any attempt to reach a network; the clock begins in 2096 and goes back an hour whenever it is read."""


def mien(*arguments: object, env: Mapping[str, str] | None = None, hostile: bool = False) -> Done:
    """Run the command in a process of its own.

    Args:
        arguments: what follows `mien`.
        env: further variables.
        hostile: in the surroundings of `HOSTILE`.
    """
    command = [sys.executable, *(["-c", HOSTILE] if hostile else ["-m", "mien"]), *map(str, arguments)]
    variables = environment(**(env or {}))
    return subprocess.run(command, capture_output=True, encoding="utf-8", errors="surrogateescape", env=variables, timeout=300)


def refused(done: Done, *facts: object) -> None:
    """Check that the command ended with status 1, and that its last line is the only error and holds these facts."""
    assert done.returncode == 1, (done.returncode, done.stderr)
    *before, last = done.stderr.splitlines()
    assert last.startswith("mien: ") and not any(text.startswith(("mien: ", "Traceback")) for text in before), done.stderr
    assert all(str(fact) in last for fact in facts), (facts, last)


def names_in(folder: Path) -> list[str]:
    """Return all files below a folder, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
