"""Frames of a video or camera, one at a time and in constant memory, through PyAV (FFmpeg).

Times are exact: presentation time stamp × time base, minus the start of the file, so variable frame rates are handled. They
never decrease: where the stamps of a concatenated transport stream restart, time continues. Frames are as players show them,
with the display matrix (rotation and mirroring) applied and with square pixels. `video_writer.py` writes videos, `live.py`
reads network streams.

Only containers of video data are opened (`CONTAINERS`). Playlists, which can refer to other files and hosts, are refused.
"""

import contextlib
import io
import math
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

import numpy as np

from ..errors import ConfigError, MissingExtra, SourceError, reason

T = TypeVar("T")

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "ogg", "asf", "gif", "mxf",
    "h264", "hevc", "m4v", "ivf", "rm", "dv", "wtv", "nut", "obu", "yuv4mpegpipe",
)  # fmt: skip
"""Formats that may be opened, by FFmpeg's names."""

EXTENSIONS = frozenset({
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".mkv", ".webm", ".avi", ".divx", ".mts", ".m2ts", ".mpg", ".mpeg",
    ".mpe", ".m1v", ".m2v", ".flv", ".ogv", ".ogm", ".wmv", ".asf", ".mxf", ".ivf", ".obu", ".h264", ".264", ".avc", ".hevc",
    ".h265", ".265", ".dv", ".vob", ".rm", ".rmvb", ".wtv", ".y4m",
})  # fmt: skip
"""Extensions of video files that a folder is searched for; `.ts` is more often source code."""

CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("dshow", "video={}")}
"""Platform → FFmpeg's input format and pattern of a camera's name."""

TOLERANCE = 1e-6  # seconds by which a time stamp may differ from a requested time
LONGEST = 5_000_000  # frames, 55 hours; a larger estimate is a corrupt header, and `list` would allocate memory for it
JITTER = 0.2  # seconds by which a time stamp may be lower than the one before; a larger step means that the stamps restart


@dataclass(frozen=True, slots=True)
class Sampling:
    """Selection of the frames of a video."""

    every: int = 1  # use every n-th frame, from the first one at or after `start`
    fps: float | None = None
    """Use at most this many frames per second: the first one at or after each tick. None: all. It is the frame rate of numbered
    images and of pages, which have none."""
    start: float | None = None  # start in seconds from the beginning of the video
    end: float | None = None  # end in seconds from the beginning of the video, exclusive
    stream: int | None = None  # number of the video stream in a file with several, from 0. None: the largest one.

    def __post_init__(self) -> None:
        if not 1 <= self.every < math.inf or self.every != int(self.every):
            raise ConfigError(f"every={self.every} must be a whole number of 1 or more", value=self.every)
        if self.fps is not None and not 0 < self.fps < 10_000:
            raise ConfigError(f"fps={self.fps} must be between 0 and 10,000, such as 5 or 0.5", value=self.fps)
        if self.fps is not None and self.every != 1:
            raise ConfigError("every and fps are alternatives; give one of them", value=(self.every, self.fps))
        if not 0 <= (self.start or 0) < math.inf or (self.end is not None and not self.end > (self.start or 0)):
            message = f"start={self.start} and end={self.end} select no frame; both are in seconds from the start of the video"
            raise ConfigError(message, value=(self.start, self.end))
        if self.stream is not None and self.stream < 0:
            raise ConfigError(f"stream={self.stream} must be 0 or more", value=self.stream)

    def frames(self, duration: float | None, rate: float | None) -> int | None:
        """Estimate the number of frames for a duration in seconds and a frame rate; None if unknown."""
        if duration is None or rate is None:
            return None
        length = max(min(duration, self.end or duration) - (self.start or 0), 0)
        number = max(round(length * min(rate / self.every, self.fps or rate)), 1)
        return number if number < LONGEST else None

    def select(self, frames: Iterable[tuple[float, T]]) -> Iterator[tuple[int, float, T]]:
        """Yield number (from `start` on), time and frame of the selected ones of (time, frame) pairs in order."""
        index, due = -1, -math.inf
        for time, frame in frames:
            if self.end is not None and time >= self.end - TOLERANCE:
                return
            if time < (self.start or 0) - TOLERANCE:
                continue
            index += 1
            if index % self.every or time < due - TOLERANCE:
                continue
            if self.fps is not None:
                due = (math.floor((time + TOLERANCE) * self.fps) + 1) / self.fps
            yield index, time, frame


