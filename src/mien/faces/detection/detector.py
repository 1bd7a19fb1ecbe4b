"""What every detector can be asked for: a smallest size, a largest number, faces turned on their side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...errors import ConfigError
from .detections import Detections
from .nms import area, containment, suppress

UPRIGHT = 45.0
"""Degrees of roll up to which the detectors find faces in an image as it is (measured; see docs/log.md)."""
SAME_FACE = 0.5
"""Share of the smaller box inside the other from which two boxes of different looks are one face."""


@dataclass(frozen=True, slots=True)
class Detector:
    """A function from an image to its faces; made by `open_detector`."""

    look: Callable[[np.ndarray], Detections]
    """One search of an upright image."""
    min_size: float = 0
    """Smallest longer side of a box in pixels."""
    max_faces: int | None = None
    """Most faces to keep, those with the largest area × score."""
    max_roll: float = UPRIGHT
    """Degrees of in-plane rotation at which faces must be found."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_size < math.inf:
            raise ConfigError(f"min_size is {self.min_size!r}; give a number of pixels, 0 or more")
        if self.max_faces is not None and self.max_faces < 1:
            raise ConfigError(f"max_faces is {self.max_faces!r}; give 1 or more, or None for all")
        if not 0 <= self.max_roll <= 180:
            raise ConfigError(f"max_roll is {self.max_roll!r}; give degrees between 0 and 180")

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of an image, best first.

        Args:
            image: uint8 RGB (H, W, 3).

        Raises:
            TypeError: not an array of uint8.
            ValueError: an array of another shape, or an empty one.
        """
        _check(image)
        faces = self._all_round(image)
        if self.min_size:
            faces = faces.select((faces.boxes[:, 2:] - faces.boxes[:, :2]).max(1, initial=0) >= self.min_size)
        if self.max_faces is not None and len(faces) > self.max_faces:
            order = np.argsort(-area(faces.boxes) * np.maximum(faces.scores, 0), kind="stable")
            faces = faces.select(np.sort(order[: self.max_faces]))
        return faces

    def _all_round(self, image: np.ndarray) -> Detections:
        quarters = [0]
        if self.max_roll > UPRIGHT:
            quarters += [1, 3]
        if self.max_roll > 180 - UPRIGHT:
            quarters.append(2)
        if quarters == [0]:
            return self.look(image)
        faces = Detections.join([turned_back(self.look(np.rot90(image, k)), k, *image.shape[:2]) for k in quarters])
        return faces.select(suppress(faces.boxes, faces.scores, SAME_FACE, containment))


def turned_back(faces: Detections, quarters: int, height: int, width: int) -> Detections:
    """Return faces found in `np.rot90(image, quarters)` as they lie in the image of this height and width."""

    def back(places: np.ndarray) -> np.ndarray:
        x, y = places[..., 0], places[..., 1]
        return np.stack([(x, y), (width - y, x), (width - x, height - y), (y, height - x)][quarters % 4], -1)

    corners = back(faces.boxes.reshape(-1, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    roll = np.remainder(faces.roll + quarters * np.pi / 2 + np.pi, 2 * np.pi) - np.pi
    return Detections(boxes, faces.scores, roll.astype(np.float32), None if faces.points is None else back(faces.points))


def _check(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        given = f"an array of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(f"a detector takes a uint8 array (H, W, 3), not {given}; mien.io.images.read_image makes one")
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"a detector takes an image (H, W, 3), not shape {image.shape}; mien.io.images.read_image makes one")
