"""How pictures and videos are read: the options of `mien predict` that change a row."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cards import Card
from ..recognizer import Recognizer, load
from ..types import Points
from ..video import Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What every row of a run depends on besides its picture; the meanings are those of `mien.load` and `Recognizer.stream`.

    Example:
        >>> Options(max_faces=1, points="none").sampling
        Sampling(every=1, fps=None, start=None, end=None)
    """

    model: str = "mien-base"
    detector: str = "blazeface"
    max_faces: int | None = None
    min_size: float = 0
    threshold: float | None = None
    max_roll: float = 45
    small_faces: bool = False
    points: Points = "5"
    actions: bool = True
    threads: int = 1
    device: str = "cpu"
    allow_private: bool = False
    every: int = 1
    fps: float | None = None
    start: float | None = None
    end: float | None = None
    smooth: str | None = "ema"
    window: float = 0.25
    detect_every: int = 10

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
            actions=self.actions,
            threads=self.threads,
            device=self.device,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dataclasses.asdict(self)


def identity(card: Card) -> dict[str, str]:
    """Return what tells one model from another: name, version and the digest of its weights."""
    return {"name": card.name, "version": str(card.version), "sha256": card.sha256}


def absolute(model: str) -> str:
    """Return a model's path so that it means the same in every folder; the name of a bundled model stays."""
    path = Path(model)
    return str(path.absolute()) if path.exists() else model
