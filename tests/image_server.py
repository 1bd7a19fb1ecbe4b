"""A server on 127.0.0.1 that answers with an image, a redirect, a truncated or slow response, by path."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Server = ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Outputs by path; what it was asked is kept in `server.asked`."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            getattr(self, "get_" + self.path.strip("/").partition("?")[0].partition("/")[0].replace("-", "_"), self.get_404)()

    def answer(self, body: bytes = b"", status: int = 200, **headers: Any) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def get_404(self) -> None:
        self.answer(b"gone", 404)

    def get_photo(self) -> None:
        self.answer(self.server.photo, Content_Type="image/png")

    def get_page(self) -> None:
        self.answer(b"<!doctype html><title>Please log in</title>", Content_Type="image/png")

    def get_error(self) -> None:
        self.answer(b"", 500)

    def get_empty(self) -> None:
        self.answer()

    def get_gzip(self) -> None:
        self.answer(b"\x1f\x8b", Content_Encoding="gzip")

    def get_huge(self) -> None:
        self.answer(b"", Content_Length=10**12)

    def get_short(self) -> None:
        self.answer(self.server.photo[:1000], Content_Length=len(self.server.photo))

    def get_chunked(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        photo = self.server.photo
        for at in range(0, len(photo), 100_000):
            part = photo[at : at + 100_000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def get_endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.over.is_set():
            self.wfile.write(b"\0" * 65_536)

    def get_stall(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"first")
        self.server.over.wait(30)

    def get_drip(self) -> None:
        """One byte at a time, each well within any timeout of a single read."""
        self.send_response(200)
        self.end_headers()
        while not self.server.over.wait(0.02):
            self.wfile.write(b"x")

    def get_drip_header(self) -> None:
        while not self.server.over.wait(0.02):
            self.wfile.write(b"H")

    def get_garbage(self) -> None:
        self.wfile.write(b"220 mail.example ESMTP\r\n")

    def get_hang_up(self) -> None:
        pass

    def get_to(self) -> None:
        """`/to/PLACE` redirects to PLACE, with a body that nobody should wait for."""
        self.answer(b"moved", int(self.headers.get("X-Status", 302)), Location=self.path.partition("/to/")[2])

    def get_loop(self) -> None:
        self.answer(b"", 301, Location="/loop")

    def get_hops(self) -> None:
        left = int(self.path.rpartition("/")[2])
        self.answer(b"", 307, Location=f"/hops/{left - 1}" if left > 1 else "/photo")

    def get_nowhere(self) -> None:
        self.answer(b"", 302)

    def log_message(self, *arguments: Any) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, address: Any) -> None:
        """Clients that leave early are the point of some tests."""


def serve(
    photo: bytes, wrap: Callable[[socket.socket], socket.socket] = lambda sock: sock, family: int = socket.AF_INET
) -> Any:
    kind = type("AnyServer", (QuietServer,), {"address_family": family})
    server = kind(("127.0.0.1" if family == socket.AF_INET else "::1", 0), Handler)
    server.socket = wrap(server.socket)
    server.asked, server.over, server.photo = [], threading.Event(), photo
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def stop(server: Any) -> None:
    server.over.set()
    server.shutdown()
    server.server_close()
