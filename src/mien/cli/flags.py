"""Flags that several commands share, with their help: how pictures are read, and on which device."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ..recognizer import Recognizer, load
from ..types import Points
from ..video import Sampling
from .clips import seconds

MODEL = (
    "A bundled model (see: mien models), a card (.toml), an .onnx file that has its card inside, a .safetensors file with its "
    "card beside it, or the folder of a training run. On a cluster, a path must be the same on all machines."
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Reading:
    """How pictures and videos are read: what `mien predict` and `mien batch` have in common, as it is written there."""

    model: Annotated[str, Parameter(help=MODEL)] = "mien-base"
    detector: str = "blazeface"
    """What finds the faces: blazeface, retinaface, mtcnn, mtcnn-evolve, dlib; whole if each picture is a face crop."""
    max_faces: int | None = None
    """At most this many faces of each picture."""
    min_size: float = 0
    """Leave out faces whose longer side has fewer pixels."""
    threshold: float | None = None
    """Score from which something is a face; each detector has its own default."""
    max_roll: float = 45
    """Find faces tilted by up to this many degrees."""
    small_faces: bool = False
    """Look closer, and slower, for faces that are small in the picture."""
    points: Points = "5"
    """How many points of the face mesh are listed: none, 5, 68 or all; annotated pictures show them with all."""
    actions: Annotated[bool, Parameter(negative="--no-actions")] = True
    """Tell the 52 facial actions."""
    threads: int = 1
    """Threads of one network call."""
    device: str = "cpu"
    """Where networks run: cpu, cuda (cuda:1 is the second GPU), mps, or auto for the best that starts."""
    allow_private: bool = False
    """Let URLs lead to private and local addresses."""
    every: int = 1
    """Read each n-th frame of a video only."""
    fps: float | None = None
    """Read at most this many frames of a second of video."""
    start: str | None = None
    """Where to begin in each video: seconds, or 1:02:03.5."""
    end: str | None = None
    """Where to end."""
    smooth: Literal["ema", "box", "gaussian", "none"] = "ema"
    """Average faces over time: ema (over the past), box or gaussian (around each frame), none."""
    window: float = 0.25
    """Seconds over which is averaged."""
    detect_every: int = 10
    """Frames from one search for faces to the next; between, faces are followed. 1 searches each frame."""

    def values(self) -> dict[str, Any]:
        """Return the flags as Python takes them: times in seconds, no smoothing as None; all are fields of `scaling.Options`.

        Raises:
            ConfigError: a time is none.
        """
        smooth = None if self.smooth == "none" else self.smooth
        return {**dataclasses.asdict(self), "start": seconds(self.start), "end": seconds(self.end), "smooth": smooth}

    @property
    def sampling(self) -> Sampling:
        """Which frames of videos are wanted; raises ConfigError where they make no sense."""
        return Sampling(self.every, self.fps, seconds(self.start), seconds(self.end))

    @property
    def streaming(self) -> dict[str, Any]:
        """The keywords of `Recognizer.stream` for videos."""
        values = self.values()
        return {name: values[name] for name in ("smooth", "window", "detect_every")}

    def open(self) -> Recognizer:
        """Load the networks; errors as of `mien.load`."""
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


AS_USUAL = Reading()
"""The flags when none is given."""
