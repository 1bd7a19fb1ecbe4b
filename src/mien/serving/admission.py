"""Who may ask, from where, and what every answer carries: the outermost layer of the application.

* The header Host must be a name of this server, where it has names (`settings.hosts_of`): against DNS rebinding.
* A request that a browser sends for a page of another origin is refused unless that origin was allowed (`--cors`): pages cannot
  read the answers of others anyway, but without this they could set a server on this machine to work, and WebSockets know no
  CORS.
* Where tokens are set, /v1 and /metrics need one, compared in constant time. A WebSocket brings it in its first message, since
  browsers cannot give it headers.
* Answers carry a strict Content-Security-Policy and its kin, and errors of every kind are problems (RFC 9457).
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics
from .problems import Problem, unforeseen
from .settings import Settings

POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob:", "media-src 'self' blob:",
    "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
))  # fmt: skip
"""Content-Security-Policy of every answer: nothing inline, nothing from elsewhere."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every answer; Cache-Control unless the answer has its own."""

GUARDED = ("/v1/", "/metrics")
"""Beginnings of the paths that need a token, where there are tokens."""


def allows(tokens: Sequence[str], given: str) -> bool:
    """Return whether a token is among those allowed, in a time that does not tell how much of it is right."""
    digest = hashlib.sha256(given.encode("utf-8", "surrogatepass")).digest()
    found = False
    for token in tokens:
        found |= hmac.compare_digest(digest, hashlib.sha256(token.encode()).digest())
    return found


class Admission:
    """ASGI middleware; see the module's text."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request or WebSocket, then hand it on."""
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, status = time.monotonic(), 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if self.settings.cors:
                    headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            await send(message)

        try:
            if problem := self._refusal(scope):
                await problem.response()(scope, receive, dressed)
            else:
                await self.app(scope, receive, dressed)
        except Exception as error:
            if status:  # the answer has begun: all that is left is to end the connection
                raise
            await unforeseen(error).response()(scope, receive, dressed)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "other"
            self.metrics.count("mien_requests_total", route=route, method=method, status=str(status))
            self.metrics.observe("mien_request_seconds", time.monotonic() - started, route=route)

    def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        if problem := self._foreign(headers, safe=scope["method"] in ("GET", "HEAD", "OPTIONS")):
            return problem
        if self.settings.tokens and scope["path"].startswith(GUARDED) and scope["method"] != "OPTIONS":
            kind, _, token = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not allows(self.settings.tokens, token.strip()):
                detail = "send a token of this server in the header Authorization: Bearer TOKEN"
                return Problem("unauthorised", detail, {"WWW-Authenticate": "Bearer"})
        return None

    def _foreign(self, headers: Headers, *, safe: bool) -> Problem | None:
        host = headers.get("host", "")
        if self.settings.hosts and _name(host) not in self.settings.hosts:
            return Problem("foreign-host", "start the server with --allow-host to let it be reached by this name")
        origin = headers.get("origin")
        if safe or origin is None or "*" in self.settings.cors or origin in self.settings.cors:
            return None
        if origin != "null" and _location(origin) == host.lower():
            return None
        return Problem("foreign-origin", "start the server with --cors ORIGIN to let pages of another origin ask")

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._foreign(Headers(scope=scope), safe=False):
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: the handshake answers 403
            return
        await self.app(scope, receive, send)


def _name(host: str) -> str:
    """Return the host of a header Host without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _location(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
