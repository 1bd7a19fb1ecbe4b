"""Output path of an export: checked before the export starts, written atomically."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..errors import ExportError
from ..io.files import atomic_write, write_errors

ADVICE = "free some space, or choose another place with --out"


def check_place(path: Path) -> None:
    """Check that a file can be written before the export starts.

    Raises:
        ExportError: the folder is missing or not writable, or the path is a folder.
    """
    if not path.parent.is_dir():
        raise ExportError(f"{path} cannot be written: folder {path.parent} not found; create it first", path=path)
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
