"""Expansion of the inputs into items, in a deterministic order.

Paths, folders, patterns and http URLs become the items that `mien predict` reads, in the same order. In addition: lists
(`@list` or `.txt`, one input per line), tables (`.parquet`), tars (`.tar`) and fsspec URIs of any of these.
"""

import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from ..errors import SourceError, reason
from ..io import video
from ..io.images import name_of, no_file, printable
from ..io.sources import EXTENSIONS, Clip, Frame, iter_images, list_lines, natural
from ..io.urls import is_url
from .items import Item
from .storage import filesystem, is_remote, is_special, opened, shown
from .tables import Table

WANTED = EXTENSIONS | video.EXTENSIONS  # extensions read from folders in object storage and from tars

TARS = frozenset({".tar"})
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
TABLES = frozenset({".parquet", ".pq"})
LISTS = frozenset({".txt"})


def items(inputs: Sequence[str], column: str | None = None) -> Iterator[Item]:
    """Yield the items of all inputs, in order and in constant memory; unreadable inputs become items of kind "missing".

    `column` is that of tables with images, None: detected.
    """
    for one in inputs:
        if one.startswith("@") and not os.path.exists(one):  # noqa: PTH110 - Path.exists raises on a name too long
            yield from _list(one[1:], column)
        elif _suffix(one) in LISTS and not os.path.isdir(one):  # noqa: PTH112 - as above
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
                yield _missing(found.source, str(found.error))
            else:
                yield from _file(str(found.source) if isinstance(found, Clip) else str(found), column)
    except SourceError as error:
        yield _missing(shown(one), str(error))


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
        if _suffix(place) in TARS:
            yield from _members(place, name, stamp)
        else:
            yield from _rows(place, name, stamp, column)
    except SourceError as error:
        yield _missing(name, str(error))


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
                yield _missing(f"{name}#{row}", f"row {row} of {name} is empty in the column {inner}")


def _list(place: str, column: str | None) -> Iterator[Item]:
    name = shown(place)
    try:
        with opened(place) as file:
            for one in list_lines(file, name, "" if is_remote(place) else os.path.dirname(place)):  # noqa: PTH120 - a str
                yield from _named(one, column)
    except SourceError as error:
        yield _missing(name, str(error))


def _item(name: str, kind: Literal["file", "object"], place: str, stamp: str = "") -> Item:
    return Item(name, kind, place, stamp=stamp, video=_suffix(place) in video.EXTENSIONS)


def _missing(name: str, message: str) -> Item:
    return Item(name, "missing", message=message)


def _holds_others(place: str) -> bool:
    return _suffix(place) in TARS | TABLES or place.lower().endswith(PACKED)


def _is_pattern(place: str) -> bool:
    return any(sign in place for sign in "*?[")


def _suffix(place: str) -> str:
    return PurePosixPath(place.rpartition("/")[2].partition("?")[0] if is_url(place) else place).suffix.lower()


def _hidden(name: str) -> bool:
    return name.rstrip("/").rpartition("/")[2].startswith(".")


def _stamp(entry: dict[str, Any]) -> str:
    keys = ("ETag", "etag", "LastModified", "last_modified", "mtime", "created")
    return f"{entry.get('size', '')} {next(filter(None, map(entry.get, keys)), '')}"
