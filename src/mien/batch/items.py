"""Items of a batch run (a file, an object, a tar member, a table row): found in the inputs, and decoded into `Frame`s.

Paths, folders, patterns and http URLs become the items that `mien predict` reads, in the same order. In addition: lists
(`@list` or `.txt`, one input per line), tables (`.parquet`), tars (`.tar`) and fsspec URIs of any of these.
"""

import contextlib
import io
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from ..errors import SourceError, reason
from ..inference.options import Options
from ..io import video
from ..io.image_sequences import is_animation
from ..io.images import MAX_BYTES, MAX_PIXELS, ReadOptions, name_of, no_file, printable
from ..io.sources import EXTENSIONS, Clip, Frame, iter_images, list_lines, natural
from ..io.urls import is_url
from .storage import filesystem, is_remote, is_special, opened, shown

PLACES = ("path", "uri", "url", "file", "filename", "file_name", "image_path", "source", "image", "picture")
"""Names of text columns with paths or URIs, in order of preference."""

BYTES = ("image", "bytes", "jpg", "jpeg", "png", "picture", "content", "data")
"""Names of binary columns with encoded images, in order of preference; otherwise a single binary column is used."""

BATCH = 16  # rows decoded from a table at once; images are large
REFUSALS = (pa.ArrowException, OSError)  # errors of pyarrow for invalid files


