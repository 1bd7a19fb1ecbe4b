"""The one face of an image that a preparation is about, and its points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...errors import ConfigError
from ...faces.detection import Detections, open_detector
from ...faces.landmarks import PRESENCE, Landmarker
from ...types import points5, points68


def largest(faces: Detections, height: int, width: int) -> int:
    """The face with the largest box; of equal ones that with the best score."""
    sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
    return int(sides.prod(1).argmax())


def central(faces: Detections, height: int, width: int) -> int:
    """The face whose box is centerd nearest to the center of the image."""
    center = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    return int(np.linalg.norm(center - np.array([width / 2, height / 2]), axis=1).argmin())


def first(faces: Detections, height: int, width: int) -> int:
    """The face with the best score."""
    return 0


def last(faces: Detections, height: int, width: int) -> int:
    """The face with the worst score: what is left where every face is written to the same file."""
    return len(faces) - 1


Choice = Callable[[Detections, int, int], int]
CHOICES: Mapping[str, Choice] = {"largest": largest, "central": central, "first": first, "last": last}
"""Which face is meant where there are several."""

Points = Literal["mesh", "detector"]
"""Where the five points come from: the face mesh, or the detector itself."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundFace:
    """A face and its points, in pixels of the image."""

    box: np.ndarray
    """(4,) left, top, right, bottom."""
    points5: np.ndarray
    """(5, 2) eye centers, nose tip, mouth corners, image left first."""
    points68: np.ndarray | None
    """(68, 2) in dlib's order; None where the points are the detector's."""
    faces: int
    """How many faces were found in the image."""


class FaceFinder:
    """Finds the face that is meant.

    Args:
        detector: name in `mien.faces.detection.DETECTORS`; `"whole"` where each image is a tight crop of one face.
        points: `"mesh"`, or `"detector"` with a detector that gives five points (retinaface, mtcnn, mtcnn-evolve).
        choice: key of `CHOICES`.
        threshold: score from which something is a face; None is the detector's own.

    Raises:
        UnknownName: there is no such detector.
        ConfigError: `points="detector"` with a detector that gives no five points.
    """

    def __init__(
        self, detector: str = "blazeface", points: Points = "mesh", choice: str = "largest", threshold: float | None = None
    ) -> None:
        self.detector, self.points, self.choose = detector, points, CHOICES[choice]
        self.detect = open_detector(detector, threshold=threshold)
        self.landmarker = Landmarker("mesh478") if points == "mesh" else None

    def __call__(self, pixels: np.ndarray) -> FoundFace | None:
        """Return the face of an image (H, W, 3) uint8 RGB, or None if there is none."""
        found = self.detect(pixels)
        if not len(found):
            return None
        index = self.choose(found, *pixels.shape[:2])
        if self.landmarker is None:
            if found.points is None or found.points.shape[1] != 5:
                raise ConfigError(f"the detector {self.detector} gives no five points; use points from the mesh")
            return FoundFace(found.boxes[index], found.points[index].astype(np.float64), None, len(found))
        if self.detector == "whole":
            mesh = self.landmarker.crops([pixels])
        else:
            mesh = self.landmarker([(pixels, found.boxes[index], float(found.roll[index]))])
        if mesh.presence[0] < PRESENCE:
            return None
        points = mesh.points[0].astype(np.float64)
        return FoundFace(found.boxes[index], points5(points), points68(points), len(found))
