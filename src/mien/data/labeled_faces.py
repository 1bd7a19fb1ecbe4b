"""The face of each labeled image, for evaluation and training."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from ..errors import ConfigError, SourceError
from ..faces.finder import matching, open_finder
from ..faces.gaze import gazes
from ..faces.pose import metric_faces
from ..types import FACE
from .datasets import Dataset, Sample

Mode = Literal["auto", "whole", "detect"]

CROP_SIDE = 240
"""Median shorter side in pixels up to which `auto` treats the images of a dataset as face crops: FER2013 has 48, RAF-DB's
aligned faces 100, Aff-Wild2's 112, AffectNet's 224; photos have more."""
LOOKED_AT = 64  # images that `auto` inspects


@dataclass(frozen=True, slots=True)
class Face:
    """A face for inference."""

    row: int  # row of the dataset
    sample: str  # name of the image
    pixels: np.ndarray  # (H, W, 3) uint8 RGB, the whole image
    mesh: np.ndarray | None = None  # (P, 3) face mesh in its pixels, if computed
    box: np.ndarray | None = None  # (4,) left, top, right, bottom of the detected face; None if the image is a face crop

    @property
    def size(self) -> float:
        """Shorter side of the face in pixels of the image."""
        if self.box is None:
            return float(min(self.pixels.shape[:2]))
        return float(min(self.box[2] - self.box[0], self.box[3] - self.box[1]))

    @property
    def pose(self) -> tuple[float, float, float, float]:
        """Pitch, yaw, roll, and angle between gaze and camera, in degrees; NaN if they cannot be measured."""
        if self.mesh is None:
            return np.nan, np.nan, np.nan, np.nan
        found = metric_faces(self.mesh[None], np.array([self.pixels.shape[1::-1]]))
        (pose,), (gaze,) = found.poses, gazes(found) if len(self.mesh) > FACE else [None]
        return pose.pitch, pose.yaw, pose.roll, np.nan if gaze is None else gaze.camera_angle


def mode_for(data: Dataset, mode: Mode, *, cuts_faces: bool) -> Literal["whole", "detect"]:
    """Return whether the images are face crops, or faces must be detected; ConfigError for an unknown mode."""
    if mode not in get_args(Mode):
        raise ConfigError(f"faces are taken {', '.join(get_args(Mode))}, not {mode!r}")
    if mode != "auto":
        return mode
    if not cuts_faces:
        return "whole"
    sides = []
    for sample in data.evenly(LOOKED_AT):
        try:
            sides.append(min(sample.read().shape[:2]))
        except SourceError:
            continue
    return "whole" if sides and np.median(sides) <= CROP_SIDE else "detect"


class FaceFinder:
    """Finds the face of each sample of a dataset.

    With the mode `"whole"` the image is the face. With `"detect"`, faces are found as `mien.load` finds them; of several the
    one that overlaps most with the dataset's own box, or else the main face. `mesh` computes the mesh of whole images too, for
    head pose and regions.
    """

    def __init__(self, mode: Literal["whole", "detect"], detector: str, *, mesh: bool = False, threads: int = 1) -> None:
        self.mode = mode
        detecting = mode == "detect"
        self.find = open_finder(
            detector if detecting else "whole", mesh="mesh478" if detecting or mesh else None, threads=threads
        )

    def __call__(self, rows: Sequence[int], samples: Sequence[Sample], images: Sequence[np.ndarray]) -> list[Face | None]:
        """Return the face of each image, or None where none is found."""
        found: list[Face | None] = []
        for row, sample, pixels, faces in zip(rows, samples, images, self.find(images), strict=True):
            if self.mode == "whole":
                found.append(Face(row, sample.name, pixels, faces[0].mesh))
            else:
                face = matching(faces, sample.box)
                found.append(None if face is None else Face(row, sample.name, pixels, face.points, face.box))
        return found

    def found(self, row: int, name: str, pixels: np.ndarray, box: Any = None) -> Face | None:
        """Return the face of one image: the one that overlaps most with `box`, or without a box the main face."""
        return self([row], [Sample(name, pixels, box=box)], [pixels])[0]


def found_faces(data: Dataset, find: FaceFinder, rows: Sequence[int]) -> dict[int, Face]:
    """Return row → face of some images; unreadable images and those without a face are missing."""
    readable, samples, images = [], [], []
    for row in rows:
        sample = data[row]
        try:
            images.append(sample.read())
        except SourceError:
            continue
        readable.append(row)
        samples.append(sample)
    return {face.row: face for face in find(readable, samples, images) if face is not None}


def labeled_faces(
    data: Dataset, find: FaceFinder, unknown: Container[str] = (), batch: int = 64
) -> Iterator[tuple[list[Face], list[str]]]:
    """Yield the faces of each `batch` images, possibly none, and their labels; unlabeled and `unknown` ones are skipped."""
    label = np.array([*data.labels, ""], dtype=str)[data.label]
    usable = [name != "" and name not in unknown for name in label.tolist()]
    for first in range(0, len(data), batch):
        faces = found_faces(data, find, [row for row in range(first, min(first + batch, len(data))) if usable[row]])
        yield list(faces.values()), [str(label[row]) for row in faces]
