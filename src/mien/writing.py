"""Files that are written whole or not at all, and what is said where they cannot be."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import ConfigError, MienError

ADVICE = "free some space, or choose another place"
"""What helps against a full disk and a closed folder."""


@contextmanager
def whole(path: str | os.PathLike[str], advice: str = ADVICE, error: type[MienError] = ConfigError) -> Iterator[Path]:
    """Give the place where a file grows; it gets its name when the block ends well, else nothing of it stays.

    The place is beside the file, under a hidden name that no other writer has: `.NAME.….part`. A file that bears the name
    already stays as it was until then. Folders are made; a pipe or a device is written to as it is.

    Args:
        path: the file.
        advice: what to do where it cannot be written.
        error: what is raised there.

    Raises:
        ConfigError: the disk is full, or the file may not be written; or what `error` says.
    """
    path = Path(path)
    part = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    with told_where(path, advice, error):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():  # a device must not become a file, and a folder refuses by itself
                yield path
            else:
                yield part
                part.replace(path)
        finally:
            with suppress(OSError):  # where no folder could be made there is nothing to tidy
                part.unlink()


@contextmanager
def told_where(path: str | os.PathLike[str], advice: str = ADVICE, error: type[MienError] = ConfigError) -> Iterator[None]:
    """Name the file where the system refuses to write it: of a full disk it says no name. See `whole`."""
    try:
        yield
    except OSError as refusal:
        raise error(f"{os.fspath(path)} cannot be written: {refusal.strerror or refusal}; {advice}") from refusal
