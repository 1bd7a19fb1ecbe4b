"""Request bodies within limits: bytes are counted while they arrive, and decoded only afterwards.

Images stay in memory and videos go to a file named by the server; file names of a request are used as text only. `Budget`
bounds the memory of all bodies together.

Starlette's form parser is not used: it has no limit for a single file, accepts a form whose last boundary is missing, writes
images above 1 MB to the disk, and keeps only one of two fields of the same name.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from ..io.images import printable
from .problems import Problem, busy

FIELDS = 40
"""Maximum number of form fields other than files."""
FIELD_BYTES = 4096
HEADER_BYTES = 8192
"""Bytes of the headers of one part."""


class Budget:
    """Bytes that request bodies may occupy in memory."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, count: int) -> None:
        """Reserve bytes, or reject the request."""
        if count > self.left:
            raise busy("too many images are arriving at the same time; retry after the time in Retry-After", 1)
        self.left -= count

    def give(self, count: int) -> None:
        """Release bytes."""
        self.left += count


@dataclass(frozen=True, slots=True)
class File:
    """One file of a request, or its URL."""

    name: str
    """Printable name for messages and results only."""
    data: bytes | bytearray = b""
    url: str | None = None


class Sink(Protocol):
    """Destination of a file's bytes: a bytearray or a `Spool`."""

    def extend(self, data: bytes, /) -> None:
        """Append bytes."""

    def __len__(self) -> int: ...


class Spool:
    """A sink that writes to an open file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size = file, 0

    def extend(self, data: bytes) -> None:
        """Append bytes."""
        self.file.write(data)
        self.size += len(data)

    def __len__(self) -> int:
        return self.size


def media_type(request: Request) -> str:
    """Return the media type of a request without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def blocks(request: Request, limit: int, seconds: float, budget: Budget | None = None) -> AsyncIterator[bytes]:
    """Yield a body as it arrives.

    Args:
        request: the request.
        limit: maximum number of bytes.
        seconds: time limit of the whole body.
        budget: charged with the bytes; the caller releases them.

    Raises:
        Problem: too large, too slow, or over budget.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    count, stream = 0, request.stream()
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        while True:
            async with asyncio.timeout_at(deadline):
                block = await anext(stream, None)
            if block is None:
                return
            count += len(block)
            if count > limit:
                raise _too_large(limit)
            if budget is not None:
                budget.take(len(block))
            yield block
    except TimeoutError:
        raise Problem("too-slow", f"the body did not arrive within {seconds:g} seconds", {"Connection": "close"}) from None
    except ClientDisconnect:
        raise Problem("malformed", "the connection was closed before the end of the body") from None


async def whole(request: Request, limit: int, seconds: float, budget: Budget) -> bytearray:
    """Return a body. Its bytes are charged to the budget, also on failure: use it inside `charged`."""
    body = bytearray()
    async for block in blocks(request, limit, seconds, budget):
        body += block
    return body


@contextlib.contextmanager
def charged(budget: Budget) -> Iterator[Budget]:
    """Release at the end everything that was charged inside the block."""
    account = _Account(budget)
    try:
        yield account
    finally:
        budget.give(account.taken)


class _Account(Budget):
    def __init__(self, budget: Budget) -> None:
        self.budget, self.taken = budget, 0

    def take(self, count: int) -> None:
        self.budget.take(count)
        self.taken += count

    def give(self, count: int) -> None:
        self.budget.give(count)
        self.taken -= count


async def form(
    request: Request, arriving: AsyncIterator[bytes], *, files: int, file_bytes: int, sink: Callable[[], Sink] = bytearray
) -> tuple[list[tuple[str, Sink]], dict[str, str]]:
    """Read `multipart/form-data`.

    Args:
        request: its headers name the boundary.
        arriving: its body.
        files: maximum number of files.
        file_bytes: maximum bytes per file.
        sink: makes the destination of a file.

    Returns:
        Name and sink of each file in order, and the other fields.

    Raises:
        Problem: an invalid or truncated form, or one that exceeds a limit.
    """
    _, parameters = parse_options_header(request.headers.get("content-type", ""))
    boundary = parameters.get(b"boundary", b"")
    if not 0 < len(boundary) <= 200:
        raise Problem("malformed", "the header Content-Type of a form must name its boundary")
    parts = _Parts(files, file_bytes, sink)
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        async for block in arriving:
            parser.write(block)
        parser.finalize()
    except MultipartParseError:
        raise Problem("malformed", "the body is not a valid multipart form") from None
    if not parts.ended:
        raise Problem("malformed", "the multipart form is truncated: its last boundary is missing")
    return parts.files, parts.fields


class _Parts:
    """Collects the parts of a form from the parser's callbacks."""

    def __init__(self, most: int, file_bytes: int, sink: Callable[[], Sink]) -> None:
        self.most, self.file_bytes, self.sink = most, file_bytes, sink
        self.files: list[tuple[str, Sink]] = []
        self.fields: dict[str, str] = {}
        self.ended = False
        self._begin()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._ended,
        }

    def _begin(self) -> None:
        self.header_name, self.header_value, self.header_bytes = bytearray(), bytearray(), 0
        self.disposition = b""
        self.name, self.limit = "", FIELD_BYTES
        self.text = bytearray()
        self.target: Sink | None = None
        self.is_file = False

    def _count(self, count: int) -> None:
        self.header_bytes += count
        if self.header_bytes > HEADER_BYTES:
            raise Problem("too-large", f"the headers of a part exceed {HEADER_BYTES:,} bytes")

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self.header_name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._count(end - start)
        self.header_value += data[start:end]

    def _header_end(self) -> None:
        if self.header_name.lower() == b"content-disposition":
            self.disposition = bytes(self.header_value)
        self.header_name, self.header_value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        kind, parameters = parse_options_header(self.disposition)
        if kind != b"form-data" or b"name" not in parameters:
            raise Problem("malformed", "a part of the form has no name")
        self.name = parameters[b"name"].decode("utf-8", "replace")
        self.is_file = b"filename" in parameters
        if not self.is_file:
            if len(self.fields) >= FIELDS:
                raise Problem("too-large", f"the form has more than {FIELDS} fields")
            return
        if len(self.files) >= self.most:
            raise Problem("too-large", f"the form has more than {self.most} files; send several requests")
        target, self.limit = self.sink(), self.file_bytes
        self.target = target
        self.files.append((plain_name(parameters[b"filename"].decode("utf-8", "replace")), target))

    def _data(self, data: bytes, start: int, end: int) -> None:
        target = self.text if self.target is None else self.target
        if len(target) + end - start > self.limit:
            what = "a file" if self.is_file else "a field"
            raise Problem("too-large", f"{what} of the form exceeds the limit of {self.limit:,} bytes")
        target.extend(data[start:end])

    def _end(self) -> None:
        if self.is_file:
            return
        if self.name in self.fields:
            raise Problem("malformed", f"the form has two fields {self.name[:60]!r}")
        self.fields[self.name] = self.text.decode("utf-8", "replace")

    def _ended(self) -> None:
        self.ended = True


def plain_name(name: str) -> str:
    """Return a client's file name as printable text without folders, at most 200 characters; never use it as a path."""
    return printable(name.replace("\\", "/").rpartition("/")[2].encode("utf-8", "backslashreplace").decode())[:200] or "image"


def _too_large(limit: int) -> Problem:
    return Problem("too-large", f"the body exceeds the limit of {limit:,} bytes", {"Connection": "close"})
