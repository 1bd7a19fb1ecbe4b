"""Write videos through PyAV (FFmpeg), with exact times and the unchanged audio of another video."""

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ConfigError, SourceError, reason
from .files import ADVICE
from .video import Video, import_av

CLOCK = 90_000  # ticks per second of the time stamps; common frame rates are whole numbers of ticks

MP4_SOUND = frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "opus", "libopus", "flac", "alac"})
"""Audio codecs, by FFmpeg's names, that players support in MP4; others need Matroska."""


class Recorder:
    """Writes one video, H.264 in MP4 or Matroska. Use it in a `with` block: the file gets its name at the end.

    If the block raises or the process is killed, the frames so far are in `NAME.part`, and an older `NAME` is unchanged.

    Example:
        >>> with Video("clip.mp4") as video, Recorder("copy.mp4", sound="clip.mp4") as recorder:
        ...     for frame in video.frames():
        ...         recorder.write(frame.pixels, frame.time)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sound: Any = None,
        start: float = 0.0,
        end: float | None = None,
        rate: float | None = None,
        comment: str = "",
        threads: int = 1,
    ) -> None:
        """Open a video, `.mp4` or `.mkv` (see `suffix`); its size is that of the first frame.

        `sound` is a video (path or bytes) whose audio is copied, from `start`, the time in the source that is zero in the copy,
        to `end`, in seconds. `rate`, frames per second, is a hint for the encoder; times are exact in any case. `comment` is
        metadata of the file. Raises ConfigError: the file cannot be written; SourceError: `sound` is not a video; MissingExtra:
        PyAV is not installed.
        """
        av = import_av()
        self.path, self._part = Path(path), Path(f"{os.fspath(path)}.part")
        self.start, self.end = start, end
        self._rate = Fraction(rate or 25).limit_denominator(1001)
        self._threads, self._last = threads, -1
        self._stream: Any = None
        kind = "matroska" if self.path.suffix.lower() == ".mkv" else "mp4"
        self._sound = _Sound(sound, start, end) if sound is not None else None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = av.open(f"file:{self._part.absolute()}", "w", format=kind)
        except (OSError, av.error.FFmpegError) as error:
            if self._sound:
                self._sound.close()
            raise ConfigError(f"{self.path} cannot be written: {reason(error)}; choose another path", path=self.path) from error
        if comment:
            self._file.metadata["comment"] = comment

    def write(self, pixels: NDArray[np.uint8], time: float) -> None:
        """Append a frame (H, W, 3) uint8 RGB, resized to the first, at an increasing `time` in seconds in the source.

        Raises ConfigError: the disk is full.
        """
        import av

        if self._stream is None:
            self._begin(*pixels.shape[1::-1])
        if pixels.shape[1::-1] != self._size:
            pixels = np.asarray(Image.fromarray(pixels).resize(self._size))
        tall, wide = pixels.shape[0] % 2, pixels.shape[1] % 2
        if tall or wide:  # The codec subsamples colors.
            pixels = np.pad(pixels, ((0, tall), (0, wide), (0, 0)), "edge")
        frame: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels, np.uint8))
        self._last = max(round((time - self.start) * CLOCK), self._last + 1)
        frame.pts, frame.time_base = self._last, Fraction(1, CLOCK)
        self._encode(frame, time)

    def close(self) -> None:
        """Finish the file and rename it; without any frame no file is written.

        Raises ConfigError: the disk is full; the frames so far are in `NAME.part`.
        """
        if self._stream is None:
            self.abandon()
            self._part.unlink(missing_ok=True)
            return
        try:
            self._encode(None, np.inf)
        except BaseException:
            self.abandon()
            raise
        with self._errors():
            self._close()
            self._part.replace(self.path)

    def abandon(self) -> None:
        """Close the file without renaming it."""
        with contextlib.suppress(ConfigError), self._errors():  # A full disk was reported before.
            self._close()

    def _encode(self, frame: Any, time: float) -> None:
        """Write a frame, or the delayed frames of the encoder, and the audio up to a time in the source."""
        with self._errors():
            self._file.mux(self._stream.encode(frame))
            if self._sound:
                self._sound.copy(self._file, time)

    def _close(self) -> None:
        try:
            self._file.close()
        finally:
            if self._sound:
                self._sound.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Convert errors of FFmpeg."""
        import av

        try:
            yield
        except (OSError, av.error.FFmpegError) as error:
            raise ConfigError(f"{self.path} cannot be written: {reason(error)}; {ADVICE}", path=self.path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _begin(self, width: int, height: int) -> None:
        import av

        self._size = width, height
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        options = {"crf": "20", "preset": "veryfast"} if codec == "libx264" else {"q": "3"}
        stream = self._file.add_stream(codec, rate=self._rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.codec_context.time_base = Fraction(1, CLOCK)
        stream.codec_context.thread_count = self._threads
        self._stream = stream
        if self._sound:
            self._sound.begin(self._file)


class _Sound:
    """Audio packets of a video, to be copied into another file."""

    def __init__(self, source: Any, start: float, end: float | None) -> None:
        self._video = Video(source)
        container = self._video.container
        self._from = container.streams.audio[0] if container.streams.audio else None
        self._to: Any = None
        self._next: Any = None
        self._start, self._end = start, np.inf if end is None else end
        if start:
            self._video.seek(start)
        self._packets = container.demux(self._from) if self._from else iter(())

    def begin(self, file: Any) -> None:
        """Add the audio stream to a file, before its first packet."""
        if self._from is not None:
            self._to = file.add_stream_from_template(self._from)

    def copy(self, file: Any, until: float) -> None:
        """Copy the audio up to a time in the source."""
        import av

        while self._to is not None:
            try:
                packet = self._next or next(self._packets)
            except (StopIteration, OSError, av.error.FFmpegError):  # The end, or a truncated source.
                return
            self._next = None
            if packet.dts is None or packet.pts is None:
                continue
            time = float(packet.pts * packet.time_base) - self._video.origin
            if time >= self._end:
                self._to = None
            elif time > until:
                self._next = packet
                return
            elif time >= self._start or not self._start:  # Packets before zero prepare the decoder.
                shift = round((self._start + self._video.origin) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = self._to
                file.mux(packet)

    def close(self) -> None:
        """Close the source."""
        self._video.close()


def suffix(source: Any) -> str:
    """Return `.mp4`, or `.mkv` if MP4 does not support the audio of a video."""
    try:
        with Video(source) as video:
            sound = video.container.streams.audio
            return ".mkv" if sound and sound[0].codec_context.name not in MP4_SOUND else ".mp4"
    except SourceError:
        return ".mp4"
