"""Items of a batch run (a file, an object, a tar member, a table row) and their decoding into `Frame`s."""

import contextlib
import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import SourceError, reason
from ..inference.options import Options
from ..io.image_sequences import is_animation
from ..io.images import MAX_BYTES, MAX_PIXELS, ReadOptions
from ..io.sources import Clip, Frame, iter_images
from ..io.video import looks_like_video
from .storage import opened
from .tables import Table

HEAD = 512  # bytes needed to distinguish a video from an image


@dataclass(frozen=True, slots=True)
class Item:
    """One image or video, or the reason why it cannot be read."""

    name: str  # name in the rows, `Result.source`
    kind: Literal["file", "object", "member", "row", "missing"]
    """Path or http URL; fsspec URI; tar member; table row; unreadable input."""
    place: str = ""  # path or URI of the item or of its container
    at: int = 0  # offset in the tar in bytes; row of the table
    size: int = 0  # size of a tar member in bytes
    column: str = ""  # column of the table; `COLUMN.bytes` for struct columns
    stamp: str = ""  # size and modification time where they are cheap to list; used to detect changed inputs
    video: bool = False  # whether the extension is that of a video
    message: str = ""  # reason why the item cannot be read


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
        """Yield the frames of all items, without opening those that `skip` maps from their index to a reason.

        `begin` is called with the index of each item before it is opened.
        """
        for number, item in enumerate(items):
            begin(number)
            if number in skip:
                yield Frame(number, item.name, error=SourceError(skip[number], path=item.name))
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
                    raise SourceError(item.message, path=item.name)
                case "file":
                    items = iter([item.place])
                    yield from iter_images(items, sampling=self.sampling, animations=self.animations, **self.options)
                case "object":
                    with opened(item.place) as file:
                        yield from self._stored(number, item, file)
                case "member":
                    yield from self._stored(number, item, _member(self._kept(item.place, _tar), item))
                case "row":
                    data = self._kept(item.place, Table.opened).cell(item.column, item.at)
                    if data is None:
                        message = f"{item.name} is empty: no bytes in the column {item.column}"
                        raise SourceError(message, path=item.name, value=item.column)
                    yield from self._bytes(number, item, data)
        except SourceError as error:
            yield Frame(number, item.name, error=error)
        except (OSError, tarfile.TarError) as error:
            message = f"{item.name} cannot be read: {reason(error)}"
            yield Frame(number, item.name, error=SourceError(message, path=item.name))

    def _stored(self, number: int, item: Item, file: Any) -> Iterator[Frame]:
        """Read an object or a tar member; a video stays where it is."""
        head = file.read(HEAD)
        if _is_clip(head, item):
            file.seek(0)
            yield from Clip(file, self.sampling, self.options, item.name)
        else:
            _check_size(item.name, item.size)
            data = head + file.read((item.size or MAX_BYTES + 1) - len(head))  # the size of an object is not known
            _check_size(item.name, len(data))
            yield from self._bytes(number, item, data)

    def _bytes(self, number: int, item: Item, data: bytes) -> Iterator[Frame]:
        if _is_clip(data[:HEAD], item) or (self.animations and is_animation(data)):
            yield from Clip(data, self.sampling, self.options, item.name)
        else:
            _check_size(item.name, len(data))
            limit, truncated = self.options.get("max_pixels", MAX_PIXELS), self.options.get("truncated", False)
            yield Frame.decoded(number, item.name, data, limit, truncated=truncated)

    def _kept(self, place: str, how: Callable[[str], contextlib.AbstractContextManager[Any]]) -> Any:
        if self._open is None or self._open[0] != place:
            self.close()
            self._open = place, self._stack.enter_context(how(place))
        return self._open[1]


@contextlib.contextmanager
def _tar(place: str) -> Iterator[tarfile.TarFile]:
    with opened(place) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        yield tar


def _member(tar: tarfile.TarFile, item: Item) -> Any:
    """Return a member as a file, since a video may be larger than the memory; SourceError if the tar is truncated."""
    file: Any = tar.fileobj
    if (there := max(file.seek(0, io.SEEK_END) - item.at, 0)) < item.size:
        message = f"{item.name} is truncated: the tar ends after {there:,} of its {item.size:,} bytes; download it again"
        raise SourceError(message, path=item.name, value=there, expected=item.size)
    info = tarfile.TarInfo()
    info.offset_data, info.size = item.at, item.size
    return tar.extractfile(info)


def _is_clip(head: bytes, item: Item) -> bool:
    """Whether an item is a video: by its first bytes, else by its extension, like `mien.io.video.is_video`."""
    known = looks_like_video(head)
    return item.video if known is None else known


def _check_size(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise SourceError(f"{name} exceeds the limit of {MAX_BYTES:,} bytes", path=name, value=size, expected=MAX_BYTES)
