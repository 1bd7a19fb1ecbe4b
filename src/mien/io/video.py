"""Frames of a video or a camera, one at a time and in constant memory, through PyAV (FFmpeg).

Times are exact: presentation stamp × time base, minus the start of the file, so variable frame rates need no care. They never
fall: where stamps begin anew, as in transport streams put together, time goes on. Pixels are as a player shows them: turned by
the rotation flag, stretched to square pixels. `recording.py` writes videos.

Only containers that hold videos themselves are opened (`CONTAINERS`): play lists, which may name other files and hosts, are
not.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..errors import ConfigError, MissingExtra, SourceError

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "ogg", "asf", "gif", "mxf",
    "h264", "hevc", "m4v", "ivf", "rm", "dv", "wtv", "nut",
)  # fmt: skip
"""What may be opened, as FFmpeg names it."""

EXTENSIONS = frozenset({
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".mts", ".m2ts", ".mpg", ".mpeg", ".mpe", ".m2v",
    ".flv", ".ogv", ".ogm", ".wmv", ".asf", ".mxf", ".ivf", ".h264", ".264", ".hevc", ".265", ".dv", ".vob",
})  # fmt: skip
# `.ts` is left out: in a folder it is more often source code
"""What a folder is searched for."""

CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}
"""Platform → FFmpeg's input and what it calls a camera."""

TOLERANCE = 1e-6
"""Seconds by which a stamp may miss a wanted time: stamps are exact, numbers typed by people are not."""

JITTER = 0.2
"""Seconds by which a stamp may fall behind that of the frame before; if it is more, stamps have begun anew."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames of a video are wanted."""

    every: int = 1
    """Every n-th frame, from the first one at or after `start`."""
    fps: float | None = None
    """At most this many frames a second: the first at or after each tick of that clock. None: all."""
    start: float | None = None
    """Seconds from the start of the video before which nothing is read."""
    end: float | None = None
    """Seconds from the start of the video; the first frame at or after it is not read."""

    def __post_init__(self) -> None:
        if not 1 <= self.every < math.inf or self.every != int(self.every):
            raise ConfigError(f"every={self.every} makes no sense; 1 reads each frame, 2 each second one")
        if self.fps is not None and not 0 < self.fps < 10_000:
            raise ConfigError(f"fps={self.fps} makes no sense; give frames a second, such as 5 or 0.5")
        if self.fps is not None and self.every != 1:
            raise ConfigError("every and fps both thin out the frames; give one of them")
        if not 0 <= (self.start or 0) < math.inf or (self.end is not None and not self.end > (self.start or 0)):
            raise ConfigError(f"nothing lies between start={self.start} and end={self.end}; both count from the video's start")

    def frames(self, duration: float | None, rate: float | None) -> int | None:
        """Estimate how many frames that is, of a video with this duration in seconds and frame rate; None if unknown."""
        if duration is None or rate is None:
            return None
        length = max(min(duration, self.end or duration) - (self.start or 0), 0)
        return max(round(length * min(rate / self.every, self.fps or rate)), 1)


