"""Requests within limits: files of a form, a raw image or video, or base64 and URLs in JSON, with options.

Bytes are counted while they arrive, and decoded only afterwards. Images stay in memory and videos go to a file named by the
server; file names of a request are used as text only. `Budget` bounds the memory of all bodies together.

Starlette's form parser is not used: it has no limit for a single file, accepts a form whose last boundary is missing, writes
images above 1 MB to the disk, and keeps only one of two fields of the same name.
"""

import asyncio
import base64
import binascii
import contextlib
import io
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, TypeVar

from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.aliases import AliasChoices
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from ..io.images import printable
from ..io.urls import is_url, without_secrets
from .problems import Problem, busy, first_error
from .schemas import Entry, Options
from .settings import Settings

FIELDS = 40  # maximum number of form fields other than files
FIELD_BYTES = 4096
HEADER_BYTES = 8192  # bytes of the headers of one part


class Budget:
    """Bytes that request bodies may occupy in memory; a request takes its own from those of the server."""

    def __init__(self, size: int, server: "Budget | None" = None) -> None:
        self.left, self.server = size, server

    def take(self, count: int) -> None:
        """Reserve bytes, or reject the request."""
        if self.server is not None:
            self.server.take(count)
        elif count > self.left:
            raise busy("too many images are arriving at the same time; retry after the time in Retry-After", 1)
        self.left -= count

    @contextlib.contextmanager
    def charged(self) -> Iterator["Budget"]:
        """Yield the budget of one request, and release at the end what it took."""
        request = Budget(0, self)
        try:
            yield request
        finally:
            self.left -= request.left  # negative: what it took


@dataclass(frozen=True, slots=True)
class File:
    """One file of a request, or its URL; the name is printable, for messages and results only."""

    name: str
    data: bytes = b""
    url: str | None = None


def media_type(request: Request) -> str:
    """Return the media type of a request without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def blocks(request: Request, limit: int, seconds: float, budget: Budget | None = None) -> AsyncIterator[bytes]:
    """Yield a body of at most `limit` bytes as it arrives, within `seconds`, and charge it to a budget; else Problem."""
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


async def form(
    request: Request, arriving: AsyncIterator[bytes], *, files: int, file_bytes: int, sink: Callable[[], BinaryIO] = io.BytesIO
) -> tuple[list[tuple[str, BinaryIO]], dict[str, str]]:
    """Read `multipart/form-data` with at most `files` files of `file_bytes` bytes each; `sink` makes their destinations.

    Returns name and destination of each file in order, and the other fields. An invalid or truncated form, or one that exceeds
    a limit, raises Problem.
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

    def __init__(self, most: int, file_bytes: int, sink: Callable[[], BinaryIO]) -> None:
        self.most, self.file_bytes, self.sink = most, file_bytes, sink
        self.files: list[tuple[str, BinaryIO]] = []
        self.fields: dict[str, str] = {}
        self.ended = False
        self._begin()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": partial(self._header, "header_name"),
            "on_header_value": partial(self._header, "header_value"),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": partial(setattr, self, "ended", True),
        }

    def _begin(self) -> None:
        self.header_name = self.header_value = self.disposition = b""
        self.header_bytes, self.limit = 0, FIELD_BYTES
        self.name, self.is_file = "", False
        self.target: BinaryIO = io.BytesIO()

    def _header(self, which: str, data: bytes, start: int, end: int) -> None:
        self.header_bytes += end - start
        if self.header_bytes > HEADER_BYTES:
            raise Problem("too-large", f"the headers of a part exceed {HEADER_BYTES:,} bytes")
        setattr(self, which, getattr(self, which) + data[start:end])

    def _header_end(self) -> None:
        if self.header_name.lower() == b"content-disposition":
            self.disposition = self.header_value
        self.header_name = self.header_value = b""

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
        self.target, self.limit = self.sink(), self.file_bytes
        self.files.append((plain_name(parameters[b"filename"].decode("utf-8", "replace")), self.target))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self.target.tell() + end - start > self.limit:
            what = "a file" if self.is_file else "a field"
            raise Problem("too-large", f"{what} of the form exceeds the limit of {self.limit:,} bytes")
        self.target.write(data[start:end])

    def _end(self) -> None:
        if self.is_file:
            return
        if self.name in self.fields:
            raise Problem("malformed", f"the form has two fields {self.name[:60]!r}")
        assert isinstance(self.target, io.BytesIO)
        self.fields[self.name] = self.target.getvalue().decode("utf-8", "replace")


def plain_name(name: str) -> str:
    """Return a client's file name as printable text without folders, at most 200 characters; never use it as a path."""
    return printable(name.replace("\\", "/").rpartition("/")[2].encode("utf-8", "backslashreplace").decode())[:200] or "image"


