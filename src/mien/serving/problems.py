"""Errors as RFC 9457 problems: `application/problem+json` with type, title, status and detail.

A problem describes what the client did and can change. Paths, traces and the text of unexpected exceptions go to the server's
log and never into a response.
"""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

log = logging.getLogger("mien.serving")

PROBLEMS: dict[str, tuple[int, str]] = {
    "malformed": (400, "Bad request"),
    "unauthorized": (401, "Unauthorized"),
    "foreign-origin": (403, "Origin not allowed"),
    "urls-off": (403, "Image URLs are disabled"),
    "not-found": (404, "Not found"),
    "method": (405, "Method not allowed"),
    "too-slow": (408, "Request timeout"),
    "too-large": (413, "Content too large"),
    "media-type": (415, "Unsupported media type"),
    "foreign-host": (421, "Host not allowed"),
    "invalid": (422, "Invalid value"),
    "busy": (429, "Too many requests"),
    "internal": (500, "Internal server error"),
    "time-out": (503, "Service unavailable"),
}
"""Name (the end of `type`) → status and title."""

TYPE = "urn:mien:problem:"
MEDIA_TYPE = "application/problem+json"


class ProblemDetails(BaseModel):
    """The body of every error response (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: str = Field(description=f"`{TYPE}` and the name of the problem.")
    title: str = Field(description="The problem in constant words.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="What was wrong this time, and what to do.")


class Problem(Exception):
    """An error reported to the client: a name of `PROBLEMS`, the detail, and response headers."""

    def __init__(self, name: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.name, self.detail, self.headers = name, detail, dict(headers or {})
        self.status, self.title = PROBLEMS[name]

    def to_dict(self) -> dict[str, Any]:
        """Return the members of the JSON object."""
        return {"type": TYPE + self.name, "title": self.title, "status": self.status, "detail": self.detail}

    def response(self) -> Response:
        """Return the HTTP response."""
        body = json.dumps(self.to_dict(), ensure_ascii=False).encode("utf-8", "backslashreplace")
        return Response(body, self.status, self.headers, MEDIA_TYPE)


def busy(detail: str, seconds: float) -> Problem:
    """Return the problem of a full queue, with the time to wait in Retry-After."""
    return Problem("busy", detail, {"Retry-After": str(max(1, min(60, round(seconds + 0.5))))})


def install(app: FastAPI) -> None:
    """Turn every error of an application into a problem response."""

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        names = {status: name for name, (status, _) in reversed(PROBLEMS.items())}
        name = names.get(error.status_code, "malformed" if error.status_code < 500 else "internal")
        details = {"not-found": "no such path; GET /openapi.json lists them", "method": "this path takes other methods"}
        return Problem(name, details.get(name, HTTPStatus(error.status_code).phrase), error.headers or {}).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return first_error(error.errors(), skip=1).response()

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return unforeseen().response()  # Starlette passes the exception on to the server, which logs it


def first_error(errors: Any, skip: int = 0) -> Problem:
    """Return the first of pydantic's errors as a problem; `skip` drops the first parts of its location."""
    where = ".".join(str(part)[:60] for part in errors[0]["loc"][skip:])
    return Problem("invalid", f"{where}: {errors[0]['msg']}"[:300])


def unforeseen(error: BaseException | None = None) -> Problem:
    """Return the problem of an unexpected exception, and log the exception if it is given."""
    if error is not None:
        log.error("unexpected error", exc_info=error)
    return Problem("internal", "the error was logged; the same request will likely fail again")
