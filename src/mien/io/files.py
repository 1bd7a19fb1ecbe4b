"""Files that are written whole or not at all, and what is said where they cannot be."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from ..errors import ConfigError, MienError

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


try:
    import fcntl
except ModuleNotFoundError:  # pragma: no cover - Windows, where what another process writes cannot be opened anyway
    fcntl = None


LOCK = ".lock"
"""Name of the file that is locked in a folder."""


@contextmanager
def written_by_us(path: str | os.PathLike[str], *, wait: bool = False) -> Iterator[None]:
    """Keep other processes from writing a file or folder while the block runs.

    A hidden file is locked: `.lock` in a folder, `.NAME.lock` beside a file. It is removed afterwards, and what a killed
    process leaves of it locks nothing. Threads of one process do not keep each other out, and nobody does where the system
    has no locks (some network disks).

    Args:
        path: the folder, which exists, or the file, whose folder exists.
        wait: wait for the other process instead of refusing.

    Raises:
        ConfigError: another process writes it, or nobody may.
    """
    path = Path(path)
    lock = path / LOCK if path.is_dir() else path.with_name(f".{path.name}.lock")
    descriptor = _locked(lock, path, wait)
    try:
        yield
    finally:
        if fcntl is None:  # pragma: no cover - Windows removes no file that is open
            os.close(descriptor)
            with suppress(OSError):
                lock.unlink()
        else:
            lock.unlink(missing_ok=True)  # before it is given free, so that nobody can hold a file without a name
            os.close(descriptor)


def hold(folder: Path) -> AbstractContextManager[None]:
    """Make the folder of a run or an evaluation, and return what keeps it for this process.

    Raises:
        ConfigError: the folder cannot be made or written, or another process writes it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the folder {folder} cannot be made: {error.strerror}; give another with --out") from error
    return written_by_us(folder)


def _locked(lock: Path, path: Path, wait: bool) -> int:
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}; choose another place") from error
        try:
            if fcntl is not None:
                # Not flock: child processes would inherit it, and outlive a killed parent.
                fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except (BlockingIOError, PermissionError) as error:
            os.close(descriptor)
            raise ConfigError(f"{path} is being written by another process; let it end, or choose another place") from error
        except OSError:  # pragma: no cover - a disk without locks
            return descriptor
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(lock)):  # noqa: PTH116
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # who held it before has removed it meanwhile


class _Text(Protocol):
    def write(self, text: str, /) -> Any: ...


class LineFeeds:
    r"""A text file for the csv module's writers: lines end with a line feed alone, and cells that hold any break are quoted.

    The module quotes the characters of its own line ending only (until Python 3.13), and then cannot read a bare carriage
    return, which may stand in the name of a file.

    Example:
        >>> import csv, io
        >>> text = io.StringIO()
        >>> csv.writer(LineFeeds(text)).writerows([["name", "faces"], ["a\rb.jpg", 1]])
        >>> text.getvalue()
        'name,faces\n"a\rb.jpg",1\n'
    """

    def __init__(self, file: _Text) -> None:
        self.file = file

    def write(self, line: str) -> None:
        """Write one line, as the csv module gives it."""
        self.file.write(line.removesuffix("\r\n") + "\n")
