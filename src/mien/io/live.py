"""Network streams and IP cameras (RTSP, RTMP, MJPEG over HTTP): reconnect with back-off, and a bounded queue.

A thread decodes and keeps the newest frames only: when inference is slower than the camera, old frames are dropped and the
delay stays constant. Times are seconds of the local clock since the first frame, so they continue after a reconnect.
"""

import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from ..errors import SourceError, reason
from .urls import require_public, without_secrets
from .video import ALL, Closable, Info, Sampling, ToRgb, VideoFrame, choose_stream, displayed_size, import_av

SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtmpt", "udp", "rtp", "srt")
"""URL schemes that are always live streams; `http` and `https` are only where a camera is expected."""

PROTOCOLS = "rtsp,rtsps,rtmp,rtmps,rtmpt,rtp,udp,srt,tcp,tls,http,https,httpproxy,crypto"
FORMATS = "rtsp,rtp,sdp,flv,mpegts,mpjpeg,mjpeg,live_flv,h264,hevc"
"""FFmpeg's protocols and formats that may be used; playlists, which can refer to other hosts and files, are not among them."""


def is_live(url: str) -> bool:
    """Return whether a URL is a live stream by its scheme."""
    return re.match(rf"(?:{'|'.join(SCHEMES)})://", url, re.IGNORECASE) is not None


class LiveStream(Closable):
    """A live stream with the interface of `mien.io.video.Video`.

    Example:
        >>> with LiveStream("rtsp://192.168.1.20/stream1", allow_private=True) as camera:  # doctest: +SKIP
        ...     for frame in camera.frames():
        ...         print(frame.time, frame.pixels.shape)
        ...         break
        0.0 (1080, 1920, 3)
    """

    def __init__(
        self, url: str, *, queue: int = 4, patience: float = 60.0, timeout: float = 20.0, allow_private: bool = False
    ) -> None:
        """Connect; later interruptions are bridged by reconnecting.

        `queue` decoded frames are kept; older ones are dropped. Reconnecting is given up after `patience` seconds without a
        frame; `timeout` is that of a connection, and of a frame before it counts as interrupted. `allow_private` is whether the
        host may have a private, loopback or other non-public address. Raises SourceError: the first connection fails, or the
        address is not public; MissingExtra: PyAV is not installed.
        """
        self.url, self.name = url, without_secrets(url)
        self.patience, self.timeout = patience, timeout
        self.dropped = self.reconnects = 0
        if not allow_private:
            require_public(urlsplit(url).hostname or "", self.name, timeout)
        container, stream = self._connect()
        rate = stream.average_rate or stream.guessed_rate
        self.info = Info(None, float(rate) if rate else None, bool(container.streams.audio))
        self.coded = (stream.codec_context.width, stream.codec_context.height)
        self.notes: tuple[str, ...] = ()
        self._queue: deque[tuple[float, Any] | SourceError] = deque(maxlen=queue)
        self._ready, self._stop = threading.Condition(), threading.Event()
        self._thread = threading.Thread(target=self._decode, args=(container, stream), name="mien live stream", daemon=True)
        self._started = False

    def frames(self, sampling: Sampling = ALL) -> Iterator[VideoFrame]:
        """Yield the selected frames as they arrive. Raises SourceError: no frame arrived for `patience` seconds."""
        if not self._started:
            self._started = True
            self._thread.start()
        convert = ToRgb()
        for index, at, frame in sampling.select(self._timed()):
            yield VideoFrame(index, at, frame, displayed_size(frame, 1), self.name, convert)

    def close(self) -> None:
        """Stop decoding and disconnect."""
        self._stop.set()
        if self._started:
            self._thread.join(1)

    def _timed(self) -> Iterator[tuple[float, Any]]:
        first = None
        while True:
            with self._ready:
                while not self._queue:
                    self._ready.wait(1)
                item = self._queue.popleft()
            if isinstance(item, SourceError):
                raise item
            first = item[0] if first is None else first
            yield item[0] - first, item[1]

    def _put(self, item: tuple[float, Any] | SourceError) -> None:
        with self._ready:
            self.dropped += len(self._queue) == self._queue.maxlen
            self._queue.append(item)
            self._ready.notify()

    def _connect(self) -> tuple[Any, Any]:
        av = import_av()
        options = {"protocol_whitelist": PROTOCOLS, "format_whitelist": FORMATS, "rtsp_transport": "tcp"}
        try:
            container = av.open(self.url, options=options, timeout=(self.timeout, self.timeout), metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            advice = "check the address, the password and that the camera is on"
            raise SourceError(f"{self.name} cannot be opened: {reason(error)}; {advice}", path=self.name) from error
        try:
            return container, choose_stream(container, None, self.name)[0]
        except SourceError:
            container.close()
            raise

    def _decode(self, container: Any, stream: Any) -> None:
        """Decode until closed; after an interruption reconnect, waiting 0.5, 1, 2, … up to 10 s in between."""
        last, pause, failure = time.monotonic(), 0.5, "the stream ended"
        while not self._stop.is_set():
            if container is not None:
                try:
                    for frame in container.decode(stream):
                        if self._stop.is_set():
                            break
                        last, pause = time.monotonic(), 0.5
                        self._put((last, frame))
                except Exception as error:  # Any error of a broken connection leads to a new connection.
                    failure = reason(error)
                with contextlib.suppress(Exception):
                    container.close()
                container = None
            if time.monotonic() - last > self.patience:
                message = f"{self.name}: no frame for {self.patience:g} s ({failure}); check the camera and the network"
                self._put(SourceError(message, path=self.name, value=failure))
                return
            self._stop.wait(pause)
            pause = min(2 * pause, 10.0)
            if not self._stop.is_set():
                with contextlib.suppress(SourceError):
                    container, stream = self._connect()
                    self.reconnects += 1
        if container is not None:
            container.close()
