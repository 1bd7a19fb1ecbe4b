"""What every detector answers: the faces of one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The faces of one image, best first.

    Example:
        >>> faces = Detections.from_points([[10, 10, 30, 34]], [0.9], [[[15, 18], [25, 18]]])
        >>> len(faces), faces.boxes[0].tolist(), float(faces.roll[0])
        (1, [10.0, 10.0, 30.0, 34.0], 0.0)
    """

    boxes: np.ndarray
    """(N, 4) float32: left, top, right, bottom in pixels of the image; may reach beyond its border."""
    scores: np.ndarray
    """(N,) float32, falling. Their scale is the detector's own."""
    roll: np.ndarray
    """(N,) float32: angle of the face in the image plane in radians, 0 upright, positive when turned clockwise as seen."""
    points: np.ndarray | None = None
    """(N, K, 2) float32: the points the detector gives, first the eyes, the one on the left of an upright face first.
    None where it gives none."""

    @classmethod
    def from_points(cls, boxes: np.ndarray | list, scores: np.ndarray | list, points: np.ndarray | list) -> Detections:
        """Return faces sorted by score, the roll taken from the line between the eyes, points 0 and 1 of (N, P, 2)."""
        order = np.argsort(-np.asarray(scores, np.float32), kind="stable")
        places = np.asarray(points, np.float32)[order]
        across = places[:, 1] - places[:, 0]
        roll = np.arctan2(across[:, 1], across[:, 0])
        return cls(np.asarray(boxes, np.float32)[order], np.asarray(scores, np.float32)[order], roll, places)

    @classmethod
    def none(cls, points: int = 0) -> Detections:
        """Return no faces, with room for `points` points each (0: the detector gives none)."""
        empty = np.zeros(0, np.float32)
        return cls(np.zeros((0, 4), np.float32), empty, empty, np.zeros((0, points, 2), np.float32) if points else None)

    @classmethod
    def join(cls, parts: Sequence[Detections]) -> Detections:
        """Return the faces of several searches of one image (at least one search) as one, sorted; none are merged."""
        scores = np.concatenate([part.scores for part in parts])
        points = [part.points for part in parts if part.points is not None]
        whole = cls(
            np.concatenate([part.boxes for part in parts]),
            scores,
            np.concatenate([part.roll for part in parts]),
            np.concatenate(points) if len(points) == len(parts) else None,
        )
        return whole.select(np.argsort(-scores, kind="stable"))

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, which: np.ndarray | slice | list[int]) -> Detections:
        """Return the faces that a mask (N,), a slice or a list of indices names, in the order given."""
        points = None if self.points is None else self.points[which]
        return Detections(self.boxes[which], self.scores[which], self.roll[which], points)

    def shifted(self, right: float, down: float) -> Detections:
        """Return the faces moved by this many pixels."""
        step = np.array([right, down], np.float32)
        points = None if self.points is None else self.points + step
        return Detections(self.boxes + np.tile(step, 2), self.scores, self.roll, points)

    __getitem__ = select