ALL = Sampling()  # every frame


@dataclass(frozen=True, slots=True)
class Info:
    """Properties of a video."""

    duration: float | None  # seconds; None for a camera, or if the file does not contain it
    rate: float | None  # mean frames per second, if known
    audio: bool  # whether there is an audio stream


class ToRgb:
    """Converts frames of PyAV to RGB; what FFmpeg prepares for one serves the next. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reformatter: Any = None  # of PyAV; made when it is needed

    def __call__(self, frame: Any, width: int, height: int) -> np.ndarray:
        """Return (height, width, 3) uint8."""
        with self._lock:
            if self._reformatter is None:
                from av.video.reformatter import VideoReformatter

                self._reformatter = VideoReformatter()
            return self._reformatter.reformat(frame, width, height, "rgb24").to_ndarray()


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """One frame of a video. Its pixels are converted to RGB on access, so skipped frames are cheap."""

    index: int  # number of the frame among all from `Sampling.start` on, skipped ones included
    time: float  # seconds from the start of the video
    decoded: Any = field(repr=False)  # the frame of PyAV
    size: tuple[int, int]  # width and height as displayed
    name: str = "<video>"  # name of the video for messages
    convert: ToRgb = field(default_factory=ToRgb, repr=False)  # shared by the frames of a video

    @property
    def notes(self) -> tuple[str, ...]:
        """Remark about a frame that the decoder had to conceal errors in."""
        return ("the frame is corrupt in the file",) if self.decoded.is_corrupt else ()

    @property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, upright, contiguous and read-only; converted on each access.

        Raises SourceError: FFmpeg cannot convert the color space to RGB.
        """
        swapped, mirrored, flipped = _orientation(self.decoded)
        width, height = self.size[::-1] if swapped else self.size
        try:
            decoded = self.convert(self.decoded, width, height)
        except (OSError, ValueError, MemoryError, import_av().error.FFmpegError) as error:
            what = f"frame {self.index} cannot be converted to RGB ({reason(error)}); convert its colors to BT.709"
            raise SourceError(f"{self.name}: {what}", path=self.name) from error
        upright = decoded.transpose(1, 0, 2) if swapped else decoded
        pixels = np.ascontiguousarray(upright[:: -1 if flipped else 1, :: -1 if mirrored else 1])
        pixels.flags.writeable = False
        return pixels


def _orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Return whether rows and columns are swapped, then the image mirrored left-right, and flipped top-bottom.

    The display matrix maps a pixel (x, y) to (a·x + c·y, b·x + d·y); scale and translation are irrelevant here.
    """
    for item in frame.side_data:
        if item.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = np.frombuffer(bytes(item), np.int32).tolist()
            swapped = abs(b) + abs(c) > abs(a) + abs(d)
            return (swapped, c < 0, b < 0) if swapped else (swapped, a < 0, d < 0)
    return False, False, False


def displayed_size(frame: Any, aspect: Any) -> tuple[int, int]:
    """Return width and height of a frame as displayed, with pixels of an aspect ratio; some videos change them on the way."""
    width, height = round(frame.width * aspect), frame.height
    return (height, width) if _orientation(frame)[0] else (width, height)


class Closable:
    """Closed at the end of a `with` block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""


