"""The inputs kept for each target: a zip of the smallest ones that together reach every line that any reaches."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from mien.errors import MienError

TARGETS = ("images", "videos", "tables", "cards", "checkpoints")
CORPUS = Path(__file__).with_name("corpus")
TRACED = ("/mien/", "/PIL/", "/tomllib/")
"""Parts of the paths of the files whose lines count."""

LONGEST_KEPT = 3_000
"""Bytes of an input that is worth keeping."""


def check(module: ModuleType, data: bytes) -> None:
    """Run a target; only errors of the package may come out, each of one line."""
    try:
        module.target(data)
    except MienError as error:
        message = str(error)
        if "\n" in message or len(message) > 5_000:
            raise AssertionError(f"an error of {len(message)} characters, or of several lines: {message[:300]!r}") from error


def inputs(module: ModuleType) -> Iterator[bytes]:
    """Yield the inputs kept for a target, then its seeds."""
    path = CORPUS / f"{module.__name__.rpartition('.')[2]}.zip"
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in sorted(archive.namelist()))
    yield from module.seeds()


def smallest(module: ModuleType, found: Iterable[bytes]) -> list[bytes]:
    """Return the inputs, short ones first, each of which takes a step from one line to another that none before it took."""
    seen: set[tuple[Any, ...]] = set()
    kept = []
    for data in sorted(found, key=lambda data: (len(data), data)):
        if len(data) > LONGEST_KEPT:
            break
        steps = _steps(module, data)
        if not steps <= seen:
            seen |= steps
            kept.append(data)
    return kept


def pack(path: Path, kept: Iterable[bytes]) -> None:
    """Write inputs into a zip, named by their digests, without dates."""
    named = {hashlib.sha1(data, usedforsecurity=False).hexdigest()[:16]: data for data in kept}
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(named.items()):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)


def _steps(module: ModuleType, data: bytes) -> set[tuple[Any, ...]]:
    steps: set[tuple[Any, ...]] = set()

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        name = frame.f_code.co_filename
        if not any(part in name for part in TRACED):
            return None
        last = frame.f_lineno

        def inside(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal last
            if event == "line":
                steps.add((name, last, frame.f_lineno))
                last = frame.f_lineno
            return inside

        return inside

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        check(module, data)
    finally:
        sys.settrace(before)
    return steps
