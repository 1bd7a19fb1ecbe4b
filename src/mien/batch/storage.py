"""Local files and object storage behind one interface: a location is a path, or a URI opened by fsspec."""

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from ..errors import ConfigError, SourceError, needs
from ..io.files import atomic_write, locked_folder
from ..io.images import no_file, printable
from ..io.urls import is_url, without_secrets

PART = ".part"  # suffix of files that are being written
AGAIN = "free some space and resume with --resume"


def is_remote(place: str) -> bool:
    """Return whether a location is an fsspec URI: any scheme except http and https, which `mien.io.urls` handles."""
    return is_url(place) and urlsplit(place).scheme.lower() not in ("http", "https")


def filesystem(uri: str) -> tuple[Any, str]:
    """Return the file system of a URI and the path in it; SourceError for a scheme that is unknown or needs another package."""
    with needs("scale", "fsspec"):
        import fsspec
    try:
        return fsspec.core.url_to_fs(uri)
    except ImportError as error:
        raise SourceError(f"{shown(uri)} needs another package: {error}", path=shown(uri)) from error
    except ValueError as error:
        message = f"{shown(uri)} is not a valid fsspec URI: {error}; expected for example s3://bucket/folder"
        raise SourceError(message, path=shown(uri)) from error


def shown(place: str) -> str:
    """Return the display name of a path, URL or URI: printable, without credentials."""
    return printable(without_secrets(place) if is_url(place) else place)


@contextlib.contextmanager
def opened(place: str) -> Iterator[IO[bytes]]:
    """Open a location for reading; SourceError if that fails, or for a pipe, socket or device, which could block forever."""
    name = shown(place)
    try:
        if is_remote(place):
            system, path = filesystem(place)
            if getattr(system, "local_file", False) and is_special(path):
                raise no_file(name)
            source = system.open(path, "rb")
        else:
            try:
                source = Path(place).open("rb")  # noqa: SIM115 - closed below
            except ValueError as error:  # a null character
                raise SourceError(f"{name} cannot be opened: {error}; check the path", path=name) from error
        with source as file:
            yield file
    except SourceError:
        raise
    except FileNotFoundError:
        raise SourceError(f"{name} does not exist; check the path", path=name) from None
    except OSError as error:
        message = f"{name} cannot be read: {error.strerror or error}; check its permissions and the disk"
        raise SourceError(message, path=name) from error


@contextlib.contextmanager
def scratch() -> Iterator[IO[bytes]]:
    """Yield an anonymous temporary file for data that may not fit into memory; ConfigError if its disk is full."""
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):  # The error concerns another file that is being read.
            raise
        where = tempfile.gettempdir()
        raise ConfigError(f"a temporary file in {where} cannot be written: {error.strerror}; {AGAIN}", path=where) from error


def is_special(path: str) -> bool:
    """Return whether a path on this machine is a pipe, socket or device."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


class Folder:
    """Output folder of a run, local or in object storage (see `filesystem`), which need not exist.

    Files are written atomically: by renaming on a disk; uploads to object storage are atomic by themselves.
    """

    def __init__(self, where: str | os.PathLike[str]) -> None:
        self.where = os.fspath(where)
        self._system: Any = None
        if is_remote(self.where):
            self._system, self._root = filesystem(self.where.rstrip("/"))
        else:
            self.where = os.path.abspath(self.where)  # noqa: PTH100 - symbolic links are not resolved

    def __str__(self) -> str:
        return shown(self.where)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder and lock it against other processes of this machine; object storage has no locks."""
        if self._system is not None:
            yield
            return
        self.names()  # Raises ConfigError if the path is a file.
        with locked_folder(Path(self.where)):
            yield

    def names(self, below: str = "") -> list[str]:
        """Return the sorted names in this folder or a subfolder; empty if it does not exist, ConfigError if it is a file."""
        if self._system is None:
            path = Path(self.where, below)
            if path.exists() and not path.is_dir():
                raise ConfigError(f"{path} is a file; expected a folder", path=path, expected="a folder")
            return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
        self._system.invalidate_cache()
        try:
            return sorted(entry.rstrip("/").rpartition("/")[2] for entry in self._system.ls(self._at(below), detail=False))
        except FileNotFoundError:
            return []

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading."""
        return Path(self.where, name).open("rb") if self._system is None else self._system.open(self._at(name), "rb")

    def write(self, name: str, data: bytes | memoryview | IO[bytes]) -> None:
        """Write a file atomically; an open file may be larger than the memory. ConfigError if it cannot be written."""
        with contextlib.ExitStack() as stack:
            if self._system is None:
                target = stack.enter_context(stack.enter_context(atomic_write(Path(self.where, name), AGAIN)).open("wb"))
            else:
                self._system.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
                target = stack.enter_context(self._system.open(self._at(name), "wb"))
            if isinstance(data, bytes | memoryview):
                target.write(data)
            else:
                shutil.copyfileobj(data, target, 2**20)

    def sweep(self, below: str = "") -> None:
        """Remove incomplete files of killed processes."""
        if self._system is None and Path(self.where, below).is_dir():
            for path in Path(self.where, below).glob(f".*{PART}"):
                path.unlink(missing_ok=True)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root
