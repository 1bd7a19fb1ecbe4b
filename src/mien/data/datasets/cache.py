"""Arrays parsed once and mapped from disk ever after, found again by the digest of the files they came from."""

from __future__ import annotations

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
from ...io.files import locked

VERSION = "2"
"""Changes whenever a parser returns other arrays for the same file."""


LIST = "arrays.json"
"""File that names the arrays of a place: programs that tidy cache folders take single files away."""


PART = ".part-"
"""Beginning of the name of a place that is being written; the number of the process follows."""


def folder() -> Path | None:
    """Return where parsed arrays are kept: `$MIEN_CACHE/datasets`, else `mien/datasets` in the user's cache folder.

    None for a user without a home, as in containers that are run under a bare number.
    """
    if cache := os.environ.get("MIEN_CACHE"):
        return Path(cache) / "datasets"
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien" / "datasets"
    except RuntimeError:
        return None


def file_digest(*paths: Path) -> str:
    """Return the sha256 over the content of these files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def mapped(kind: str, digest: str, parse: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the arrays of `parse()`, mapped read-only from the cache; parsed only if these files were never seen.

    Args:
        kind: name of the parser, which is part of the key.
        digest: digest of everything that `parse` reads, so that a changed file is parsed anew.
        parse: gives the arrays; raises what it likes, then nothing is kept.

    A cache that cannot be written is no error: the arrays are then held in memory. One that is damaged is written anew, and
    what killed processes left half written is removed when the next place is written.
    """
    base = folder()
    if base is None:
        return dict(parse())
    place = base / f"{kind}-v{VERSION}-{digest[:32]}"
    if (found := _read(place)) is not None:
        return found
    arrays = dict(parse())
    if (found := _read(place)) is not None:  # another process was first
        return found
    try:
        shutil.rmtree(place, ignore_errors=True)
        _write(place, arrays)
    except (OSError, ConfigError):
        return arrays
    return _read(place) or arrays


def _read(place: Path) -> dict[str, np.ndarray] | None:
    try:
        names = json.loads((place / LIST).read_text(encoding="utf-8"))
        return {name: _load(place / f"{name}.npy") for name in names}
    except (OSError, ValueError, EOFError):  # not there, cut short, other bytes
        return None


def _load(path: Path) -> np.ndarray:
    large = path.stat().st_size > 1 << 20  # labels and names are wanted in memory, and an empty file cannot be mapped
    return np.load(path, mmap_mode="r" if large else None, allow_pickle=False)


def _write(place: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write beside the place and move there at once, so that two processes never see half of it."""
    base = place.parent
    base.mkdir(parents=True, exist_ok=True)
    _sweep(base)
    writer = f"{os.getpid()}-{secrets.token_hex(4)}"
    part = base / (PART + writer)
    with locked(base / writer):  # there is no such file: its lock says that we live
        try:
            part.mkdir()
            for name, array in arrays.items():
                np.save(part / f"{name}.npy", array, allow_pickle=False)
            (part / LIST).write_text(json.dumps(list(arrays)), encoding="utf-8")
            try:
                part.rename(place)
            except OSError:
                if not place.is_dir():  # not merely that another process was first
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _sweep(base: Path) -> None:
    """Remove what killed processes left half written; who lives holds a lock.

    Where a disk has no locks, what a living process writes may go, too: it then holds its arrays in memory, as on a full disk.
    """
    for part in base.glob(f"{PART}*"):
        writer = part.name.removeprefix(PART)
        if writer.startswith(f"{os.getpid()}-"):  # by another thread: locks keep only processes apart
            continue
        with suppress(ConfigError), locked(base / writer):
            shutil.rmtree(part, ignore_errors=True)