class Video(Closable):
    """An open video or camera. Iterate once over its frames, or call `frames`; use it in a `with` block or close it.

    Example:
        >>> with Video("clip.mp4") as video:
        ...     for frame in video.frames(Sampling(fps=5)):
        ...         print(frame.time, frame.pixels.shape)
        0.0 (160, 192, 3)
        0.2 (160, 192, 3)
    """

    def __init__(self, source: Any, name: str | None = None, *, threads: int = 1, stream: int | None = None) -> None:
        """Open a video: a path, the bytes of a file, an open binary file, or the number of a camera.

        `name` is for messages, `stream` the number of the video stream, from 0, by default the largest; 0 `threads` let FFmpeg
        choose their number. Raises SourceError: the file or camera does not exist, or contains no video; MissingExtra: PyAV is
        not installed.
        """
        in_memory = isinstance(source, (bytes, bytearray, memoryview, io.IOBase))
        called = f"camera {source}" if isinstance(source, int) else "<video>" if in_memory else os.fspath(source)
        self.name = name or called
        self.container = _open_camera(source) if isinstance(source, int) else _open(source, self.name)
        self._source, self._live = source, isinstance(source, int)
        try:
            self._stream, self.notes = choose_stream(self.container, stream, self.name)
        except BaseException:
            self.close()
            raise
        self._stream.codec_context.thread_count = threads
        if threads != 1:
            self._stream.thread_type = "AUTO"
        self.origin = (self.container.start_time or 0) / 1_000_000
        rate = self._stream.average_rate or self._stream.guessed_rate
        length = None if self._live or self.container.duration is None else self.container.duration / 1_000_000
        if not self._live and self._stream.duration is not None:
            length = float(self._stream.duration * self._stream.time_base)
        self.info = Info(length, float(rate) if rate else None, bool(self.container.streams.audio))
        self._packets: int | None = 0
        """Packets of the stream so far; None after seeking."""
        self._last_packet = 0  # time stamp of the last packet that is to be shown

    @property
    def coded(self) -> tuple[int, int]:
        """Width and height in the header, before rotation and scaling; known before decoding."""
        return self._stream.codec_context.width, self._stream.codec_context.height

    def __iter__(self) -> Iterator[VideoFrame]:
        return self.frames()

    def frames(self, sampling: Sampling = ALL) -> Iterator[VideoFrame]:
        """Yield the selected frames in display order.

        Raises SourceError: after the last frame that could be decoded, if the file is truncated; or no frame is selected.
        """
        start, end, empty, convert = sampling.start or 0.0, sampling.end, True, ToRgb()
        if start:
            self.seek(start)
        for index, time, frame in sampling.select(self._timed(start)):
            empty = False
            size = displayed_size(frame, self._stream.sample_aspect_ratio or 1)
            yield VideoFrame(index, time, frame, size, self.name, convert)
        if empty:
            where = (f" from {start:g} s" if start else "") + ("" if end is None else f" to {end:g} s")
            raise SourceError(f"{self.name} has no frames{where}; check the file, start and end", path=self.name)

    def close(self) -> None:
        """Close the file or camera."""
        self.container.close()

    def _timed(self, start: float) -> Iterator[tuple[float, Any]]:
        """Yield time and frame, from the last key frame before `start` on, and check the end of the file."""
        last, frame = None, None
        for frame in self._decoded(start):
            time = self._time(frame, last)
            if last is None and (self._live or time < 0):  # The first stamp can be before the start that the file states.
                self.origin += time
                time = 0.0
            elif last is not None and time < last:
                if last - time > JITTER:
                    self.origin -= last + 1 / (self.info.rate or 25) - time
                time = max(self._time(frame, last), last)
            last = time
            yield time, frame
        if last is not None:
            base = frame.time_base or 0
            unseen = 0 if frame.pts is None else float(self._last_packet * self._stream.time_base - frame.pts * base)
            self._check_end(last, float((frame.duration or 0) * base), unseen)

    def _decoded(self, start: float) -> Iterator[Any]:
        """Yield decoded frames from `start` on; invalid packets are skipped."""
        import av

        packets = self.container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.InvalidDataError, av.error.EOFError):  # `_check_end` distinguishes them.
                return
            except (OSError, MemoryError, av.error.FFmpegError) as error:
                message = f"{self.name} cannot be read: {reason(error)}; check that the file is complete and still there"
                raise SourceError(message, path=self.name) from error
            if self._packets is not None and packet.size:
                self._packets += 1
            if packet.pts is not None and not packet.is_discard:
                self._last_packet = packet.pts
            try:
                frames = packet.decode()
            except (av.error.InvalidDataError, av.error.EOFError):
                continue
            except (OSError, MemoryError, av.error.FFmpegError) as error:
                message = f"{self.name} cannot be decoded: {reason(error)}; convert it to H.264 in MP4"
                raise SourceError(message, path=self.name) from error
            for frame in frames:
                if not start or self._time(frame, None) >= start - TOLERANCE:
                    yield frame

    def _time(self, frame: Any, last: float | None) -> float:
        if frame.pts is None:  # Some old files contain no stamps.
            return 0.0 if last is None else last + 1 / (self.info.rate or 25)
        return float(frame.pts * frame.time_base) - self.origin

    def seek(self, start: float) -> None:
        """Seek to the key frame before `start`, in seconds; has no effect on a video that does not support it."""
        import av

        self._packets = None
        with contextlib.suppress(av.error.FFmpegError, OSError):
            self.container.seek(int((start + self.origin) * 1_000_000))

    def _check_end(self, last: float, shown: float, unseen: float) -> None:
        """Raise if the file is truncated, or its last frames could not be decoded.

        The last frame, at the time `last`, may be `shown` for a long time, so a gap at the end alone does not mean truncation:
        the number of packets, the seconds `unseen` from the last frame to the last packet, or the sizes in the container's
        header decide.
        """
        length, rate = self.info.duration, self.info.rate or 25
        gap = max(5 / rate, 0.2)
        if length is None or (unseen <= gap and last + max(shown, 1 / rate) >= length - gap):
            return
        if self._packets is not None and self._stream.frames:
            complete = self._packets >= self._stream.frames
        else:
            complete = _is_complete(self._source)
        if complete is None:  # The sound may be longer.
            complete = self._stream.duration is None and self.info.audio
        if unseen > gap or not complete:
            message = f"{self.name} ends after {last:.2f} of {length:.2f} s: the file is truncated or corrupt; copy it again"
            raise SourceError(message, path=self.name, value=last, expected=length)


