"""Errors as RFC 9457 tells them: `application/problem+json` with type, title, status and detail.

A problem says what its sender did and can change. What only concerns the server, a path, a trace or the text of an unexpected
exception, goes to the server's log and never into an answer.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

log = logging.getLogger("mien.serving")

PROBLEMS: dict[str, tuple[int, str]] = {
    "malformed": (400, "The request cannot be understood"),
    "unauthorised": (401, "A valid token is needed"),
    "foreign-origin": (403, "Pages of that origin may not ask here"),
    "urls-off": (403, "Images are not fetched from URLs here"),
    "not-found": (404, "There is nothing here"),
    "method": (405, "This cannot be done here"),
    "too-slow": (408, "The request took too long to arrive"),
    "too-large": (413, "The request is too large"),
    "media-type": (415, "This kind of content is not taken"),
    "foreign-host": (421, "This server is not reached by that name"),
    "invalid": (422, "A value does not fit"),
    "busy": (429, "More was asked than can be done now"),
    "internal": (500, "Something went wrong here"),
    "unavailable": (501, "This server cannot do that"),
    "time-out": (503, "The answer was not ready in time"),
}
"""Name (the end of `type`) → status and title."""

TYPE = "urn:mien:problem:"
MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, kw_only=True)
class ProblemDetails:
    """What every error answer holds."""

    type: str
    """`urn:mien:problem:` and the name of the problem."""
    title: str
    """The problem, in words that are always the same."""
    status: int
    """HTTP status."""
    detail: str
    """What was wrong this time, and what to do."""


class Problem(Exception):
    """An error that its sender is told: a name of `PROBLEMS`, what was wrong, and headers of the answer."""

    def __init__(self, name: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.name, self.detail, self.headers = name, detail, dict(headers or {})
        self.status, self.title = PROBLEMS[name]

    def to_dict(self) -> dict[str, Any]:
        """Return the members of the JSON object."""
        return {"type": TYPE + self.name, "title": self.title, "status": self.status, "detail": self.detail}

    def response(self) -> Response:
        """Return the answer."""
        body = json.dumps(self.to_dict(), ensure_ascii=False).encode("utf-8", "backslashreplace")
        return Response(body, self.status, self.headers, MEDIA_TYPE)


def busy(detail: str, seconds: float) -> Problem:
    """Return the problem of a queue that is full, with the time after which it is worth asking again."""
    return Problem("busy", detail, {"Retry-After": str(max(1, min(60, round(seconds + 0.5))))})


def install(app: FastAPI) -> None:
    """Let every error of an application answer as a problem."""

    @app.exception_handler(Problem)
    async def told(request: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def raised(request: Request, error: HTTPException) -> Response:
        names = {status: name for name, (status, _) in reversed(PROBLEMS.items())}
        name = names.get(error.status_code, "malformed" if error.status_code < 500 else "internal")
        detail = {"not-found": "no such address; GET /openapi.json lists them", "method": "the address takes other methods"}
        text = detail.get(name, HTTPStatus(error.status_code).phrase)
        return Problem(name, text, error.headers or {}).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return Problem("invalid", f"{where}: {first['msg']}"[:300]).response()

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return unforeseen().response()  # Starlette hands the exception on to the server, which logs it


def unforeseen(error: BaseException | None = None) -> Problem:
    """Return what may be said of an unexpected exception, and log it if it is given."""
    if error is not None:
        log.error("unexpected error", exc_info=error)
    return Problem("internal", "the error was logged; trying again will likely not help")
