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


def mien(
    *arguments: object,
    env: Mapping[str, str] | None = None,
    file_size: int | None = None,
    hostile: bool = False,
    **options: object,
) -> Done:
    """Run the command.

    Args:
        arguments: what follows `mien`.
        env: further variables.
        file_size: bytes beyond which no file grows: to a program that is the same as a full disk.
        hostile: in the surroundings of `HOSTILE`.
    """
    program = ["-c", HOSTILE] if hostile else ["-m", "mien"]
    if file_size is not None:
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({file_size}, {file_size}))\n"
        program = ["-c", f"{limit}import sys\nfrom mien.cli import main\nsys.exit(main(sys.argv[1:]))"]
    command = [sys.executable, *program, *map(str, arguments)]
    variables = environment(**(env or {}))
    return subprocess.run(command, capture_output=True, encoding="utf-8", errors="surrogateescape", env=variables, timeout=300)


def refused(done: Done, *words: str) -> None:
    """Check that the command ended with status 1 and one line that holds these words."""
    assert done.returncode == 1, (done.returncode, done.stderr)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("mien: ") and "Traceback" not in done.stderr, done.stderr
    for word in words:
        assert word in last, last


def names_in(folder: Path) -> list[str]:
    """Return all files below a folder, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
