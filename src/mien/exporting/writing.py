"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..errors import ExportError


def check_place(path: Path) -> None:
    """Make sure that a file can be written, before anything that takes time is done for it.

    Raises:
        ExportError: its folder is missing or may not be written, or the name is a folder's.
    """
    if not path.parent.is_dir():
        raise ExportError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise ExportError(f"{path} is a folder; choose another name with --out")
    write_whole(path, None)


def write_whole(path: Path, content: bytes | None) -> None:
    """Write a file beside its place and move it there; without content, only try whether that can be done.

    Raises:
        ExportError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content or b"")
        if content is not None:
            part.replace(path)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or error}; choose another place with --out") from error
    finally:
        with suppress(OSError):
            part.unlink()
