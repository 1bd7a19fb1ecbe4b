"""Frames of videos read one after the other: faces found once and followed, numbered, and smoothed.

Placeholder of the tracking pipeline: each frame is read as a picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from .sources import Frame
from .types import Result


class Stream:
    """Reads the frames of one video in order. Not for several threads: each video has a stream of its own.

    `push` takes a frame and returns what is finished: that frame, or an earlier one where smoothing looks ahead; `close` the
    rest.
    """

    def __init__(self, read: Any, *, detect_every: int = 10, smooth: str | None = "ema", window: float = 0.25) -> None:
        self.read = read

    def push(self, frame: Frame) -> list[tuple[Frame, Result]]:
        """Read one more frame."""
        if frame.picture is None:
            return [(frame, dataclasses.replace(self.read.unreadable(frame.source, frame.error), time=frame.time))]
        return [(frame, dataclasses.replace(self.read(frame.picture), time=frame.time))]

    def close(self) -> list[tuple[Frame, Result]]:
        """Return what was waiting for later frames."""
        return []


def stream(read: Any, frames: Iterable[Frame], **options: Any) -> Iterator[tuple[Frame, Result]]:
    """Read frames of pictures and videos in order."""
    now: Stream | None = None
    source = None
    for frame in frames:
        if now is None or frame.source != source:
            if now is not None:
                yield from now.close()
            now, source = Stream(read, **options), frame.source
        yield from now.push(frame)
    if now is not None:
        yield from now.close()
