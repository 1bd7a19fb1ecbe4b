"""Many pictures from a list, a folder or a pattern, as `Frame`s: one at a time, in constant memory, and none stops the others.

Files are named when `pictures` is called, so that their number is known, and read when their turn comes. A file that cannot be
read becomes a `Frame` with an `error` in its place. Videos and cameras will give `Frame`s too, with a `time`; they join in
`_expand`, which decides what one source stands for.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from .decoding import FORMATS
from .errors import SourceError
from .fetching import is_url
from .images import Picture, ReadOptions, Source, name_of, printable, read_image

EXTENSIONS = frozenset(extension for known in FORMATS.values() for extension in known) | {".heic", ".heif"}
"""What a folder is searched for. HEIC cannot be read yet, but a folder of phone photos must say so and not look empty."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of many, or the reason why it could not be read."""

    index: int
    """Place in the source, from 0."""
    source: str
    """Name of the picture, as in `Picture.source`."""
    picture: Picture | None = None
    """The picture; None if it could not be read."""
    error: SourceError | None = None
    """Why it could not be read; None if it was."""
    time: float | None = None
    """Seconds from the start of a video; None for a picture."""


Item = Source | Picture | Frame
"""What `Pictures` goes through: something to be read, or the frame that stands for it already."""


class Pictures:
    """Pictures still to be read: iterate for `Frame`s, as often as wanted; `len` says how many, for a progress bar.

    A generator given as the source can be iterated once and has no length.
    """

    def __init__(self, items: Iterable[Item], options: ReadOptions) -> None:
        self._items, self._options = items, options

    def __len__(self) -> int:
        if not isinstance(self._items, Sequence):
            raise TypeError("the number of pictures that a generator gives is not known")
        return len(self._items)

    def __iter__(self) -> Iterator[Frame]:
        for index, item in enumerate(self._items):
            yield dataclasses.replace(item, index=index) if isinstance(item, Frame) else self._read(index, item)

    def _read(self, index: int, source: Source | Picture) -> Frame:
        try:
            picture = read_image(source, **self._options)
        except SourceError as error:
            return Frame(index, name_of(source), error=error)
        return Frame(index, picture.source, picture)


def pictures(source: Any, *, recursive: bool = True, **options: Unpack[ReadOptions]) -> Pictures:
    """Return the pictures that a source stands for, unread.

    Args:
        source: whatever `read_image` takes; a folder; a pattern such as `"photos/*.jpg"`; or an iterable of all these. A folder
            gives its files with the extension of a picture, files before sub-folders, each in natural order (`2.jpg` before
            `10.jpg`), without hidden ones. Links to folders are followed, no folder is read twice.
        recursive: whether folders are searched with their sub-folders.
        options: as for `read_image`.

    Raises:
        SourceError: nothing at all can be read: a folder without pictures, a pattern that fits no file. What is only part of
            a list or a folder becomes a `Frame` with that error instead.

    Example:
        >>> from mien.images import sample
        >>> for frame in pictures([sample(), "missing.jpg"]):
        ...     print(frame.index, frame.picture is not None)
        0 True
        1 False
    """
    if isinstance(source, Iterator):
        return Pictures((item for one in source for item in _expand(one, recursive)), options)
    single = isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray)) or not isinstance(
        source, Iterable
    )
    items = [item for one in ([source] if single else source) for item in _expand(one, recursive)]
    if not items:
        raise SourceError("an empty list holds no pictures")
    errors = [item.error for item in items if isinstance(item, Frame) and item.error is not None]
    if len(errors) == len(items):
        raise errors[0]
    return Pictures(items, options)


def _expand(source: Any, recursive: bool) -> Iterator[Item]:
    """Yield what one source stands for: itself, the files of a folder, or those that fit a pattern."""
    if not isinstance(source, (str, os.PathLike)) or (isinstance(source, str) and is_url(source)):
        yield source
        return
    path = os.fsdecode(source)
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises below a folder that may not be entered
        yield from _folder(path, recursive)
    elif glob.has_magic(path) and not os.path.lexists(path):
        yield from _pattern(path, recursive)
    else:
        yield path


def _pattern(pattern: str, recursive: bool) -> Iterator[Item]:
    found = sorted(glob.glob(pattern), key=_natural)  # noqa: PTH207 - Path.glob takes no absolute patterns
    if not found:
        yield _failure(pattern, f"no file fits the pattern {printable(pattern)}")
    for path in found:
        if not Path(path).is_dir():
            yield path
        elif recursive:
            yield from _folder(path, recursive)


def _folder(folder: str, recursive: bool) -> Iterator[Item]:
    """Yield the pictures of a folder, and an error for each folder that may not be read."""
    other: Counter[str] = Counter()  # what was found beside pictures
    empty = True
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            info = Path(here).stat()
            if (info.st_dev, info.st_ino) in seen:  # reached through a link before
                continue
            seen.add((info.st_dev, info.st_ino))
            with os.scandir(here) as scan:
                entries = sorted(scan, key=lambda entry: _natural(entry.name))
        except OSError as error:
            empty = False
            yield _failure(here, f"the folder {printable(here)} cannot be read: {error.strerror}")
            continue
        folders = []
        for entry in entries:
            extension = Path(entry.name).suffix.lower()
            if entry.name.startswith("."):
                other["hidden"] += 1
            elif _is_folder(entry):
                folders.append(entry.path)
            elif extension in EXTENSIONS:
                empty = False
                yield entry.path
            else:
                other[extension or "without extension"] += 1
        if recursive:
            waiting += reversed(folders)
        elif folders:
            other["sub-folder"] += len(folders)
    if empty:
        found = ", ".join(f"{count} {kind}" for kind, count in other.most_common(5)) or "nothing"
        yield _failure(folder, f"the folder {printable(folder)} holds no pictures; found: {found}")


def _failure(path: str, message: str) -> Frame:
    return Frame(0, printable(path), error=SourceError(message))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def _natural(name: str) -> tuple[list[int | str], str]:
    """Order digits by value, letters without case, and equal ones by their exact spelling."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name
