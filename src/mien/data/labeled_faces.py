"""Which face of an image is judged, and what is known about it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ..errors import ConfigError, SourceError
from ..faces.detection import open_detector
from ..faces.landmarks import PRESENCE, Landmarker
from ..faces.pose import metric_faces
from .datasets import Dataset, Sample

Mode = Literal["auto", "whole", "detect"]

CROP_SIDE = 240
"""Median shorter side in pixels up to which `auto` takes the images of a dataset for crops of one face each: FER2013 has 48,
RAF-DB's aligned faces 100, Aff-Wild2's 112, AffectNet's 224; photographs have more."""
LOOKED_AT = 64
"""Images that `auto` looks at."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face that a model is asked about."""

    row: int
    """Row of the dataset."""
    sample: str
    """Name of the image."""
    pixels: np.ndarray
    """(H, W, 3) uint8 RGB, the whole image."""
    mesh: np.ndarray | None = None
    """(P, 3) points of the face mesh in its pixels, where it was looked for."""
    box: np.ndarray | None = None
    """(4,) left, top, right, bottom of the detected face; None where the image is the face."""

    @property
    def size(self) -> float:
        """Shorter side of the face in pixels of the image."""
        if self.box is None:
            return float(min(self.pixels.shape[:2]))
        return float(min(self.box[2] - self.box[0], self.box[3] - self.box[1]))

    @property
    def pose(self) -> tuple[float, float]:
        """Yaw and roll in degrees; NaN without a mesh."""
        if self.mesh is None:
            return float("nan"), float("nan")
        (pose,) = metric_faces(self.mesh[None], np.array([self.pixels.shape[1::-1]])).poses
        return pose.yaw, pose.roll


def mode_for(data: Dataset, mode: Mode, *, cuts_faces: bool) -> Literal["whole", "detect"]:
    """Return whether the images are faces already, or faces must be found in them.

    Raises:
        ConfigError: there is no such mode.
    """
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
    """Finds the face to judge in each image.

    Args:
        mode: `"whole"`: the image is the face. `"detect"`: as `mien.load` finds faces; of several the one that overlaps most
            with the dataset's own box, or else the largest.
        detector: name in `mien.faces.detection.DETECTORS`.
        mesh: whether to find the mesh of whole images too, for pose and regions.
        threads: threads inside one call of a network.
    """

    def __init__(self, mode: Literal["whole", "detect"], detector: str, *, mesh: bool = False, threads: int = 1) -> None:
        self.mode = mode
        self.detector = open_detector(detector, threads=threads) if mode == "detect" else None
        self.landmarker = Landmarker(threads=threads) if mode == "detect" or mesh else None

    def __call__(self, rows: Sequence[int], samples: Sequence[Sample], images: Sequence[np.ndarray]) -> list[Face | None]:
        """Return the face of each image, or None where there is none."""
        given = zip(rows, samples, images, strict=True)
        if self.detector is None:
            faces: list[Face | None] = [Face(row, sample.name, pixels) for row, sample, pixels in given]
            if self.landmarker is None or not images:
                return faces
            mesh = self.landmarker.crops(list(images))
            return [
                Face(row, sample.name, pixels, points if sure >= PRESENCE else None)
                for row, sample, pixels, points, sure in zip(rows, samples, images, mesh.points, mesh.presence, strict=True)
            ]
        return [self.found(row, sample.name, pixels, sample.box) for row, sample, pixels in given]

    def found(self, row: int, name: str, pixels: np.ndarray, box: Sequence[float] | None = None) -> Face | None:
        """Return the face of one photograph: the one that overlaps most with `box`, or without a box the largest.

        None if there is none, or none that overlaps. Only where faces are detected.
        """
        assert self.detector is not None and self.landmarker is not None
        found = self.detector(pixels)
        if not len(found.boxes):
            return None
        mesh = self.landmarker([(pixels, box, float(roll)) for box, roll in zip(found.boxes, found.roll, strict=True)])
        present = np.flatnonzero(mesh.presence >= PRESENCE)
        if not len(present):
            return None
        boxes = np.asarray(found.boxes)[present]
        merit = _areas(boxes) if box is None else _overlaps(boxes, np.array(box))
        if box is not None and merit.max() <= 0:
            return None  # somebody else's faces
        best = int(present[merit.argmax()])
        return Face(row, name, pixels, mesh.points[best], np.asarray(found.boxes[best]))


def labeled_faces(
    data: Dataset, find: FaceFinder, unknown: Container[str] = (), batch: int = 64
) -> Iterator[tuple[list[Face], list[str]]]:
    """Yield the faces of each `batch` images and their labels; without those that have no label, no face or cannot be read.

    Args:
        data: the images.
        find: what finds the face of each.
        unknown: labels that are left out, too.
        batch: images a time; the faces found in them may be none.
    """
    for first in range(0, len(data), batch):
        faces: list[Face] = []
        labels: list[str] = []
        for row in range(first, min(first + batch, len(data))):
            sample = data[row]
            if sample.label is None or sample.label in unknown:
                continue
            try:
                (face,) = find([row], [sample], [sample.read()])
            except SourceError:
                continue
            if face is not None:
                faces.append(face)
                labels.append(sample.label)
        yield faces, labels


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), 1)


def _overlaps(boxes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    common = np.minimum(boxes[:, 2:], wanted[2:]) - np.maximum(boxes[:, :2], wanted[:2])
    inside = np.prod(np.maximum(common, 0), 1)
    return inside / np.maximum(_areas(boxes) + _areas(wanted[None])[0] - inside, 1e-9)
