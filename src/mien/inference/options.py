"""How images and videos are read: all that a row depends on besides its image, in one value.

The commands that read and `mien.batch` take it. Each default is asked of the function that the option goes to, so that there
is one place for it.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..io.video import Sampling
from ..types import Points
from .recognizer import Recognizer, load


def _usual(function: Callable[..., Any], name: str) -> Any:
    return inspect.signature(function).parameters[name].default


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What every row of a run depends on besides its image; the meanings are those of `mien.load` and `Recognizer.stream`.

    Example:
        >>> Options(max_faces=1, points="none").sampling
        Sampling(every=1, fps=None, start=None, end=None)
    """

    model: str = _usual(load, "model")
    detector: str = _usual(load, "detector")
    max_faces: int | None = _usual(load, "max_faces")
    min_size: float = _usual(load, "min_size")
    threshold: float | None = _usual(load, "threshold")
    max_roll: float = _usual(load, "max_roll")
    small_faces: bool = _usual(load, "small_faces")
    points: Points = "5"
    blendshapes: bool = _usual(load, "blendshapes")
    threads: int = _usual(load, "threads")
    device: str = "cpu"
    allow_private: bool = False
    every: int = _usual(Recognizer.stream, "every")
    fps: float | None = _usual(Recognizer.stream, "fps")
    start: float | None = _usual(Recognizer.stream, "start")
    end: float | None = _usual(Recognizer.stream, "end")
    smooth: str | None = _usual(Recognizer.stream, "smooth")
    window: float = _usual(Recognizer.stream, "window")
    detect_every: int = _usual(Recognizer.stream, "detect_every")

    @property
    def sampling(self) -> Sampling:
        """Which frames of videos are wanted.

        Raises:
            ConfigError: they make no sense.
        """
        return Sampling(self.every, self.fps, self.start, self.end)

    @property
    def streaming(self) -> dict[str, Any]:
        """The keywords of `Recognizer.stream` for videos."""
        return {"smooth": self.smooth, "window": self.window, "detect_every": self.detect_every}

    def open(self) -> Recognizer:
        """Load the networks.

        Raises:
            UnknownName: no such model or detector.
            WeightsError: the weights lack a card or do not fit it.
            ConfigError: the device is not there.
        """
        return load(
            self.model,
            detector=self.detector,
            max_faces=self.max_faces,
            min_size=self.min_size,
            threshold=self.threshold,
            max_roll=self.max_roll,
            small_faces=self.small_faces,
            points=self.points != "none",
            blendshapes=self.blendshapes,
            threads=self.threads,
            device=self.device,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dataclasses.asdict(self)


USUAL = Options()
"""How it is read where nothing is said."""
