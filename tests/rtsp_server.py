"""A small RTSP server on loopback: H.264 over RTP, interleaved in the RTSP connection as most clients ask for it."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    "a=fmtp:96 packetization-mode=1\r\na=control:track\r\n"
)


@dataclass
class Camera:
    """Serves the same frames to each client, then closes the connection."""

    frames: list[np.ndarray]
    rate: float = 50.0
    """Frames per second as sent."""
    clients: int = 0
    """Connections that were played so far."""
    limit: int = 1000
    """Connections that are played; later ones are refused."""
    port: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/stream"

    def serve(self, listener: socket.socket) -> None:
        while not self._stop.is_set():
            try:
                client, _ = listener.accept()
            except TimeoutError:
                continue
            with client:
                try:
                    if self.clients < self.limit:
                        self._session(client)
                except OSError:
                    pass

    def _session(self, client: socket.socket) -> None:
        client.settimeout(5)
        text = b""
        while not self._stop.is_set():
            while b"\r\n\r\n" not in text:
                data = client.recv(4096)
                if not data:
                    return
                text += data
            request, text = text.split(b"\r\n\r\n", 1)
            method = request.split(b" ", 1)[0].decode()
            number = re.search(rb"CSeq: *(\d+)", request, re.IGNORECASE)
            lines = [f"CSeq: {number[1].decode() if number else 0}", "Session: 1"]
            body = ""
            if method == "OPTIONS":
                lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
            elif method == "DESCRIBE":
                body = SDP
                lines += ["Content-Type: application/sdp", f"Content-Base: {self.url}/", f"Content-Length: {len(body)}"]
            elif method == "SETUP":
                lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
            client.sendall(("RTSP/1.0 200 OK\r\n" + "\r\n".join(lines) + "\r\n\r\n" + body).encode())
            if method == "PLAY":
                self.clients += 1
                self._play(client)
                return

    def _play(self, client: socket.socket) -> None:
        coder: Any = av.CodecContext.create("libx264", "w")
        coder.width, coder.height, coder.pix_fmt = self.frames[0].shape[1], self.frames[0].shape[0], "yuv420p"
        coder.framerate, coder.options = 25, {"preset": "ultrafast", "tune": "zerolatency", "g": "5"}
        sequence = 0
        for number, pixels in enumerate(self.frames):
            if self._stop.is_set():
                return
            frame: Any = av.VideoFrame.from_ndarray(pixels)
            frame.pts = number
            data = b"".join(bytes(packet) for packet in coder.encode(frame))
            units = [unit for unit in re.split(rb"\x00\x00\x00?\x01", data) if unit]
            for unit in units:
                header = struct.pack(">BBHII", 0x80, 96 | (0x80 if unit is units[-1] else 0), sequence, number * 3600, 7)
                client.sendall(struct.pack(">cBH", b"$", 0, len(header) + len(unit)) + header + unit)
                sequence = (sequence + 1) % 65536
            time.sleep(1 / self.rate)


@contextmanager
def camera(frames: list[np.ndarray], **options: Any) -> Iterator[Camera]:
    """Run a server in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        server = Camera(frames, port=listener.getsockname()[1], **options)
        thread = threading.Thread(target=server.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server._stop.set()
            thread.join(10)
