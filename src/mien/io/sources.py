"""Many images from a list, folder or pattern as `Frame`s: lazily, in constant memory, with errors per file.

`iter_images` lists the files, so that their number is known, and reads each on iteration. A file that cannot be read gives a
`Frame` with an `error`. With a `Sampling`, videos, cameras, animations and numbered images give `Frame`s with a `time`.
"""

from __future__ import annotations

import dataclasses
import glob
import io
import os
import re
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar, Unpack

import numpy as np

from ..errors import SourceError
from . import video
from .decoding import EXTENSIONS, check_size, decode
from .image_sequences import Animation, NumberedImages, are_numbered, is_animation
from .images import MAX_BYTES, MAX_PIXELS, TIMEOUT, DecodedImage, ReadOptions, Source, name_of, printable, read_image
from .live import LiveStream, is_live
from .urls import fetch, is_url
from .video import Sampling, Video, is_video

T = TypeVar("T")

DEPTH = 2  # items that are made ahead

_END: Any = object()


def ahead(items: Iterator[T], name: str, depth: int = DEPTH) -> Generator[T]:
    """Yield the items of an iterator in order; up to `depth` of them are made ahead, on one thread that is named `name`.

    Nothing is made before the first item is requested. An exception is raised in place of the item that it stopped. When the
    generator ends or is closed, the thread has stopped and no longer uses the iterator.

    Example:
        >>> list(ahead(iter("abc"), "letters"))
        ['a', 'b', 'c']
    """
    with ThreadPoolExecutor(1, name) as pool:
        waiting: deque[Future[T]] = deque(pool.submit(next, items, _END) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(pool.submit(next, items, _END))
                yield item
        finally:
            for future in waiting:
                future.cancel()


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of many, or the error of reading it."""

    index: int
    """Number in the source, from 0; for a video the number of the frame, from `Sampling.start` on."""
    source: str
    """Name of the image, as in `DecodedImage.source`, or of the video."""
    image: DecodedImage | None = None
    """The image; None if it could not be read."""
    error: SourceError | None = None
    """Why it could not be read; None if it was."""
    time: float | None = None
    """Seconds from the start of a video; None for an image."""

    @classmethod
    def decoded(
        cls, index: int, source: str, data: bytes, max_pixels: int, *, truncated: bool = False, time: float | None = None
    ) -> Frame:
        """Decode the content of an image file; the frame has the error of an invalid one."""
        try:
            pixels, notes = decode(data, source, max_pixels, truncated=truncated)
        except SourceError as error:
            return cls(index, source, error=error, time=time)
        pixels.flags.writeable = False
        return cls(index, source, DecodedImage(pixels, source, notes), time=time)


@dataclass(frozen=True, slots=True)
class Clip:
    """A video, camera or image sequence, not opened yet: iterate for its `Frame`s."""

    source: Any
    """Path, URL, bytes, open binary file, number of a camera, or the paths of numbered images."""
    sampling: Sampling
    """Selection of its frames."""
    options: ReadOptions = field(default_factory=ReadOptions)
    """Limits as for `read_image`; `max_bytes` and `timeout` apply to downloads only."""
    called: str | None = None
    """Name of a source that has none."""
    live: bool = False
    """Whether a URL is a live stream instead of a file."""

    @property
    def name(self) -> str:
        """Name of the source of its frames."""
        if self.called is not None:
            return self.called
        return f"camera {self.source}" if isinstance(self.source, int) else name_of(self.source).replace("<bytes>", "<video>")

    def __len__(self) -> int:
        """Estimated number of selected frames; 0 if unknown, as for a video that would have to be downloaded."""
        if isinstance(self.source, str) and is_url(self.source):
            return 0
        try:
            with self.open() as video:
                return self.sampling.frames(video.info.duration, video.info.rate) or 0
        except SourceError:
            return 1

    @property
    def stored(self) -> bool:
        """Whether it is a file, whose frames can be read ahead; a camera or stream gives them when it has them."""
        return not (self.live or isinstance(self.source, int))

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; a last one has an error if the video cannot be opened or is truncated.

        Those of a file are decoded ahead, on a thread of its own.
        """
        index, time = 0, None
        try:
            with self.open() as video:
                frames = self._decoded(video)
                for frame in ahead(frames, "mien decoder") if self.stored else frames:
                    index, time = frame.index, frame.time
                    yield frame
        except SourceError as error:
            yield Frame(index + 1 if time is not None else 0, self.name, error=error, time=time)

    def _decoded(self, video: Video | Animation | NumberedImages | LiveStream) -> Iterator[Frame]:
        limit, notes = self.options.get("max_pixels", MAX_PIXELS), video.notes
        check_size(*video.coded, self.name, limit)
        for shot in video.frames(self.sampling):
            check_size(*shot.size, self.name, limit)
            image = DecodedImage(shot.pixels, self.name, (*notes, *shot.notes))
            yield Frame(shot.index, self.name, image, time=shot.time)
            notes = ()  # Those of the video are on its first frame.

    def open(self) -> Video | Animation | NumberedImages | LiveStream:
        """Open the source. Raises SourceError: it cannot be read; MissingExtra: PyAV is not installed."""
        if isinstance(self.source, tuple):
            return NumberedImages(self.source, self.sampling.fps or 25, self.name, self.options)
        private = self.options.get("allow_private", False)
        if self.live:
            return LiveStream(self.source, allow_private=private)
        source = self.source
        if isinstance(source, str) and is_url(source):
            limits = {"max_bytes": self.options.get("max_bytes", MAX_BYTES), "timeout": self.options.get("timeout", TIMEOUT)}
            source = fetch(source, allow_private=private, **limits)
        if isinstance(source, (str, os.PathLike, bytes)) and is_animation(source):
            return Animation(source, self.options)
        return Video(source, self.name, stream=self.sampling.stream)


Item = Source | DecodedImage | Frame | Clip
"""Elements of `Images`: an input to read, or a frame."""


class Images:
    """Images to read: iterate for `Frame`s, repeatedly if needed; `len` is their number, estimated for videos.

    `items` has one element for each image or video. A generator as the source can be iterated once and has no length.
    """

    def __init__(self, items: Iterable[Item], options: ReadOptions) -> None:
        self.items, self._options = items, options

    @property
    def stored(self) -> bool:
        """Whether all images are known and in files or in memory, so that one may be read before the last one is used."""
        return isinstance(self.items, Sequence) and all(item.stored for item in self.items if isinstance(item, Clip))

    def __len__(self) -> int:
        if not isinstance(self.items, Sequence):
            raise TypeError("the number of images of a generator is unknown")
        return sum(len(item) if isinstance(item, Clip) else 1 for item in self.items)

    def __iter__(self) -> Iterator[Frame]:
        for index, item in enumerate(self.items):
            match item:
                case Clip():
                    yield from item
                case Frame():
                    yield item if item.time is not None else dataclasses.replace(item, index=index)
                case _:
                    try:
                        image = read_image(item, **self._options)
                        frame = Frame(index, image.source, image)
                    except SourceError as error:
                        frame = Frame(index, name_of(item), error=error)
                    yield frame


def iter_images(
    source: Any,
    *,
    recursive: bool = True,
    sampling: Sampling | None = None,
    animations: bool = False,
    live: bool = False,
    **options: Unpack[ReadOptions],
) -> Images:
    """Return the images of a source, unread.

    Args:
        source: an input of `read_image`; a folder; a pattern such as `"photos/*.jpg"`, in which `**` matches folders
            of any depth; an iterable of all these; or what this function returned, unchanged. A folder gives its files with an
            image extension, files before sub-folders, each in natural order (`2.jpg` before `10.jpg`), without hidden ones.
            Links to folders are followed, no folder is read twice.
        recursive: whether folders are searched with their sub-folders.
        sampling: selection of the frames of videos; then videos and cameras (by number) are sources too, and a folder or
            pattern of numbered images is a video if `sampling.fps` is given. None: images only.
        animations: read every frame of animated images and every page of TIFF files as those of a video, instead of the first.
        live: whether RTSP and RTMP URLs are sources.
        options: as for `read_image`.

    Raises:
        SourceError: no image can be read: a folder without images, a pattern without matches. A part of a list or folder that
            cannot be read becomes a `Frame` with the error instead.

    Example:
        >>> from mien.io.images import sample
        >>> for frame in iter_images([sample(), "missing.jpg"]):
        ...     print(frame.index, frame.image is not None)
        0 True
        1 False
    """
    if isinstance(source, Images):
        return source
    kinds = _Kinds(recursive, sampling, animations and sampling is not None, live and sampling is not None, options)
    if isinstance(source, Iterator):
        return Images((item for one in source for item in kinds.expand(one)), options)
    single = (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray, Clip)
    several = [source] if isinstance(source, single) or not isinstance(source, Iterable) else list(source)
    if kinds.numbered(several):  # A pattern that the shell expanded.
        several = [Clip(tuple(several), sampling or Sampling(), options, os.path.dirname(several[0]) or ".")]  # noqa: PTH120
    items = [item for one in several for item in kinds.expand(one)]
    if not items:
        raise SourceError("the list of images is empty; give one or more")
    errors = [item.error for item in items if isinstance(item, Frame) and item.error is not None]
    if len(errors) == len(items):
        raise errors[0]
    return Images(items, options)


def from_bytes(
    data: bytes, name: str, sampling: Sampling, *, animations: bool = False, **options: Unpack[ReadOptions]
) -> Clip | Frame:
    """Return the content of a file as a video or as one image, as `iter_images` does for a file."""
    if is_video(data) or (animations and is_animation(data)):
        return Clip(data, sampling, options, name)
    return Frame.decoded(0, name, data, options.get("max_pixels", MAX_PIXELS), truncated=options.get("truncated", False))


@dataclass(frozen=True, slots=True)
class _Kinds:
    """What `iter_images` accepts."""

    recursive: bool
    sampling: Sampling | None
    animations: bool
    live: bool
    options: ReadOptions

    def expand(self, source: Any) -> Iterator[Item]:
        """Yield the items of one source: itself, the files of a folder, or those that match a pattern."""
        if self.sampling is None:
            yield from _files(source, self.recursive, EXTENSIONS)
            return
        found = _files(source, self.recursive, EXTENSIONS | video.EXTENSIONS)
        if self.sampling.fps is not None and isinstance(source, (str, os.PathLike)) and not is_url(str(source)):
            files = list(found)
            if self.numbered(files):
                yield Clip(tuple(files), self.sampling, self.options, printable(source))
                return
            found = iter(files)
        for item in found:
            if self._is_clip(item):
                yield Clip(item, self.sampling, self.options, live=isinstance(item, str) and is_live(item))
            else:
                yield item

    def numbered(self, files: Sequence[Any]) -> bool:
        """Return whether files are the frames of one video, with a frame rate."""
        wanted = self.sampling is not None and self.sampling.fps is not None
        return wanted and all(isinstance(file, str) for file in files) and are_numbered(files)

    def _is_clip(self, item: Item) -> bool:
        match item:
            case int():
                return True
            case str() if is_url(item):
                if is_live(item):
                    return self.live
                return PurePosixPath(re.split("[?#]", item)[0]).suffix.lower() in video.EXTENSIONS
            case bytearray() | memoryview():
                return is_video(item)
            case str() | os.PathLike() | bytes():
                return is_video(item) or (self.animations and is_animation(item))
        return False


def _files(source: Any, recursive: bool, extensions: Set[str]) -> Iterator[Item]:
    if not isinstance(source, (str, os.PathLike)) or (isinstance(source, str) and is_url(source)):
        yield source
        return
    path = os.fsdecode(source)
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises below a folder without permission.
        yield from _folder(path, recursive, extensions)
    elif glob.has_magic(path) and not os.path.lexists(path):
        yield from _pattern(path, recursive, extensions)
    else:
        yield path


def _pattern(pattern: str, recursive: bool, extensions: Set[str]) -> Iterator[Item]:
    deep = recursive and "**" in pattern
    found = glob.glob(pattern, recursive=deep)  # noqa: PTH207 - Path.glob takes no absolute patterns
    if deep:  # It follows circular links.
        found = {os.path.realpath(path): path for path in sorted(found, key=len, reverse=True)}.values()
    if not found:
        yield _failure(pattern, f"no file matches the pattern {printable(pattern)}")
    seen: set[str] = set()
    for path in sorted(found, key=natural):
        inside: Iterable[Item] = [path]
        if os.path.isdir(path):  # noqa: PTH112 - as in `_files`
            inside = _folder(path, recursive, extensions) if recursive else ()
        for item in inside:
            place = os.path.realpath(item) if deep and isinstance(item, str) else ""
            if place not in seen:
                yield item
            if place:  # A file of a matching folder may match by itself.
                seen.add(place)


def _folder(folder: str, recursive: bool, extensions: Set[str]) -> Iterator[Item]:
    """Yield the images of a folder, and an error for each folder that cannot be read."""
    other: Counter[str] = Counter()  # Other files, for the message.
    failures: list[Frame] = []
    seen: set[str] = set()
    empty = True

    def failed(error: OSError) -> None:
        message = f"the folder {printable(error.filename)} cannot be read: {error.strerror}"
        failures.append(_failure(error.filename, message))

    for here, folders, files in os.walk(folder, onerror=failed, followlinks=True):
        place = os.path.realpath(here)
        if place in seen:  # Reached through a link before.
            folders.clear()
            continue
        seen.add(place)
        visible = {name for name in (*folders, *files) if not name.startswith(".")}
        other["hidden"] += len(folders) + len(files) - len(visible)
        for name in sorted(visible.intersection(files), key=natural):
            extension = Path(name).suffix.lower()
            if extension in extensions:
                empty = False
                yield os.path.join(here, name)  # noqa: PTH118 - a str, as given
            else:
                other[extension or "without extension"] += 1
        folders[:] = sorted(visible.intersection(folders), key=natural)
        if not recursive:
            other["sub-folder"] += len(folders)
            break
    yield from failures
    if empty and not failures:
        found = ", ".join(f"{count} {kind}" for kind, count in (+other).most_common(5)) or "nothing"
        yield _failure(folder, f"the folder {printable(folder)} contains no images; found: {found}")


def list_lines(file: IO[bytes], name: str, folder: str = "") -> Iterator[str]:
    """Yield the paths and URLs of a seekable list, one per line or, as `find -print0` writes them, one per zero byte.

    UTF-8 or UTF-16, any line ends; empty lines and comments (`# …`) are skipped, quotes and spaces around a path are removed. A
    path that does not exist is taken relative to the `folder` of the list if it exists there; `name` is for messages. Raises
    SourceError: it is not text, or has no line.
    """
    start = file.read(4096)
    file.seek(0)
    wide = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    if not wide and re.search(rb"[\x01-\x08\x0e-\x1f]", start):
        raise SourceError(f"{name} is not a list of paths, but a binary file", path=name, expected="text")
    text = io.TextIOWrapper(file, "utf-16" if wide else "utf-8-sig", "replace" if wide else "surrogateescape")
    empty = True
    try:
        for line in text.read().split("\0") if b"\0" in start and not wide else text:
            if line.strip() and (found := _listed(line.rstrip("\r\n"), folder)):
                empty = False
                yield found
    finally:
        text.detach()  # the file is the caller's to close
    if empty:
        raise SourceError(f"the list {name} is empty; expected one path or URL per line", path=name)


def _listed(line: str, folder: str) -> str | None:
    """Return the path or URL of a line; None for a comment."""
    path = line
    for _ in range(2):
        for candidate in (path, os.path.join(folder, path)):  # noqa: PTH118 - also URLs and patterns
            if os.path.exists(candidate):  # noqa: PTH110 - Path.exists raises on a name too long
                return candidate
        path = path.strip()
        if len(path) > 1 and path[0] == path[-1] and path[0] in "\"'":
            path = path[1:-1]
    return None if path.startswith("#") else path


def _failure(path: str, message: str) -> Frame:
    return Frame(0, printable(path), error=SourceError(message, path=path))


def natural(name: str) -> tuple[list[int | str], str]:
    """Sort key: digits by value, letters case-insensitively, ties by the exact spelling."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name
