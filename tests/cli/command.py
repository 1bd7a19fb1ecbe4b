"""Running the command: in this process, with pipes as a script does, or on a terminal as a person does."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from disks import full_disk
from mien.cli import main

Done = subprocess.CompletedProcess[str]

SETTINGS = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONIOENCODING", "LC_ALL", "LANG", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
"""Variables that change the output; tests start without them."""


def environment(**extra: str) -> dict[str, str]:
    """The variables of a test process: this one's packages, none of `SETTINGS`."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    plain = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return {**plain, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **extra}


def line(*arguments: object) -> list[str]:
    """The command line that runs `mien` with these arguments."""
    return [sys.executable, "-m", "mien", *map(str, arguments)]


def mien(*arguments: object, env: Mapping[str, str] | None = None, **options: Any) -> Done:
    """Run with pipes."""
    return subprocess.run(line(*arguments), capture_output=True, encoding="utf-8", env=environment(**(env or {})), **options)


def here(*arguments: object, file_size: int | None = None) -> Done:
    """Run the command in this process, on a disk that is full when a file has `file_size` bytes."""
    words = [str(word) for word in arguments]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    disk = contextlib.nullcontext() if file_size is None else full_disk(file_size)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), disk:
        status = main(words)
    texts = []
    for stream in (out, err):
        stream.seek(0)  # flushes
        texts.append(stream.read())
    return Done(words, status, *texts)


def on_terminal(*arguments: object, env: Mapping[str, str] | None = None, columns: int = 120) -> Done:
    """Run with stdout on a terminal; stderr apart."""
    pty = pytest.importorskip("pty", reason="terminals are tested where Python can make one")
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    settings = environment(TERM="xterm-256color", **(env or {}))
    process = subprocess.Popen(line(*arguments), stdout=theirs, stderr=subprocess.PIPE, env=settings)
    os.close(theirs)
    output = b""
    try:
        while chunk := os.read(ours, 65536):
            output += chunk
    except OSError:  # how Linux says that the other side has closed
        pass
    os.close(ours)
    assert process.stderr is not None
    with process.stderr:
        errors = process.stderr.read().decode()
    return Done(process.args, process.wait(), output.decode().replace("\r\n", "\n"), errors)
