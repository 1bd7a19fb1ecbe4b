"""Access checks and security headers: the outermost layer of the application.

* The Host header must be a name of this server (`settings.hosts_of`), against DNS rebinding. Starlette's TrustedHostMiddleware
  is not used: it splits IPv6 addresses at the first colon, does not know the trailing dot, and answers in plain text.
* A request that a browser sends for a page of another origin is rejected unless `--cors` allows that origin. Such a page cannot
  read the response anyway, but it could keep a local server busy, and CORS does not cover WebSockets.
* With tokens, /v1 and /metrics require one, compared in constant time. A WebSocket sends it in its first message, since
  browsers cannot set its headers.
* Responses carry a strict Content-Security-Policy and related headers; all errors are problems (RFC 9457).
"""

import hashlib
import hmac
import time
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .metrics import Metrics
from .problems import Problem, unforeseen
from .settings import ANY_ADDRESS, Settings, address_of

POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob:", "media-src 'self' blob:",
    "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
))  # fmt: skip
"""Content-Security-Policy of every response: no inline content, no other hosts."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every response, unless it sets its own."""

GUARDED = ("/v1/", "/metrics")  # prefixes of the paths that require a token


def allows(tokens: Sequence[str], given: str) -> bool:
    """Return whether a token is among those allowed, in a time that is independent of how much of it is right."""
    digest = hashlib.sha256(given.encode("utf-8", "surrogatepass")).digest()
    found = False
    for token in tokens:
        found |= hmac.compare_digest(digest, hashlib.sha256(token.encode()).digest())
    return found


class Admission:
    """ASGI middleware; see the module's docstring."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request or WebSocket, then pass it on."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket" and self._foreign(Headers(scope=scope), safe=False):
            await receive()
            await send({"type": "websocket.close", "code": 1008})  # before accepting: the handshake answers 403
        else:
            await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        status: int = 0

        async def with_headers(message: Message) -> None:
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
            if problem := self._rejection(scope):
                await problem.response()(scope, receive, with_headers)
            else:
                await self.app(scope, receive, with_headers)
        except Exception as error:
            if status:  # the response has begun: only the connection can be ended
                raise
            await unforeseen(error).response()(scope, receive, with_headers)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "other"
            self.metrics.requests.labels(route, method, str(status)).inc()
            self.metrics.latency.labels(route).observe(time.monotonic() - started)

    def _rejection(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        if problem := self._foreign(headers, safe=scope["method"] in ("GET", "HEAD", "OPTIONS")):
            return problem
        if self.settings.tokens and scope["path"].startswith(GUARDED) and scope["method"] != "OPTIONS":
            kind, _, token = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not allows(self.settings.tokens, token.strip()):
                detail = "send a token of this server in the header Authorization: Bearer TOKEN"
                return Problem("unauthorized", detail, {"WWW-Authenticate": "Bearer"})
        return None

    def _foreign(self, headers: Headers, *, safe: bool) -> Problem | None:
        host = headers.get("host", "")
        if not _known(host, self.settings.hosts):
            return Problem("foreign-host", "start the server with --allowed-host NAME to serve requests for this name")
        origin = headers.get("origin")
        if safe or origin is None or "*" in self.settings.cors or origin in self.settings.cors:
            return None
        if origin != "null" and _split(origin).netloc.lower() == host.lower():
            return None
        return Problem("foreign-origin", "start the server with --cors ORIGIN to allow pages of another origin")


def _known(host: str, hosts: Sequence[str]) -> bool:
    """Return whether a Host header, with or without a port, is a name of this server."""
    name = (_split(f"//{host}").hostname or "").rstrip(".")
    return not hosts or "*" in hosts or name in hosts or (not ANY_ADDRESS.isdisjoint(hosts) and address_of(name) is not None)


def _split(url: str) -> SplitResult:
    """Return the parts of a URL, empty ones for an invalid URL."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")