def _too_large(limit: int) -> Problem:
    return Problem("too-large", f"the body exceeds the limit of {limit:,} bytes", {"Connection": "close"})


Chosen = TypeVar("Chosen", bound=Options)

BODIES = "send multipart/form-data with one or more files, one image as image/*, or application/json"


class Body(BaseModel):
    """A JSON request. `pictures`, the name of the field in version 0.1, is accepted until 0.3."""

    model_config = ConfigDict(extra="forbid")

    images: list[Entry] = Field(validation_alias=AliasChoices("images", "pictures"))
    options: dict[str, Any] = {}


async def images(
    request: Request, settings: Settings, budget: Budget, kind: type[Chosen] = Options, most: int | None = None
) -> tuple[list[File], Chosen]:
    """Return the images and options of a request (multipart/form-data, image/*, or application/json); Problem if it is invalid.

    Options may also be in the query; those of the body come first. The body is charged to the budget. At most `most` images are
    accepted, by default as many as the settings allow.
    """
    limits, query = settings.limits, dict(request.query_params)
    most = limits.images if most is None else most
    match media_type(request).partition("/"):
        case "multipart", _, "form-data":
            arriving = blocks(request, limits.request_bytes, limits.seconds, budget)
            files, fields = await form(request, arriving, files=most, file_bytes=limits.image_bytes)
            found = [File(name, data.getvalue()) for name, data in files if isinstance(data, io.BytesIO)]
            options = kind.parse(query | fields, text=True)
        case "image", _, _:
            options = kind.parse(query, text=True)
            found = [File("image", await _whole(request, limits.image_bytes, limits.seconds, budget))]
        case "application", _, "json":
            data = await _whole(request, limits.request_bytes, limits.seconds, budget)
            found, values = await run_in_threadpool(_of_json, data, settings, most)
            given = kind.parse(values).model_dump(exclude_unset=True)
            options = kind.parse(query, text=True).model_copy(update=given)
        case _:
            raise Problem("media-type", BODIES)
    if not found:
        raise Problem("invalid", "the request has no image: add a file to the form, or an entry to `images`")
    return found, options


async def _whole(request: Request, limit: int, seconds: float, budget: Budget) -> bytes:
    return b"".join([block async for block in blocks(request, limit, seconds, budget)])


def _of_json(data: bytes, settings: Settings, most: int) -> tuple[list[File], dict[str, Any]]:
    try:
        body = Body.model_validate(parse_object(data), strict=True)
    except ValidationError as error:
        raise first_error(error.errors()) from None
    if len(body.images) > most:
        raise Problem("too-large", f"{len(body.images)} images exceed the limit of {most}")
    return [_file(entry, number, settings) for number, entry in enumerate(body.images, 1)], body.options


def _file(entry: Entry, number: int, settings: Settings) -> File:
    where = f"image {number}"
    if (entry.data is None) == (entry.url is None):
        raise Problem("invalid", f"{where} must have either `data` (base64 or a data: URI) or `url`")
    name = plain_name(entry.name) if entry.name else where
    if entry.data is not None:
        return File(name, _decoded(entry.data, where, settings.limits.image_bytes))
    if not settings.allow_urls:
        raise Problem("urls-off", "this server was started without --allow-urls; send the image itself")
    url = entry.url or ""
    if len(url) > 4096 or not is_url(url):
        raise Problem("invalid", f"{where}: `url` must be an http or https URL of at most 4,096 characters")
    return File(name if entry.name else printable(without_secrets(url)), url=url)


def _decoded(data: str, where: str, limit: int) -> bytes:
    if data[:5].lower() == "data:":
        head, comma, data = data.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise Problem("invalid", f"{where}: a data: URI must be base64, as data:image/jpeg;base64,…")
    data = "".join(data.split())  # encoders break lines after 64 or 76 characters
    if len(data) > math.ceil(limit / 3) * 4:
        raise Problem("too-large", f"{where} exceeds the limit of {limit:,} bytes")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise Problem("invalid", f"{where}: `data` is not base64 (RFC 4648)") from None


def parse_object(body: bytes | str) -> dict[str, Any]:
    """Return the JSON object of a body; Problem for other JSON, invalid or nested too deeply, or with NaN or infinity."""
    try:
        text = body if isinstance(body, str) else body.decode("utf-8")
        table = json.loads(text, parse_constant=int)  # which raises ValueError for NaN and infinity
    except (ValueError, RecursionError):
        raise Problem("malformed", "the body is not valid JSON in UTF-8") from None
    if not isinstance(table, dict):
        raise Problem("malformed", "the body must be a JSON object")
    return table