@dataclass(frozen=True, slots=True)
class Info:
    """What a video says about itself."""

    duration: float | None
    """Seconds; None for a camera, or where the file does not say."""
    rate: float | None
    """Mean frames a second, where the file says."""
    audio: bool
    """Whether there is sound."""


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """One image of a video. Its pixels are brought to RGB when they are asked for, so a frame passed over costs little."""

    index: int
    """Number of the frame among all from `Sampling.start` on, those that were left out included."""
    time: float
    """Seconds from the start of the video."""
    decoded: Any = field(repr=False)
    """The frame as PyAV gives it."""
    size: tuple[int, int]
    """Width and height as shown."""
    name: str = "<video>"
    """What messages call the video."""

    @property
    def damaged(self) -> bool:
        """Whether the decoder had to guess parts of it."""
        return bool(self.decoded.is_corrupt)

    @property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, upright, contiguous and read-only; made anew each time.

        Raises:
            SourceError: its colors are given in a way that FFmpeg cannot bring to RGB.
        """
        turns = self.decoded.rotation // 90 % 4
        width, height = self.size[::-1] if turns % 2 else self.size
        stretch = {} if (width, height) == (self.decoded.width, self.decoded.height) else {"width": width, "height": height}
        try:
            decoded = self.decoded.to_ndarray(format="rgb24", **stretch)
        except (OSError, ValueError, import_av().error.FFmpegError) as error:
            raise SourceError(
                f"{self.name}: frame {self.index} cannot be brought to RGB ({_reason(error)}); convert its colors to BT.709"
            ) from error
        pixels = np.ascontiguousarray(np.rot90(decoded, turns))
        pixels.flags.writeable = False
        return pixels


class Video:
    """A video or camera, opened. Iterate once for its frames, or use `frames`; close it, or use it in a `with` block.

    Example:
        >>> with Video("clip.mp4") as video:
        ...     for frame in video.frames(Sampling(fps=5)):
        ...         print(frame.time, frame.pixels.shape)
        0.0 (160, 192, 3)
        0.2 (160, 192, 3)
    """

    def __init__(self, source: Any, name: str | None = None, *, threads: int = 1) -> None:
        """Open a video.

        Args:
            source: a path, the bytes of a file, an open binary file, or the number of a camera.
            name: what messages call it.
            threads: threads that decode; 0 lets FFmpeg choose.

        Raises:
            SourceError: there is no such file or camera, or it is no video.
            MissingExtra: PyAV is not installed.
        """
        self.name = name or (f"camera {source}" if isinstance(source, int) else _name(source))
        self.container = _open_camera(source) if isinstance(source, int) else _open(source, self.name)
        streams = [stream for stream in self.container.streams.video if not _is_cover(stream)]
        coded = streams[0].codec_context if streams else None
        if coded is None or not coded.width:
            sound = bool(self.container.streams.audio)
            self.close()
            if streams and coded is None:
                raise SourceError(f"{self.name} is coded in a way that this FFmpeg does not know; convert it to H.264 in MP4")
            raise SourceError(f"{self.name} holds no video{', only sound' if sound else ''}; name another file")
        self._stream = streams[0]
        self._stream.codec_context.thread_count = threads
        if threads != 1:
            self._stream.thread_type = "AUTO"
        self.origin = (self.container.start_time or 0) / 1_000_000
        self._live = isinstance(source, int)
        rate = self._stream.average_rate or self._stream.guessed_rate
        length = self._length()
        self.info = Info(length, float(rate) if rate else None, bool(self.container.streams.audio))

    @property
    def coded(self) -> tuple[int, int]:
        """Width and height that the header promises, before turning and stretching; known before anything is decoded."""
        return self._stream.codec_context.width, self._stream.codec_context.height

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.frames()

    def frames(self, sampling: Sampling = Sampling()) -> Iterator[VideoFrame]:
        """Yield the wanted frames in the order they are shown.

        Raises:
            SourceError: after the last frame that could be read, if the file ends before its time.
        """
        due, given, last = -math.inf, False, None
        start, end = sampling.start or 0.0, sampling.end
        if start:
            self.seek(start)
        for index, frame in enumerate(self._decoded(start)):
            time = self._time(frame, last)
            if last is None and (self._live or time < 0):  # the first stamp may lie before what the file calls its start
                self.origin += time
                time = 0.0
            elif last is not None and time < last:
                if last - time > JITTER:
                    self.origin -= last + 1 / (self.info.rate or 25) - time
                time = max(self._time(frame, last), last)
            if end is not None and time >= end - TOLERANCE:
                break
            last = time
            if index % sampling.every or time < due - TOLERANCE:
                continue
            if sampling.fps is not None:
                due = (math.floor((time + TOLERANCE) * sampling.fps) + 1) / sampling.fps
            given = True
            yield VideoFrame(index, time, frame, self._size(frame), self.name)
        else:
            self._check_end(last)
        if not given:
            where = (f" from {start:g} s" if start else "") + ("" if end is None else f" to {end:g} s")
            raise SourceError(f"{self.name} has no frames{where}; check the file, start and end")

    def close(self) -> None:
        """Close the file or camera."""
        self.container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _decoded(self, start: float) -> Iterator[Any]:
        """Yield decoded frames from `start` on; packets that make no sense are passed over."""
        import av

        packets = self.container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.InvalidDataError, av.error.EOFError):  # the end, proper or not: see `_check_end`
                return
            except (OSError, av.error.FFmpegError) as error:
                raise SourceError(
                    f"{self.name} cannot be read on: {_reason(error)}; see that it is whole and still there"
                ) from error
            try:
                frames = packet.decode()
            except (av.error.InvalidDataError, av.error.EOFError):
                continue
            except (OSError, av.error.FFmpegError) as error:
                raise SourceError(f"{self.name} cannot be decoded: {_reason(error)}; convert it to H.264 in MP4") from error
            for frame in frames:
                if not start or self._time(frame, None) >= start - TOLERANCE:
                    yield frame

    def _time(self, frame: Any, last: float | None) -> float:
        if frame.pts is None:  # some old files carry no stamps: go on at the mean rate
            return 0.0 if last is None else last + 1 / (self.info.rate or 25)
        return float(frame.pts * frame.time_base) - self.origin

    def _size(self, frame: Any) -> tuple[int, int]:
        """Width and height of a frame as a player shows it; some videos change it on the way."""
        width, height = round(frame.width * (self._stream.sample_aspect_ratio or 1)), frame.height
        return (height, width) if frame.rotation // 90 % 2 else (width, height)

    def _length(self) -> float | None:
        if self._live:
            return None
        if self._stream.duration is not None:
            return float(self._stream.duration * self._stream.time_base)
        return None if self.container.duration is None else self.container.duration / 1_000_000

    def seek(self, start: float) -> None:
        """Go to the key frame before `start`, in seconds; a video in which that cannot be done stays where it is."""
        import av

        with contextlib.suppress(av.error.FFmpegError, OSError):  # what cannot be sought is decoded from where it stands
            self.container.seek(int((start + self.origin) * 1_000_000))

    def _check_end(self, last: float | None) -> None:
        """Raise if the file promised more: only where it says how long this stream is, not all streams together."""
        length, rate = self.info.duration, self.info.rate or 25
        certain = self._stream.duration is not None or not self.info.audio
        if length is None or not certain or last is None:
            return
        if last + 1 / rate < length - max(5 / rate, 0.2):
            raise SourceError(
                f"{self.name} ends after {last:.2f} of {length:.2f} s: the file is truncated or damaged; get it anew"
            )


def frames(
    source: Any,
    *,
    every: int = 1,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    threads: int = 1,
) -> Iterator[VideoFrame]:
    """Open a video or camera and yield its frames; see `Video` and `Sampling`.

    Raises:
        SourceError: it cannot be opened, or ends before its time (after the last frame that could be read).
        ConfigError: the wanted frames make no sense.
    """
    sampling = Sampling(every, fps, start, end)
    with Video(source, threads=threads) as video:
        yield from video.frames(sampling)


def is_video(source: Any) -> bool:
    """Return whether a path, or the bytes of a file, hold a video: told by the content, else by the extension."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bool(looks_like_video(bytes(source[:512])))
    path = Path(os.fsdecode(source))
    try:
        if not path.is_file():
            return path.suffix.lower() in EXTENSIONS
        with path.open("rb") as file:
            known = looks_like_video(file.read(512))
    except (OSError, ValueError):
        known = None
    return path.suffix.lower() in EXTENSIONS if known is None else known


