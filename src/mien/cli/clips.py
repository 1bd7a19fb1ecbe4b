"""Helpers of commands that process videos: times as people write them, annotated copies."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError
from ..io.sources import Frame
from ..io.video import Sampling
from ..types import Result
from ..visualization.annotated import AnnotatedImages, Videos
from ..visualization.faces import Layer


def seconds(text: str | None) -> float | None:
    """Return the seconds of "83.5", "1:23.5" or "0:01:23.5"; None stays None.

    Raises:
        ConfigError: it is not a time.
    """
    if text is None:
        return None
    if not re.fullmatch(r"((\d+:[0-5]?\d|\d+):[0-5]?\d|\d+)(\.\d*)?", text):
        raise ConfigError(f"invalid time {text!r}; expected seconds (83.5), 1:23.5 or 0:01:23.5", value=text)
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total


class Copies:
    """Annotated copies of images and of videos in one folder."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        folder: Path,
        roots: Sequence[str],
        layers: Sequence[Layer],
        sampling: Sampling,
        threads: int,
    ) -> None:
        self.images = stack.enter_context(AnnotatedImages(folder, roots=roots, layers=layers))
        self.videos = stack.enter_context(
            Videos(folder, roots=roots, layers=layers, start=sampling.start, end=sampling.end, threads=threads)
        )

    def write(self, frame: Frame, result: Result) -> None:
        """Write one image, or the next frame of a video."""
        if frame.image is not None:
            (self.images if frame.time is None else self.videos).write(frame.image, result)
