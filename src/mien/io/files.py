"""Atomic writes, inter-process locks and line endings of csv files."""

import csv
import hashlib
import importlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, MienError, reason

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

try:
    import fcntl
except ModuleNotFoundError:  # pragma: no cover - Windows
    fcntl = None
msvcrt: Any = importlib.import_module("msvcrt") if os.name == "nt" else None

ADVICE = "free some space, or choose another path"  # default remedy in messages about a file that cannot be written
LOCK = ".lock"  # name of the lock file in a folder


@contextmanager
def atomic_write(path: str | os.PathLike[str], advice: str = ADVICE, error: type[MienError] = ConfigError) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block succeeds and is removed when it raises.

    The temporary file `.NAME.….part` is in the same folder and unique to this writer, so `path` holds either the old or the new
    content at any time. Parent folders are created. Pipes and devices are written to directly. `advice` is for the message.
    Raises ConfigError: the disk is full or the file cannot be written (or the class given as `error`).
    """
    path = Path(path)
    part = path.parent / f".{path.name}.{os.urandom(4).hex()}.part"
    with write_errors(path, advice, error):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if _is_device(path):
                yield path
            else:
                yield part
                part.replace(path)
        finally:
            with suppress(OSError):
                part.unlink()


def write_file(
    path: str | os.PathLike[str],
    content: str | bytes,
    advice: str = ADVICE,
    error: type[MienError] = ConfigError,
    errors: str = "strict",
) -> None:
    """Write a whole file as `atomic_write` does; text in UTF-8, with these `errors` of the codec."""
    with atomic_write(path, advice, error) as part:
        part.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", errors))


def check_output(
    path: str | os.PathLike[str], flag: str, suffixes: Sequence[str], ours: bytes, *, inputs: Iterable[str], overwrite: bool
) -> None:
    """Refuse to replace a file that mien did not write; pipes and devices are always accepted.

    `flag` is the option of the command line, for messages; `suffixes` are the extensions that the path may have: `--csv *.jpg`
    names a photo of the user's; `ours` are bytes in the first or last 8 KB of every file of this kind that mien writes. The
    `inputs` are files that are read, which are never replaced; other files are with `overwrite`. Raises ConfigError: wrong
    extension, an input, or an existing file that mien did not write.
    """
    path = Path(path)
    if _is_device(path):
        return
    if path.suffix.lower() not in suffixes:
        message = f"{flag} {path}: unexpected extension (expected {', '.join(suffixes)}); the output's name follows {flag}"
        raise ConfigError(f"{message} directly", path=path, value=path.suffix, expected=suffixes)
    if not path.exists():
        return
    for one in inputs:
        with suppress(OSError, ValueError):
            if path.samefile(one):
                raise ConfigError(f"{flag} {path} is one of the inputs; give another name", path=path)
    if not overwrite:
        with path.open("rb") as file:
            content = file.read(8192)
            file.seek(max(path.stat().st_size - 8192, 0))
            content += file.read()
        if content and ours not in content:
            message = f"{flag} {path} exists and was not written by mien; give another name, or --overwrite to replace it"
            raise ConfigError(message, path=path)


def cache_folder(name: str) -> Path | None:
    """Return the folder `$MIEN_CACHE/NAME`, else `mien/NAME` in the user's cache folder.

    None for a user without a home folder, as in containers that run under a bare user number.
    """
    if cache := os.environ.get("MIEN_CACHE"):
        return Path(cache) / name
    with suppress(RuntimeError):
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien" / name
    return None


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the hexadecimal sha256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def write_errors(path: str | os.PathLike[str], advice: str = ADVICE, error: type[MienError] = ConfigError) -> Iterator[None]:
    """Convert an OSError of the block to `error` with the path: the system's error for a full disk has no file name."""
    try:
        yield
    except OSError as failure:
        raise error(f"{os.fspath(path)} cannot be written: {reason(failure)}; {advice}", path=path) from failure


@contextmanager
def locked(path: str | os.PathLike[str], *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive inter-process lock on an existing folder, or on a file in one; `wait` for the other process or raise.

    The lock is on a hidden file, `.lock` in a folder or `.NAME.lock` beside a file, which is removed afterwards. It is released
    when the process is killed. Threads of one process do not exclude each other, and file systems without locks (some network
    disks) have no effect. Raises ConfigError: another process holds the lock, or the lock file cannot be created.
    """
    path = Path(path)
    lock = path / LOCK if path.is_dir() else path.with_name(f".{path.name}.lock")
    descriptor = _acquire(lock, path, wait)
    try:
        yield
    finally:
        if fcntl is None:  # pragma: no cover - Windows cannot remove an open file.
            os.close(descriptor)
            with suppress(OSError):
                lock.unlink()
        else:
            lock.unlink(missing_ok=True)  # Before the release, so that no process locks a file that no longer has a name.
            os.close(descriptor)


def locked_folder(folder: Path) -> AbstractContextManager[None]:
    """Create a folder and return its lock.

    Raises ConfigError: the folder cannot be created or written, or another process holds the lock.
    """
    with write_errors(folder, "give another folder with --out"):
        folder.mkdir(parents=True, exist_ok=True)
    return locked(folder)


def _is_device(path: Path) -> bool:
    """Return whether a path is a pipe or device, which a file must not replace, or a folder, which cannot be opened."""
    return path.exists() and not path.is_file()


def _acquire(lock: Path, path: Path, wait: bool) -> int:
    while True:
        with write_errors(path, "choose another path"):
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                # Not flock: child processes would inherit that lock and keep it after their parent is killed.
                fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            elif msvcrt is not None:  # pragma: no cover - Windows
                msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except (BlockingIOError, PermissionError) as error:
            os.close(descriptor)
            message = f"{path} is being written by another process; wait for it to finish, or choose another path"
            raise ConfigError(message, path=path) from error
        except OSError:  # pragma: no cover - a file system without locks
            return descriptor
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(lock)):  # noqa: PTH116
                return descriptor
        os.close(descriptor)  # The previous holder removed the file between our open and our lock.


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as the text of a csv file; see `LineFeeds`."""
    text = io.StringIO()
    csv.writer(LineFeeds(text)).writerows(rows)
    return text.getvalue()


class LineFeeds:
    r"""Text file for `csv.writer`: rows end with `\n`, and cells that contain any line break are quoted.

    With `lineterminator="\n"` the csv module (before Python 3.13) does not quote a bare carriage return, which file names may
    contain, and cannot read it back.

    Example:
        >>> import csv, io
        >>> text = io.StringIO()
        >>> csv.writer(LineFeeds(text)).writerows([["name", "faces"], ["a\rb.jpg", 1]])
        >>> text.getvalue()
        'name,faces\n"a\rb.jpg",1\n'
    """

    def __init__(self, file: "SupportsWrite[str]") -> None:
        self.file = file

    def write(self, line: str) -> None:
        """Write one row as formatted by the csv module."""
        self.file.write(line.removesuffix("\r\n") + "\n")
