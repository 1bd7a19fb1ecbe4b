"""Many images from a list, a folder or a pattern, as `Frame`s: one at a time, in constant memory, and none stops the others.

Files are named when `images` is called, so that their number is known, and read when their turn comes. A file that cannot be
read becomes a `Frame` with an `error` in its place. Videos and cameras give `Frame`s too, with a `time`, where a `Sampling`
says which of their frames are wanted.
"""

from __future__ import annotations

import dataclasses
import functools
import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Unpack

import numpy as np

from ..errors import SourceError
from . import video
from .decoding import FORMATS, check_size
from .images import MAX_BYTES, MAX_PIXELS, TIMEOUT, DecodedImage, ReadOptions, Source, name_of, printable, read_image
from .urls import fetch, is_url
from .video import Sampling, Video, is_video

EXTENSIONS = frozenset(extension for known in FORMATS.values() for extension in known) | {".heic", ".heif"}
"""What a folder is searched for. HEIC cannot be read yet, but a folder of phone photos must say so and not look empty."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of many, or the reason why it could not be read."""

    index: int
    """Place in the source, from 0; for a frame of a video its number there, from the wanted start on."""
    source: str
    """Name of the image, as in `Image.source`, or of the video."""
    image: DecodedImage | None = None
    """The image; None if it could not be read."""
    error: SourceError | None = None
    """Why it could not be read; None if it was."""
    time: float | None = None
    """Seconds from the start of a video; None for an image."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A video or camera still to be read: iterate for its `Frame`s."""

    source: Any
    """Path, bytes, an open binary file, or the number of a camera."""
    sampling: Sampling
    """Which of its frames are wanted."""
    options: ReadOptions = field(default_factory=ReadOptions)
    """Limits, as for `read_image`; `max_bytes` and `timeout` hold for a URL only."""
    called: str | None = None
    """What the source of its frames is called, where `source` itself has no name."""

    @property
    def name(self) -> str:
        """What the source of its frames is called."""
        if self.called is not None:
            return self.called
        return f"camera {self.source}" if isinstance(self.source, int) else name_of(self.source).replace("<bytes>", "<video>")

    def __len__(self) -> int:
        """Estimate the number of wanted frames; 0 if it is not known, as of a video that would have to be fetched for it."""
        if isinstance(self.source, str) and is_url(self.source):
            return 0
        try:
            with self._open() as video:
                return self.sampling.frames(video.info.duration, video.info.rate) or 0
        except SourceError:
            return 1

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; one with an error at the end tells that the video cannot be opened or ends before its time."""
        index, time = 0, None
        try:
            limit = self.options.get("max_pixels", MAX_PIXELS)
            with self._open() as video:
                check_size(*video.coded, self.name, limit)
                for shot in video.frames(self.sampling):
                    check_size(*shot.size, self.name, limit)
                    index, time = shot.index, shot.time
                    notes = ("the frame is damaged in the file",) if shot.damaged else ()
                    yield Frame(index, self.name, DecodedImage(shot.pixels, self.name, notes), time=time)
        except SourceError as error:
            yield Frame(index + 1 if time is not None else 0, self.name, error=error, time=time)

    def _open(self) -> Video:
        if not isinstance(self.source, str) or not is_url(self.source):
            return Video(self.source, self.name)
        found = self.options
        data = fetch(
            self.source,
            max_bytes=found.get("max_bytes", MAX_BYTES),
            timeout=found.get("timeout", TIMEOUT),
            allow_private=found.get("allow_private", False),
        )
        return Video(data, self.name)


Item = Source | DecodedImage | Frame | Clip
"""What `Images` goes through: something to be read, or the frame that stands for it already."""


class Images:
    """Images still to be read: iterate for `Frame`s, as often as wanted; `len` says how many, estimated for videos.

    A generator given as the source can be iterated once and has no length.
    """

    def __init__(self, items: Iterable[Item], options: ReadOptions) -> None:
        self._items, self._options = items, options

    @property
    def items(self) -> Iterable[Item]:
        """What is gone through, one for each image or video."""
        return self._items

    def __len__(self) -> int:
        if not isinstance(self._items, Sequence):
            raise TypeError("the number of images that a generator gives is not known")
        return sum(len(item) if isinstance(item, Clip) else 1 for item in self._items)

    def __iter__(self) -> Iterator[Frame]:
        for index, item in enumerate(self._items):
            match item:
                case Clip():
                    yield from item
                case Frame():
                    yield item if item.time is not None else dataclasses.replace(item, index=index)
                case _:
                    yield self._read(index, item)

    def _read(self, index: int, source: Source | DecodedImage) -> Frame:
        try:
            image = read_image(source, **self._options)
        except SourceError as error:
            return Frame(index, name_of(source), error=error)
        return Frame(index, image.source, image)


def iter_images(
    source: Any, *, recursive: bool = True, sampling: Sampling | None = None, **options: Unpack[ReadOptions]
) -> Images:
    """Return the images that a source stands for, unread.

    Args:
        source: whatever `read_image` takes; a folder; a pattern such as `"photos/*.jpg"`, in which `**` stands for folders
            of any depth; or an iterable of all these. A folder gives its files with the extension of an image, files before
            sub-folders, each in natural order (`2.jpg` before `10.jpg`), without hidden ones. Links to folders are followed, no
            folder is read twice.
        recursive: whether folders are searched with their sub-folders.
        sampling: which frames of videos are wanted; then videos and cameras (by number) are sources too. None: images only.
        options: as for `read_image`.

    Raises:
        SourceError: nothing at all can be read: a folder without images, a pattern that fits no file. What is only part of
            a list or a folder becomes a `Frame` with that error instead.

    Example:
        >>> from mien.io.images import sample
        >>> for frame in images([sample(), "missing.jpg"]):
        ...     print(frame.index, frame.image is not None)
        0 True
        1 False
    """
    expand = functools.partial(_expand, recursive=recursive, sampling=sampling, options=options)
    if isinstance(source, Iterator):
        return Images((item for one in source for item in expand(one)), options)
    single = isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray)) or not isinstance(
        source, Iterable
    )
    items = [item for one in ([source] if single else source) for item in expand(one)]
    if not items:
        raise SourceError("an empty list holds no images; name one or more")
    errors = [item.error for item in items if isinstance(item, Frame) and item.error is not None]
    if len(errors) == len(items):
        raise errors[0]
    return Images(items, options)


def _expand(source: Any, recursive: bool, sampling: Sampling | None, options: ReadOptions) -> Iterator[Item]:
    """Yield what one source stands for: itself, the files of a folder, or those that fit a pattern."""
    extensions = EXTENSIONS if sampling is None else EXTENSIONS | video.EXTENSIONS
    for item in _files(source, recursive, extensions):
        if sampling is not None and _is_clip(item):
            yield Clip(item, sampling, options)
        else:
            yield item


def _is_clip(item: Item) -> bool:
    match item:
        case int():
            return True
        case str() if is_url(item):
            return PurePosixPath(re.split("[?#]", item)[0]).suffix.lower() in video.EXTENSIONS
        case str() | os.PathLike() | bytes() | bytearray() | memoryview():
            return is_video(item)
    return False


def _files(source: Any, recursive: bool, extensions: Set[str]) -> Iterator[Item]:
    if not isinstance(source, (str, os.PathLike)) or (isinstance(source, str) and is_url(source)):
        yield source
        return
    path = os.fsdecode(source)
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises below a folder that may not be entered
        yield from _folder(path, recursive, extensions)
    elif glob.has_magic(path) and not os.path.lexists(path):
        yield from _pattern(path, recursive, extensions)
    else:
        yield path


def _pattern(pattern: str, recursive: bool, extensions: Set[str]) -> Iterator[Item]:
    deep = recursive and "**" in pattern
    found = glob.glob(pattern, recursive=deep)  # noqa: PTH207 - Path.glob takes no absolute patterns
    if deep:  # it follows links in circles
        found = {os.path.realpath(path): path for path in sorted(found, key=len, reverse=True)}.values()
    if not found:
        yield _failure(pattern, f"no file fits the pattern {printable(pattern)}")
    seen: set[str] = set()
    for path in sorted(found, key=natural):
        if not os.path.isdir(path):  # noqa: PTH112 - as in `_files`
            inside: Iterable[Item] = [path]
        else:
            inside = _folder(path, recursive, extensions) if recursive else ()
        for item in inside:
            place = os.path.realpath(item) if deep and isinstance(item, str) else ""
            if place not in seen:
                yield item
            if place:  # what is in a folder that fits may fit by itself
                seen.add(place)


def _folder(folder: str, recursive: bool, extensions: Set[str]) -> Iterator[Item]:
    """Yield the images of a folder, and an error for each folder that may not be read."""
    other: Counter[str] = Counter()  # what was found beside images
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
                entries = sorted(scan, key=lambda entry: natural(entry.name))
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
            elif extension in extensions:
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
        yield _failure(folder, f"the folder {printable(folder)} holds no images; found: {found}")


def _failure(path: str, message: str) -> Frame:
    return Frame(0, printable(path), error=SourceError(message))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def natural(name: str) -> tuple[list[int | str], str]:
    """Order digits by value, letters without case, and equal ones by their exact spelling."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name
