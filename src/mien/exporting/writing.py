"""Where an exported file goes: asked before it is made, and written whole or not at all."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..errors import ExportError
from ..io.files import atomic_write, write_errors

ADVICE = "free some space, or choose another place with --out"


def check_place(path: Path) -> None:
    """Make sure that a file can be written, before anything that takes time is done for it.

    Raises:
        ExportError: its folder is missing or may not be written, or the name is a folder's.
    """
    if not path.parent.is_dir():
        raise ExportError(f"{path} cannot be written: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise ExportError(f"{path} is a folder; choose another name with --out")
    with write_errors(path, ADVICE, ExportError), tempfile.TemporaryFile(dir=path.parent):
        pass


def write_whole(path: Path, content: bytes) -> None:
    """Write a file.

    Raises:
        ExportError: it cannot be written.
    """
    with atomic_write(path, ADVICE, ExportError) as part:
        part.write_bytes(content)
