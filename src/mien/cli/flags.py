"""Flags that several commands share, with their help: how images are read, and on which device."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ..inference.options import USUAL, Options
from ..types import Points
from .clips import seconds

MODEL = (
    "A bundled model (see: mien models), a card (.toml), an .onnx file that has its card inside, a .safetensors file with its "
    "card beside it, or the folder of a training run. On a cluster, a path must be the same on all machines."
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Reading:
    """How images and videos are read: what `mien predict` and `mien batch` have in common, as it is written there. All are
    fields of `mien.inference.options.Options`, whose defaults they have.
    """

    model: Annotated[str, Parameter(help=MODEL)] = USUAL.model
    detector: str = USUAL.detector
    """What finds the faces: blazeface, retinaface, mtcnn, mtcnn-evolve, dlib; whole if each image is a face crop."""
    max_faces: int | None = USUAL.max_faces
    """At most this many faces of each image."""
    min_size: float = USUAL.min_size
    """Leave out faces whose longer side has fewer pixels."""
    threshold: float | None = USUAL.threshold
    """Score from which something is a face; each detector has its own default."""
    max_roll: float = USUAL.max_roll
    """Find faces tilted by up to this many degrees."""
    small_faces: bool = USUAL.small_faces
    """Look closer, and slower, for faces that are small in the image."""
    points: Points = USUAL.points
    """How many points of the face mesh are listed: none, 5, 68 or all; annotated images show them with all."""
    blendshapes: Annotated[bool, Parameter(negative="--no-blendshapes")] = USUAL.blendshapes
    """Tell the 52 blendshapes."""
    threads: int = USUAL.threads
    """Threads of one network call."""
    device: str = USUAL.device
    """Where networks run: cpu, cuda (cuda:1 is the second GPU), mps, or auto for the best that starts."""
    allow_private: bool = USUAL.allow_private
    """Let URLs lead to private and local addresses."""
    every: int = USUAL.every
    """Read each n-th frame of a video only."""
    fps: float | None = USUAL.fps
    """Read at most this many frames of a second of video."""
    start: str | None = None
    """Where to begin in each video: seconds, or 1:02:03.5."""
    end: str | None = None
    """Where to end."""
    smooth: Literal["ema", "box", "gaussian", "none"] = "ema"
    """Average faces over time: ema (over the past), box or gaussian (around each frame), none."""
    window: float = USUAL.window
    """Seconds over which is averaged."""
    detect_every: int = USUAL.detect_every
    """Frames from one search for faces to the next; between, faces are followed. 1 searches each frame."""

    def options(self) -> Options:
        """Return the flags as Python takes them: times in seconds, no smoothing as None.

        Raises:
            ConfigError: a time is none.
        """
        smooth = None if self.smooth == "none" else self.smooth
        values: dict[str, Any] = {
            **dataclasses.asdict(self),
            "start": seconds(self.start),
            "end": seconds(self.end),
            "smooth": smooth,
        }
        return Options(**values)


AS_USUAL = Reading()
"""The flags when none is given."""