def choose_stream(container: Any, number: int | None, name: str) -> tuple[Any, tuple[str, ...]]:
    """Return the video stream with a number, or the largest, and a note if there are several.

    Raises SourceError: no such stream, or one that cannot be decoded.
    """
    cover = import_av().stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        sound = ", only audio" if container.streams.audio else ""
        raise SourceError(f"{name} contains no video{sound}; give another file", path=name)
    if number is not None and number >= len(streams):
        message = f"{name} has {len(streams)} video streams; stream {number} does not exist (they count from 0)"
        raise SourceError(message, path=name, value=number, expected=len(streams) - 1)
    best = max(streams, key=lambda stream: stream.width * stream.height if stream.codec_context else 0)
    chosen = best if number is None else streams[number]
    coded = chosen.codec_context
    if coded is None:
        raise SourceError(f"{name} has a codec that this FFmpeg does not support; convert it to H.264 in MP4", path=name)
    if not coded.width:
        raise SourceError(f"{name} contains no video; give another file", path=name)
    if len(streams) == 1:
        return chosen, ()
    place = streams.index(chosen)
    others = "" if number is not None else "; stream=N (--video-stream N) selects another one"
    return chosen, (f"video stream {place} of {len(streams)} (from 0), {coded.width} × {coded.height} pixels{others}",)


