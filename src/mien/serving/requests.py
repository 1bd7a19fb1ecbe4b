"""Image requests: files of a form, a raw image, or base64 and URLs in JSON, with options."""

import base64
import binascii
import io
import json
import math
from typing import Any, TypeVar

from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.aliases import AliasChoices
from starlette.requests import Request

from ..io.images import printable
from ..io.urls import is_url, without_secrets
from .bodies import Budget, File, blocks, form, media_type, plain_name
from .openapi import Entry
from .options import Options
from .problems import Problem, first_error
from .settings import Settings

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
        table = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Problem("malformed", "the body is not valid JSON in UTF-8") from None
    if not isinstance(table, dict):
        raise Problem("malformed", "the body must be a JSON object")
    return table


def _no_number(name: str) -> float:
    raise ValueError(name)
