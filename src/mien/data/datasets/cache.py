"""Cache of parsed arrays, memory-mapped and keyed by the digest of their source files."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...errors import ConfigError
from ...io.files import cache_folder, locked, sha256

VERSION = "2"  # changes whenever a parser returns other arrays for the same file
LIST = "arrays.json"  # index of the arrays of an entry: programs that clean cache folders delete single files
PART = ".part-"  # prefix of an entry while it is written; the process number follows


def folder() -> Path | None:
    """Return the folder of the cache; see `mien.io.files.cache_folder`."""
    return cache_folder("datasets")


def file_digest(*paths: Path) -> str:
    """Return the sha256 over the content of these files."""
    return hashlib.sha256(b"".join(bytes.fromhex(sha256(path)) for path in paths)).hexdigest()


def mapped(kind: str, digest: str, parse: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the arrays of `parse()`, mapped read-only from the cache if these files were parsed before.

    The key is the name of the parser and the digest of everything that it reads, so that a changed file is parsed again. If the
    cache cannot be written, the arrays are held in memory. A corrupt entry is written again, and incomplete entries of
    killed processes are removed when the next one is written.
    """
    base = folder()
    if base is None:
        return dict(parse())
    place = base / f"{kind}-v{VERSION}-{digest[:32]}"
    if (found := _read(place)) is not None:
        return found
    arrays = dict(parse())
    if (found := _read(place)) is not None:  # Another process was first.
        return found
    try:
        shutil.rmtree(place, ignore_errors=True)
        _write(place, arrays)
    except (OSError, ConfigError):
        return arrays
    return _read(place) or arrays


def _read(place: Path) -> dict[str, np.ndarray] | None:
    found = {}
    try:
        for name in json.loads((place / LIST).read_text(encoding="utf-8")):
            path = place / f"{name}.npy"
            large = path.stat().st_size > 1 << 20  # Small arrays are loaded; an empty file cannot be mapped.
            found[name] = np.load(path, mmap_mode="r" if large else None, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # Missing, truncated or corrupt.
        return None
    return found


def _write(place: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write beside the entry and rename, so that no process sees an incomplete one."""
    base = place.parent
    base.mkdir(parents=True, exist_ok=True)
    _sweep(base)
    writer = f"{os.getpid()}-{secrets.token_hex(4)}"
    part = base / (PART + writer)
    with locked(base / writer):  # The lock of a file that does not exist marks a living process.
        try:
            part.mkdir()
            for name, array in arrays.items():
                np.save(part / f"{name}.npy", array, allow_pickle=False)
            (part / LIST).write_text(json.dumps(list(arrays)), encoding="utf-8")
            try:
                part.rename(place)
            except OSError:
                if not place.is_dir():  # Another reason than that another process was first.
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _sweep(base: Path) -> None:
    """Remove incomplete entries of killed processes; living ones hold a lock, on file systems that have locks."""
    for part in base.glob(f"{PART}*"):
        writer = part.name.removeprefix(PART)
        if writer.startswith(f"{os.getpid()}-"):  # Of another thread: locks exclude only other processes.
            continue
        with suppress(ConfigError), locked(base / writer):
            shutil.rmtree(part, ignore_errors=True)