def _is_complete(source: Any) -> bool | None:
    """Return whether a file is as long as its container's header states; None if it does not."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _complete(io.BytesIO(source), len(source))
    if not isinstance(source, (str, os.PathLike)):
        return None
    try:
        with open(source, "rb") as file:  # noqa: PTH123
            return _complete(file, os.fstat(file.fileno()).st_size)
    except OSError:
        return None


def _complete(file: BinaryIO, size: int) -> bool | None:
    head = file.read(1 << 16)
    if head.startswith(b"\x1aE\xdf\xa3"):  # Matroska: the EBML header, then the segment with its size.
        length, start = _ebml_size(head, 4)
        if length is None or head[start + length : start + length + 4] != b"\x18S\x80g":
            return None
        length, start = _ebml_size(head, start + length + 4)
        return None if length is None else start + length <= size
    if head.startswith(b"0&\xb2u\x8ef\xcf\x11"):  # ASF: the file size is in the file properties object.
        place = head.find(b"\xa1\xdc\xab\x8cG\xa9\xcf\x11\x8e\xe4\x00\xc0\x0c\x20Se")
        return None if place < 0 else int.from_bytes(head[place + 40 : place + 48], "little") <= size
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):  # ISO media: a chain of boxes.
        place = 0
        while place + 8 <= size:
            file.seek(place)
            box = file.read(16)
            length = int.from_bytes(box[:4], "big")
            length = int.from_bytes(box[8:], "big") if length == 1 else length
            if length < 8:  # Until the end of the file, or not a box.
                return True if length == 0 else None
            place += length
        return place <= size
    return None


def _ebml_size(data: bytes, place: int) -> tuple[int | None, int]:
    """Return the size that an EBML element states, None for unknown, and the place where its content starts."""
    first = data[place] if place < len(data) else 0
    width = 9 - first.bit_length()
    value = int.from_bytes(data[place : place + width], "big") & ((1 << 7 * width) - 1)
    return (None if width > 8 or value == (1 << 7 * width) - 1 else value), place + width


def is_video(source: Any) -> bool:
    """Return whether a path, or the bytes of a file, are a video by their content, or else by the extension."""
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
        return re.match(rb"hei[cxms]|hev[cxms]|mif[12]|msf1|avi[fs]|jxl |crx ", head[8:12]) is None
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):
        return True
    starts = (b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"0&\xb2u\x8ef\xcf\x11", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"DKIF")
    if head.startswith(starts) or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return True
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:  # MPEG transport stream
        return True
    if re.match(rb"(?:\0)?\0\0\x01[\x67\x27\x09\x40\x42\x46]", head):  # Raw H.264 or H.265: a parameter set or delimiter.
        return True
    images = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"\xff\x0a", b"\0\0\0\x0cJXL ")
    return False if head.startswith(images) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP") else None


def _open(source: Any, name: str) -> Any:
    if isinstance(source, (bytes, bytearray, memoryview)):
        file: Any = io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        path = os.fsdecode(source)
        if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on a name too long
            what = "is a folder, expected a video" if os.path.isdir(path) else "does not exist or is not a file"  # noqa: PTH112
            raise SourceError(f"{name} {what}", path=path)
        if not os.path.getsize(path):  # noqa: PTH202
            raise SourceError(f"{name} is empty (0 bytes); copy it again", path=path)
        file = f"file:{os.path.abspath(path)}"  # noqa: PTH100 - without the prefix a name such as "concat:a" is a protocol
    else:
        file = source
    av = import_av()  # After the check: a missing file is more common than a missing extra.
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS)}
    try:
        return av.open(file, options=options, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, MemoryError) as error:
        why = "the file is truncated" if _is_complete(source) is False else reason(error)
        message = f"{name} cannot be read as a video: {why}; check that a player plays it"
        raise SourceError(message, path=name) from error


def _open_camera(number: int) -> Any:
    av = import_av()
    if sys.platform not in CAMERAS:
        raise SourceError(f"cameras are not supported on {sys.platform}; read a file instead", value=number)
    kind, pattern = CAMERAS[sys.platform]
    name: Any = number
    if sys.platform == "linux":
        known = sorted(int(path.name[5:]) for path in Path("/dev").glob("video[0-9]*"))
    else:  # pragma: no cover - cameras of macOS and Windows
        devices = [device for device in av.enumerate_input_devices(kind) if "video" in device.media_types]
        known = list(range(len(devices)))
        if sys.platform == "win32" and number in known:  # DirectShow has names instead of numbers.
            name = devices[number].name
    if number not in known:
        there = f"available: {', '.join(map(str, known))}" if known else "this machine has none"
        raise SourceError(f"camera {number} was not found; {there}", value=number, expected=known)
    try:
        return av.open(pattern.format(name), format=kind)
    except (av.error.FFmpegError, OSError, MemoryError) as error:
        message = f"camera {number} cannot be opened: {reason(error)}; check whether another program uses it"
        raise SourceError(message, value=number) from error


def camera_number(name: str) -> int | str:
    """Return the number of a camera from its number or name; any other text, such as a path, unchanged."""
    if name.isdecimal():
        return int(name)
    if sys.platform in CAMERAS and not os.path.exists(name) and name.strip():  # noqa: PTH110
        with contextlib.suppress(Exception):  # Without PyAV or devices the text is reported as a missing file.
            devices = [
                one for one in import_av().enumerate_input_devices(CAMERAS[sys.platform][0]) if "video" in one.media_types
            ]
            for number, device in enumerate(devices):
                if name in (device.name, device.description):
                    return number
    return name


def import_av() -> Any:
    """Return the module `av`, with FFmpeg's own messages switched off. Raises MissingExtra: PyAV is not installed."""
    try:
        import av
    except ImportError:
        raise MissingExtra("av", "video") from None
    av.logging.set_level(None)
    return av
