"""The faces that a detector found in one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Detected faces of one image, sorted by score, best first.

    Example:
        >>> faces = Detections.from_points([[10, 10, 30, 34]], [0.9], [[[15, 18], [25, 18]]])
        >>> len(faces), faces.boxes[0].tolist(), float(faces.roll[0])
        (1, [10.0, 10.0, 30.0, 34.0], 0.0)
    """

    boxes: np.ndarray  # (N, 4) float32: left, top, right, bottom in pixels of the image; may extend beyond its border
    scores: np.ndarray  # (N,) float32, descending. The scale depends on the detector.
    roll: np.ndarray  # (N,) float32: in-plane rotation of the face in radians, 0 upright, positive clockwise in the image
    points: np.ndarray | None = None
    """(N, K, 2) float32: keypoints, the eyes first, the one on the left of an upright face before the other. None where the
    detector has none."""

    @classmethod
    def from_points(cls, boxes: np.ndarray | list, scores: np.ndarray | list, points: np.ndarray | list) -> Detections:
        """Return detections sorted by score, with the roll of the line between the eyes, points 0 and 1 of (N, P, 2)."""
        order = np.argsort(-np.asarray(scores, np.float32), kind="stable")
        keypoints = np.asarray(points, np.float32)[order]
        across = keypoints[:, 1] - keypoints[:, 0]
        roll = np.arctan2(across[:, 1], across[:, 0])
        return cls(np.asarray(boxes, np.float32)[order], np.asarray(scores, np.float32)[order], roll, keypoints)

    @classmethod
    def none(cls, points: int = 0) -> Detections:
        """Return zero faces with `points` keypoints each (0: `points` is None)."""
        empty = np.zeros(0, np.float32)
        return cls(np.zeros((0, 4), np.float32), empty, empty, np.zeros((0, points, 2), np.float32) if points else None)

    @classmethod
    def join(cls, parts: Sequence[Detections]) -> Detections:
        """Concatenate at least one set of detections of the same image and sort them; overlapping faces are kept."""
        scores = np.concatenate([part.scores for part in parts])
        points = [part.points for part in parts if part.points is not None]
        joined = cls(
            np.concatenate([part.boxes for part in parts]),
            scores,
            np.concatenate([part.roll for part in parts]),
            np.concatenate(points) if len(points) == len(parts) else None,
        )
        return joined.select(np.argsort(-scores, kind="stable"))

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, which: np.ndarray | slice | list[int]) -> Detections:
        """Return the faces selected by a mask (N,), a slice or a list of indices, in that order."""
        points = None if self.points is None else self.points[which]
        return Detections(self.boxes[which], self.scores[which], self.roll[which], points)

    __getitem__ = select

    def shifted(self, right: float, down: float) -> Detections:
        """Return the faces moved by this many pixels."""
        offset = np.array([right, down], np.float32)
        points = None if self.points is None else self.points + offset
        return Detections(self.boxes + np.tile(offset, 2), self.scores, self.roll, points)

    def scaled(self, factor: float) -> Detections:
        """Return the faces with all coordinates multiplied by a factor."""
        points = None if self.points is None else self.points * np.float32(factor)
        return Detections(self.boxes * np.float32(factor), self.scores, self.roll, points)

    def unrotated(self, quarters: int, height: int, width: int) -> Detections:
        """Return faces found in `np.rot90(image, quarters)` in the coordinates of the image of this height and width."""

        def back(places: np.ndarray) -> np.ndarray:
            x, y = places[..., 0], places[..., 1]
            return np.stack([(x, y), (width - y, x), (width - x, height - y), (y, height - x)][quarters % 4], -1)

        corners = back(self.boxes.reshape(-1, 2, 2))
        boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
        roll = np.remainder(self.roll + quarters * np.pi / 2 + np.pi, 2 * np.pi) - np.pi
        return Detections(boxes, self.scores, roll.astype(np.float32), None if self.points is None else back(self.points))
