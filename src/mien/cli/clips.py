"""What commands that read videos share: times as people write them, annotated copies, going on after an interruption."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..inference.results import Csv, JsonLines
from ..inference.stream import Known
from ..io.images import name_of
from ..io.sources import Clip, Frame, Item
from ..io.video import Sampling
from ..types import Result
from ..visualization.annotated import AnnotatedImages, Videos


def seconds(text: str | None) -> float | None:
    """Return the seconds of "83.5", "1:23.5" or "0:01:23.5"; None stays None.

    Raises:
        ConfigError: it is no time.
    """
    if text is None:
        return None
    if not re.fullmatch(r"((\d+:[0-5]?\d|\d+):[0-5]?\d|\d+)(\.\d*)?", text):
        raise ConfigError(f"{text!r} is no time; write seconds (83.5) or 1:23.5 or 0:01:23.5")
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
        points: bool,
        sampling: Sampling,
        threads: int,
    ) -> None:
        self.images = stack.enter_context(AnnotatedImages(folder, roots=roots, points=points))
        self.videos = stack.enter_context(
            Videos(folder, roots=roots, points=points, start=sampling.start, end=sampling.end, threads=threads)
        )

    def write(self, frame: Frame, result: Result) -> None:
        """Write one image, or the next frame of a video."""
        if frame.image is not None:
            (self.images if frame.time is None else self.videos).write(frame.image, result)


def run_name(items: Iterable[Item], settings: Sequence[Any], sampling: Sampling) -> str:
    """Return a text that is the same for the same command over the same, unchanged files."""
    files = []
    for item in items:
        source = item.source if isinstance(item, (Clip, Frame)) else item
        name = str(source) if isinstance(source, int) else name_of(source)
        with contextlib.suppress(OSError, ValueError):
            info = Path(name).stat()
            name = f"{name} {info.st_size} {info.st_mtime_ns}"
        files.append(name)
    return json.dumps([files, list(settings), dataclasses.astuple(sampling)], default=str)


def go_on(rows: Sequence[Csv | JsonLines]) -> Known:
    """Cut the files of an interrupted run to the results that all of them hold, and return these."""
    going_on = bool(rows) and all(sink.going_on for sink in rows)
    number = min(sum(1 for _ in sink.stored()) for sink in rows) if going_on else 0
    for sink in rows:
        sink.keep(number)
    return Known(number, rows[0].stored() if number else ())
