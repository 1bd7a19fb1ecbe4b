"""HTTP connections with a time limit for request heads, against clients that send a byte a minute (Slowloris)."""

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # uvicorn declares the protocol that it selects as a bare `asyncio.Protocol`
    from uvicorn.protocols.http.h11_impl import H11Protocol as AutoHTTPProtocol
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol


class HeadTimeout(AutoHTTPProtocol):
    """uvicorn's HTTP protocol that closes a connection whose request head is not complete in time.

    uvicorn limits the idle time between requests only. The timer runs from the connection, or from the first byte of a later
    request, until the head is complete; a body has its own limit (`Limits.seconds`).
    """

    seconds = 10.0  # time limit of a head

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the timer of the first head."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Stop the timer when the head is complete, start it when another head begins."""
        super().data_received(data)
        if self.transport.get_protocol() is not self:  # a WebSocket took the connection over
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._timer is None and not self.transport.is_closing():
            self._start()

    def on_response_complete(self) -> None:
        """Stop the timer between requests: uvicorn's keep-alive limit applies there."""
        self._stop()
        super().on_response_complete()

    def handle_websocket_upgrade(self, *arguments: Any, **options: Any) -> None:
        """Stop the timer: the WebSocket protocol takes the connection over."""
        self._stop()
        super().handle_websocket_upgrade(*arguments, **options)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop()
        super().connection_lost(exc)

    def _start(self) -> None:
        self._timer = self.loop.call_later(self.seconds, self._expire)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()
