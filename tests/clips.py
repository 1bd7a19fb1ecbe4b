"""Videos made for tests: the bundled photograph, moved about, at times of choice; with sound, turned, or cut short."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from mien.io.video import Sampling, Video, VideoFrame


def frames(source: Any, *, threads: int = 1, **sampling: Any) -> Iterator[VideoFrame]:
    """Yield the frames of a video that a sampling selects."""
    selected = Sampling(**sampling)
    with Video(source, threads=threads, stream=selected.stream) as video:
        yield from video.frames(selected)


def moving(sample: Path, count: int, size: tuple[int, int] = (192, 160), *, empty: Sequence[int] = ()) -> list[np.ndarray]:
    """The photograph, sliding slowly to the right and growing a little; frames in `empty` are a gray wall."""
    photo = Image.open(sample).convert("RGB")
    frames = []
    for number in range(count):
        side = round((0.8 + 0.002 * number) * size[1])
        canvas = Image.new("RGB", size, (96, 110, 120))
        if number not in empty:
            canvas.paste(photo.resize((side, side)), (min(number // 2, size[0] - side), (size[1] - side) // 2))
        frames.append(np.asarray(canvas))
    return frames


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    times: Sequence[float] | None = None,
    *,
    codec: str = "libx264",
    sound: str | None = None,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    encoder: dict[str, str] | None = None,
    clock: int = 1000,
) -> Path:
    """Write frames at these times (25 a second by default); `sound` names a codec for a tone of the same length.

    Times are rounded to the ticks of a `clock` that has so many a second.
    """
    times = [number / 25 for number in range(len(frames))] if times is None else list(times)
    with av.open(str(path), "w", options=options or {}) as file:
        stream: Any = file.add_stream(codec, rate=25, options=encoder or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, clock)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        tone: Any = file.add_stream(sound, rate=44100) if sound else None
        for pixels, time in zip(iter(frames), times, strict=True):
            frame: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
            frame.pts, frame.time_base = round(time * clock), Fraction(1, clock)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if tone is not None:
            kind = tone.codec_context.format.name
            count = round((times[-1] + 0.04) * 44100)
            wave = np.sin(np.arange(count) * (2 * np.pi * 440 / 44100))
            if kind.startswith("s16"):
                wave = (wave * 20000).astype(np.int16)
            heard: Any = av.AudioFrame.from_ndarray(
                wave.astype(wave.dtype if kind.startswith("s16") else np.float32)[None], kind, "mono"
            )
            heard.sample_rate, heard.pts, heard.time_base = 44100, 0, Fraction(1, 44100)
            file.mux(tone.encode(heard))
            file.mux(tone.encode(None))
    return path


def turn(path: Path, degrees: int, *, mirrored: bool = False) -> None:
    """Write a display matrix into the header of the first track: rotated clockwise, after mirroring left-right."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # Version 0: flags, times, number, length, layer and volume come first.
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    sign = -1 if mirrored else 1
    one = 1 << 16
    numbers = sign * cosine * one, sign * sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30
    data[at : at + 36] = struct.pack(">9i", *numbers)
    path.write_bytes(data)


def cut_short(path: Path, share: float) -> None:
    """Keep only the first part of a file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: round(share * len(data))])


def packets(path: Path, kind: str) -> list[bytes]:
    """The coded data of the first stream of a kind."""
    with av.open(str(path)) as file:
        stream = next(stream for stream in file.streams if stream.type == kind)
        return [bytes(packet) for packet in file.demux(stream) if packet.size]
