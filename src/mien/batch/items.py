"""Items of a batch run (a file, an object, a tar member, a table row) and their decoding into `Frame`s."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, Literal

from ..errors import SourceError
from ..inference.options import Options
from ..io.image_sequences import is_animation
from ..io.images import MAX_BYTES, MAX_PIXELS, ReadOptions
from ..io.sources import Clip, Frame, iter_images
from ..io.video import looks_like_video
from .storage import opened

HEAD = 512
"""Bytes needed to distinguish a video from an image."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image or video, or the reason why it cannot be read."""

    name: str
    """Name in the rows, `Result.source`."""
    kind: Literal["file", "object", "member", "row", "missing"]
    """Path or http URL; fsspec URI; tar member; table row; unreadable input."""
    place: str = ""
    """Path or URI of the item or of its container."""
    at: int = 0
    """Offset in the tar in bytes; row of the table."""
    size: int = 0
    """Size of a tar member in bytes."""
    column: str = ""
    """Column of the table; `COLUMN.bytes` for struct columns."""
    stamp: str = ""
    """Size and modification time where they are cheap to list; used to detect changed inputs."""
    video: bool = False
    """Whether the extension is that of a video."""
    message: str = ""
    """Reason why the item cannot be read."""


class ItemReader:
    """Reader of items in order; keeps the current tar or table open for the next item."""

    def __init__(self, options: Options) -> None:
        self.sampling, self.animations = options.sampling, options.animations
        self.options: ReadOptions = options.reading
        self._stack = contextlib.ExitStack()
        self._open: tuple[str, Any] | None = None

    def frames(
        self, items: Iterable[Item], skip: Mapping[int, str], begin: Callable[[int], None] = lambda number: None
    ) -> Iterator[Frame]:
        """Yield the frames of all items.

        Args:
            items: items to read.
            skip: index in `items` → reason to skip it.
            begin: called with the index of each item before it is opened.
        """
        for number, item in enumerate(items):
            begin(number)
            if number in skip:
                yield Frame(number, item.name, error=SourceError(skip[number]))
            else:
                yield from self._frames(number, item)

    def close(self) -> None:
        """Close the open tar or table."""
        self._open = None
        self._stack.close()

    def _frames(self, number: int, item: Item) -> Iterator[Frame]:
        try:
            match item.kind:
                case "missing":
                    yield Frame(number, item.name, error=SourceError(item.message))
                case "file":
                    items = iter([item.place])
                    yield from iter_images(items, sampling=self.sampling, animations=self.animations, **self.options)
                case "object":
                    yield from self._object(number, item)
                case "member":
                    yield from self._member(number, item)
                case "row":
                    yield from self._bytes(number, item, self._row(item))
        except SourceError as error:
            yield Frame(number, item.name, error=error)
        except OSError as error:
            yield Frame(number, item.name, error=SourceError(f"{item.name} cannot be read: {error.strerror or error}"))

    def _object(self, number: int, item: Item) -> Iterator[Frame]:
        with opened(item.place) as file:
            head = file.read(HEAD)
            if _is_clip(head, item):
                file.seek(0)
                yield from Clip(file, self.sampling, self.options, item.name)
            else:
                yield from self._bytes(number, item, head + _rest(file, item, len(head)))

    def _member(self, number: int, item: Item) -> Iterator[Frame]:
        if item.size > MAX_BYTES and not item.video:
            raise _too_long(item.name, item.size)
        member = _Member(self._kept(item.place, opened), item)
        head = member.read(HEAD)
        member.seek(0)
        if _is_clip(head, item):
            yield from Clip(member, self.sampling, self.options, item.name)
        elif item.size > MAX_BYTES:
            raise _too_long(item.name, item.size)
        else:
            yield from self._bytes(number, item, member.read())

    def _row(self, item: Item) -> bytes:
        from .tables import Table  # Imports pyarrow, which only tables need.

        data = self._kept(item.place, Table.opened).cell(item.column, item.at)
        if data is None:
            raise SourceError(f"{item.name} is empty: no bytes in the column {item.column}", path=item.name, value=item.column)
        return data

    def _bytes(self, number: int, item: Item, data: bytes) -> Iterator[Frame]:
        if _is_clip(data[:HEAD], item) or (self.animations and is_animation(data)):
            yield from Clip(data, self.sampling, self.options, item.name)
        else:
            if len(data) > MAX_BYTES:
                raise _too_long(item.name, len(data))
            limit, truncated = self.options.get("max_pixels", MAX_PIXELS), self.options.get("truncated", False)
            yield Frame.decoded(number, item.name, data, limit, truncated=truncated)

    def _kept(self, place: str, how: Callable[[str], contextlib.AbstractContextManager[Any]]) -> Any:
        if self._open is None or self._open[0] != place:
            self.close()
            self._open = place, self._stack.enter_context(how(place))
        return self._open[1]


class _Member(io.RawIOBase):
    """A tar member as a seekable file; a video in a tar may be larger than the memory.

    Raises:
        SourceError: the tar is truncated before the end of the member.
    """

    def __init__(self, tar: IO[bytes], item: Item) -> None:
        self.tar, self.start, self.size, self.place = tar, item.at, item.size, 0
        if (there := tar.seek(0, io.SEEK_END) - self.start) < self.size:
            there = max(there, 0)
            raise SourceError(
                f"{item.name} is truncated: the tar ends after {there:,} of its {self.size:,} bytes; download it again",
                path=item.name,
                value=there,
                expected=self.size,
            )

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        self.place = max(origin + offset, 0)
        return self.place

    def readinto(self, buffer: Any) -> int:
        wanted = max(min(len(buffer), self.size - self.place), 0)
        self.tar.seek(self.start + self.place)
        data = self.tar.read(wanted)
        buffer[: len(data)] = data
        self.place += len(data)
        return len(data)


def _is_clip(head: bytes, item: Item) -> bool:
    """Whether an item is a video: by its first bytes, else by its extension, like `mien.io.video.is_video`."""
    known = looks_like_video(head)
    return item.video if known is None else known


def _rest(file: IO[bytes], item: Item, known: int) -> bytes:
    rest = file.read(MAX_BYTES + 1 - known)
    if known + len(rest) > MAX_BYTES:
        raise SourceError(f"{item.name} exceeds the limit of {MAX_BYTES:,} bytes", path=item.name, expected=MAX_BYTES)
    return rest


def _too_long(name: str, size: int) -> SourceError:
    return SourceError(
        f"{name} has {size:,} bytes, more than the limit of {MAX_BYTES:,}", path=name, value=size, expected=MAX_BYTES
    )