class Table:
    """A parquet file, read sequentially; going back to an earlier row restarts at its row group. SourceError if invalid."""

    def __init__(self, file: Any, name: str) -> None:
        self.name = name
        try:
            self._file = pq.ParquetFile(file)
        except REFUSALS as error:
            message = f"{name} is not a valid parquet file: {reason(error)}; download it again"
            raise SourceError(message, path=name) from error
        self.rows: int = self._file.metadata.num_rows
        self._column, self._next, self._values = "", 0, iter(())

    @classmethod
    @contextlib.contextmanager
    def opened(cls, place: str) -> Iterator[Self]:
        """Open the table at a location."""
        with opened(place) as file:
            yield cls(file, shown(place))

    def column(self, wanted: str | None) -> tuple[str, bool]:
        """Return the image column, and whether it holds encoded images rather than paths; SourceError if there is none."""
        text, data = {}, {}
        known = ", ".join(self._file.schema_arrow.names)
        for field in self._file.schema_arrow:
            kind = field.type
            if kinds.is_binary(kind) or kinds.is_large_binary(kind):
                data[field.name] = field.name
            elif kinds.is_string(kind) or kinds.is_large_string(kind):
                text[field.name] = field.name
            elif kinds.is_struct(kind) and "bytes" in [part.name for part in kind]:
                data[field.name] = f"{field.name}.bytes"
        if wanted is not None:
            if wanted not in {**text, **data}:
                message = f"{self.name}: no binary or text column {wanted!r}; columns: {known}"
                raise SourceError(message, path=self.name, value=wanted, expected=[*text, *data])
            return ({**text, **data}[wanted]), wanted in data
        for name in (*BYTES, *(data if len(data) == 1 else ())):
            if name in data:
                return data[name], True
        for name in PLACES:
            if name in text:
                return text[name], False
        message = f"{self.name}: no column with images found; choose one of {known} with --column"
        raise SourceError(message, path=self.name, expected=[*text, *data])

    def cell(self, column: str, row: int) -> bytes | None:
        """Return the bytes of a row; fast in ascending order."""
        if column != self._column or row < self._next:
            first, self._next = self._group_of(row)
            self._column, self._values = column, self.cells(column, first)
        value = None
        while self._next <= row:
            value = next(self._values)
            self._next += 1
        return value

    def cells(self, column: str, group: int = 0) -> Iterator[Any]:
        """Yield the values of a column from a row group on; SourceError if the file is corrupt."""
        try:
            groups = list(range(group, self._file.metadata.num_row_groups))
            for batch in self._file.iter_batches(BATCH, groups, [column]):
                for value in batch.column(0):
                    found = value.as_py()
                    yield found["bytes"] if isinstance(found, dict) else found
        except REFUSALS as error:
            self._column = ""  # This iterator is exhausted; the next row restarts at its own row group, which may be intact.
            raise SourceError(f"{self.name} is corrupt: {reason(error)}; download it again", path=self.name) from error

    def _group_of(self, row: int) -> tuple[int, int]:
        """Return the row group of a row and the first row of the group."""
        first = 0
        for group in range(self._file.metadata.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            if row < first + count:
                return group, first
            first += count
        message = f"{self.name} has {first} rows, row {row} is missing: it changed after it was listed; start a new run"
        raise SourceError(message, path=self.name, value=row)


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
    """Return whether an item is a video: by its first bytes, else by its extension, like `mien.io.video.is_video`."""
    known = video.looks_like_video(head)
    return item.video if known is None else known


def _check_size(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise SourceError(f"{name} exceeds the limit of {MAX_BYTES:,} bytes", path=name, value=size, expected=MAX_BYTES)


WANTED = EXTENSIONS | video.EXTENSIONS  # extensions read from folders in object storage and from tars

PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def list_items(inputs: Sequence[str], column: str | None = None) -> Iterator[Item]:
    """Yield the items of all inputs, in order and in constant memory; unreadable inputs become items of kind "missing".

    `column` is that of tables with images, None: detected.
    """
    for one in inputs:
        if one.startswith("@") and not os.path.exists(one):  # noqa: PTH110 - Path.exists raises on a name too long
            yield from _list(one[1:], column)
        elif _suffix(one) == ".txt" and not os.path.isdir(one):  # noqa: PTH112 - as above
            yield from _list(one, column)
        else:
            yield from _named(one, column)


def _named(one: str, column: str | None) -> Iterator[Item]:
    """Yield the items of one input."""
    try:
        if is_remote(one):
            yield from _remote(one, column)
            return
        for found in iter_images(iter([one]), sampling=video.Sampling()).items:
            if isinstance(found, Frame):
                yield Item(found.source, "missing", message=str(found.error))
            else:
                yield from _file(str(found.source) if isinstance(found, Clip) else str(found), column)
    except SourceError as error:
        yield Item(shown(one), "missing", message=str(error))


def _file(path: str, column: str | None) -> Iterator[Item]:
    """Yield a local file, or the items inside it."""
    if is_url(path):
        yield _item(name_of(path), "file", path)
        return
    try:
        info = Path(path).stat()
        stamp = f"{info.st_size} {info.st_mtime_ns}"
    except (OSError, ValueError):  # The reader reports it later, with the message of `mien predict`.
        stamp = ""
    if _holds_others(path):
        yield from _inside(path, stamp, column)
    else:
        yield _item(name_of(path), "file", path, stamp)


def _remote(uri: str, column: str | None) -> Iterator[Item]:
    """Yield an object, the items inside it, or the objects below a prefix."""
    if _holds_others(uri) and not _is_pattern(uri):
        yield from _inside(uri, "", column)
        return
    if _suffix(uri) in WANTED and not _is_pattern(uri):
        yield _item(shown(uri), "object", uri)
        return
    system, path = filesystem(uri)
    empty = True
    try:
        for entry in _matching(system, path):
            name = entry["name"]  # with the scheme of the input:
            below = system.unstrip_protocol(name) if "::" in uri else f"{uri.partition('://')[0]}://{name}"
            if _holds_others(below):
                empty = False
                yield from _inside(below, _stamp(entry), column)
            elif _suffix(below) in WANTED:
                empty = False
                yield _item(shown(below), "object", below, _stamp(entry))
    except FileNotFoundError:
        pass
    except Exception as error:  # Each storage backend raises its own classes: access denied, no such bucket, no route.
        message = f"{shown(uri)} cannot be listed: {reason(error)}; check the address and its permissions"
        raise SourceError(message, path=shown(uri)) from error
    if empty:
        raise SourceError(f"{shown(uri)} holds no images, or does not exist; check the path", path=shown(uri))


def _matching(system: Any, path: str) -> Iterator[dict[str, Any]]:
    """Yield the objects that match a pattern or are below a prefix: files before folders, each in natural order."""
    if _is_pattern(path):
        found = system.glob(path, detail=True)
        yield from (found[name] for name in sorted(found, key=natural) if found[name]["type"] == "file")
        return
    entries = sorted(system.ls(path, detail=True), key=lambda entry: natural(entry["name"]))
    yield from (entry for entry in entries if entry["type"] == "file" and not _hidden(entry["name"]))
    for entry in entries:
        if entry["type"] == "directory" and not _hidden(entry["name"]) and entry["name"].rstrip("/") != path.rstrip("/"):
            yield from _matching(system, entry["name"])


def _inside(place: str, stamp: str, column: str | None) -> Iterator[Item]:
    """Yield the items inside a table or a tar."""
    name = shown(place)
    try:
        if not is_remote(place) and is_special(place):
            raise no_file(name)
        if place.lower().endswith(PACKED):
            message = f"{name} is a compressed tar, which has no random access; decompress it to a plain .tar"
            raise SourceError(message, path=name)
        if _suffix(place) == ".tar":
            yield from _members(place, name, stamp)
        else:
            yield from _rows(place, name, stamp, column)
    except SourceError as error:
        yield Item(name, "missing", message=str(error))


def _members(place: str, name: str, stamp: str) -> Iterator[Item]:
    with opened(place) as file:
        found = False
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (info := tar.next()) is not None:
                    tar.members.clear()  # pyrefly: ignore - tarfile would keep every member in memory
                    suffix = _suffix(info.name)
                    if info.isreg() and not info.issparse() and suffix in WANTED and not _hidden(info.name):
                        found = True
                        inner, is_clip = printable(info.name), suffix in video.EXTENSIONS
                        yield Item(f"{name}/{inner}", "member", place, info.offset_data, info.size, stamp=stamp, video=is_clip)
        except tarfile.TarError as error:
            raise SourceError(f"{name} is corrupt or not a tar: {error}; download it again", path=name) from error
        if not found:
            raise SourceError(f"the tar {name} holds no images", path=name)


def _rows(place: str, name: str, stamp: str, column: str | None) -> Iterator[Item]:
    with Table.opened(place) as table:
        inner, is_bytes = table.column(column)
        if is_bytes:
            for row in range(table.rows):
                yield Item(f"{name}#{row}", "row", place, row, column=inner, stamp=stamp)
            return
        for row, one in enumerate(table.cells(inner)):
            if one:
                yield from _named(one, column)
            else:
                yield Item(f"{name}#{row}", "missing", message=f"row {row} of {name} is empty in the column {inner}")


def _list(place: str, column: str | None) -> Iterator[Item]:
    name = shown(place)
    try:
        with opened(place) as file:
            for one in list_lines(file, name, "" if is_remote(place) else os.path.dirname(place)):  # noqa: PTH120 - a str
                yield from _named(one, column)
    except SourceError as error:
        yield Item(name, "missing", message=str(error))


def _item(name: str, kind: Literal["file", "object"], place: str, stamp: str = "") -> Item:
    return Item(name, kind, place, stamp=stamp, video=_suffix(place) in video.EXTENSIONS)


def _holds_others(place: str) -> bool:
    return _suffix(place) in (".tar", ".parquet", ".pq") or place.lower().endswith(PACKED)


def _is_pattern(place: str) -> bool:
    return any(sign in place for sign in "*?[")


def _suffix(place: str) -> str:
    return PurePosixPath(place.rpartition("/")[2].partition("?")[0] if is_url(place) else place).suffix.lower()


def _hidden(name: str) -> bool:
    return name.rstrip("/").rpartition("/")[2].startswith(".")


def _stamp(entry: dict[str, Any]) -> str:
    keys = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created")
    return f"{entry.get('size', '')} {next(filter(None, map(entry.get, keys)), '')}"
