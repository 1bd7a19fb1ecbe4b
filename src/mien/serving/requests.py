"""What a request to read images brings: files of a form, or base64 and URLs in JSON, and the options beside them."""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Any

from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request

from ..io.images import printable
from ..io.urls import is_url, without_secrets
from .bodies import Budget, File, blocks, form, media_type, plain_name, whole
from .options import Options
from .problems import Problem
from .settings import Settings


async def iter_images(request: Request, settings: Settings, budget: Budget) -> tuple[list[File], Options]:
    """Return the images and options of a request.

    Args:
        request: multipart/form-data or application/json.
        settings: for its limits and whether URLs are taken.
        budget: charged with the body; the caller gives that back.

    Raises:
        Problem: anything that does not fit.
    """
    limits = settings.limits
    kind = media_type(request)
    if kind == "multipart/form-data":
        arriving = blocks(request, limits.request_bytes, limits.seconds, budget)
        files, fields = await form(request, arriving, files=limits.images, file_bytes=limits.image_bytes)
        found = [File(name, data) for name, data in files if isinstance(data, bytearray)]
        options = Options.parse(fields, text=True)
    elif kind == "application/json":
        body = await whole(request, limits.request_bytes, limits.seconds, budget)
        found, options = await run_in_threadpool(_of_json, body, settings)
    else:
        raise Problem("media-type", "send multipart/form-data with one file or more, or application/json")
    if not found:
        raise Problem("invalid", "the request holds no image: add a file to the form, or an entry to `images`")
    return found, options


def _of_json(body: bytearray, settings: Settings) -> tuple[list[File], Options]:
    table = parse_object(body)
    unknown = sorted(table.keys() - {"images", "options"})
    if unknown:
        raise Problem("invalid", f"there is no field {unknown[0][:60]!r}; known: images, options")
    entries, chosen = table.get("images"), table.get("options", {})
    if not isinstance(entries, list) or not isinstance(chosen, dict):
        raise Problem("invalid", "`images` must be a list, and `options` an object where it is given")
    if len(entries) > settings.limits.images:
        raise Problem("too-large", f"{len(entries)} images are more than the limit of {settings.limits.images}")
    options = Options.parse(chosen)
    return [_entry(entry, number, settings) for number, entry in enumerate(entries, 1)], options


def _entry(entry: Any, number: int, settings: Settings) -> File:
    where = f"image {number}"
    if not isinstance(entry, dict) or not entry.keys() <= {"name", "data", "url"} or ("data" in entry) == ("url" in entry):
        raise Problem("invalid", f"{where} must be an object with either `data` (base64) or `url`, and `name` if you like")
    if not all(isinstance(value, str) for value in entry.values()):
        raise Problem("invalid", f"{where}: name, data and url are texts")
    name = plain_name(entry["name"]) if entry.get("name") else where
    if "url" in entry:
        if not settings.allow_urls:
            raise Problem("urls-off", "this server was started without --allow-urls; send the image itself")
        if len(entry["url"]) > 4096 or not is_url(entry["url"]):
            raise Problem("invalid", f"{where}: `url` is no http or https URL of at most 4,096 characters")
        return File(
            plain_name(entry["name"]) if entry.get("name") else printable(without_secrets(entry["url"])), url=entry["url"]
        )
    if len(entry["data"]) > math.ceil(settings.limits.image_bytes / 3) * 4:
        raise Problem("too-large", f"{where} holds more than the limit of {settings.limits.image_bytes:,} bytes")
    try:
        return File(name, base64.b64decode(entry["data"], validate=True))
    except (binascii.Error, ValueError):
        raise Problem("invalid", f"{where}: `data` is not base64 (RFC 4648, without line breaks)") from None


def parse_object(body: bytes | bytearray | str) -> dict[str, Any]:
    """Return the JSON object of a body.

    Raises:
        Problem: no JSON, not an object, nested without end, or with numbers that JSON does not have.
    """
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
