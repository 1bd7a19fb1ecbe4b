"""The one face of an image that is prepared, and its landmarks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...errors import ConfigError
from ...faces.finder import FoundFace, open_finder
from ...metrics.boxes import area, centers
from ...types import points5, points68

Choice = Literal["largest", "central", "first", "last"]
"""Which of several faces is prepared: that with the largest box, the one nearest to the center of the image, or that with the
best or worst score, which remains if every face is written to the same file."""


Points = Literal["mesh", "detector"]  # source of the five landmarks: the face mesh or the detector


@dataclass(frozen=True, slots=True, eq=False)
class PreparedFace:
    """A face and its landmarks, in pixels of the image."""

    box: np.ndarray
    """(4,) left, top, right, bottom."""
    points5: np.ndarray
    """(5, 2) eye centers, nose tip, mouth corners, image left first."""
    points68: np.ndarray | None
    """(68, 2) in dlib's order; None where the landmarks are the detector's."""
    faces: int
    """Number of faces found in the image."""


class FacePicker:
    """Picks the face of an image that is prepared.

    `detector` is a name in `mien.faces.detection.DETECTORS`; `"whole"` where each image is a tight crop of one face. Points of
    the `"detector"` need one with five keypoints (retinaface, mtcnn, mtcnn-evolve): ConfigError of the call without them.
    """

    def __init__(
        self, detector: str = "blazeface", points: Points = "mesh", choice: Choice = "largest", threshold: float | None = None
    ) -> None:
        self.detector, self.points, self.choice = detector, points, choice
        self.find = open_finder(detector, mesh="mesh478" if points == "mesh" else None, threshold=threshold)

    def __call__(self, pixels: np.ndarray) -> PreparedFace | None:
        """Return the face of an image (H, W, 3) uint8 RGB, or None without a face."""
        faces = [face for face in self.find([pixels])[0] if self.points == "detector" or face.mesh is not None]
        if not faces:
            return None
        middle = np.array(pixels.shape[1::-1]) / 2
        merits: dict[Choice, Callable[[FoundFace], float]] = {
            "largest": lambda face: float(area(face.box)),
            "central": lambda face: -float(np.linalg.norm(centers(face.box) - middle)),
            "first": lambda face: face.score,
            "last": lambda face: -face.score,
        }
        face = max(faces, key=merits[self.choice])
        if face.mesh is not None:
            points = face.mesh.astype(np.float64)
            return PreparedFace(face.box, points5(points), points68(points), len(faces))
        if face.keypoints is None or len(face.keypoints) != 5:
            raise ConfigError(f"{self.detector} has no five keypoints; use points='mesh'", value=self.detector)
        return PreparedFace(face.box, face.keypoints.astype(np.float64), None, len(faces))
