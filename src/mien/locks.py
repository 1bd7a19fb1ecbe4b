"""One writer at a time: a lock on a file, which ends with the process that holds it, however that ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from .errors import ConfigError

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