def looks_like_video(head: bytes) -> bool | None:
    """Return True for the first 512 bytes of a video, False for those of an image, None for neither."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        return True
    starts = (b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"0&\xb2u\x8ef\xcf\x11", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"DKIF")
    if head.startswith(starts) or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return True
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:  # MPEG transport stream
        return True
    images = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
    return False if head.startswith(images) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") else None


def _name(source: Any) -> str:
    return "<video>" if isinstance(source, (bytes, bytearray, memoryview, io.IOBase)) else os.fspath(source)


def _open(source: Any, name: str) -> Any:
    if isinstance(source, (bytes, bytearray, memoryview)):
        file: Any = io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        path = os.fsdecode(source)
        if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on a name too long
            what = "is a folder, not a video" if os.path.isdir(path) else "does not exist or is no file"  # noqa: PTH112
            raise SourceError(f"{name} {what}")
        file = f"file:{os.path.abspath(path)}"  # noqa: PTH100 - without the prefix a name such as "concat:a" is a protocol
    else:
        file = source
    av = import_av()  # only now: a missing file is the likelier mistake, and the easier one to mend
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS)}
    try:
        return av.open(file, options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise SourceError(f"{name} is not a video that can be read: {_reason(error)}; see whether others play it") from error


def _open_camera(number: int) -> Any:
    av = import_av()
    if sys.platform not in CAMERAS:
        raise SourceError(f"cameras are not supported on {sys.platform}; read a file instead")
    kind, pattern = CAMERAS[sys.platform]
    if sys.platform == "linux" and not Path(pattern.format(number)).exists():
        known = sorted(int(path.name[5:]) for path in Path("/dev").glob("video[0-9]*"))
        there = f"there are: {', '.join(map(str, known))}" if known else "this machine has none"
        raise SourceError(f"there is no camera {number}; {there}")
    try:
        return av.open(pattern.format(number), format=kind)
    except (av.error.FFmpegError, OSError) as error:
        raise SourceError(f"camera {number} cannot be opened: {_reason(error)}; see what else uses it") from error


def import_av() -> Any:
    """Return the module `av`, which from then on says nothing by itself.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise MissingExtra("av", "video") from None
    av.logging.set_level(None)
    return av


def _is_cover(stream: Any) -> bool:
    import av

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]
