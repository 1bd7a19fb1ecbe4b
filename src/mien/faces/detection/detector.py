"""What all detectors share, minimum size, maximum number of faces and in-plane rotation, and the detector without a search."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ConfigError
from ...metrics.boxes import area, centers, containment, sides
from .detections import Detections
from .nms import suppress

UPRIGHT = 45.0  # degrees of roll up to which the detectors find faces in an image as it is (measured, see docs/log.md)
SAME_FACE = 0.5  # share of the smaller box inside the other above which detections of different rotations are one face


@dataclass(frozen=True, slots=True)
class Detector:
    """A function from an image to `Detections`; opened by `open_detector`, which describes the options."""

    search: Callable[[np.ndarray], Detections]  # detects the upright faces of an image
    min_size: float
    max_faces: int | None
    max_roll: float

    def __post_init__(self) -> None:
        for name, valid, expected in (
            ("min_size", 0 <= self.min_size < math.inf, "a number of pixels, 0 or more"),
            ("max_faces", self.max_faces is None or self.max_faces >= 1, "1 or more, or None for all faces"),
            ("max_roll", 0 <= self.max_roll <= 180, "degrees from 0 to 180"),
        ):
            if not valid:
                value = getattr(self, name)
                raise ConfigError(f"{name} must be {expected}, got {value!r}", value=value, expected=expected)

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of an image (H, W, 3) uint8 RGB, best first.

        Raises TypeError: the image is not a uint8 array; ValueError: the image has another shape or is empty.
        """
        return self._faces(self.search, image)

    @property
    def quick(self) -> Callable[[np.ndarray], Detections] | None:
        """The first search of a detector that searches an image several times, for faces that are known; None for others."""
        search = getattr(self.search, "quick", None)
        return None if search is None else functools.partial(self._faces, search)

    def _faces(self, search: Callable[[np.ndarray], Detections], image: np.ndarray) -> Detections:
        _check(image)
        quarters = [0, *[1, 3] * (self.max_roll > UPRIGHT), *[2] * (self.max_roll > 180 - UPRIGHT)]
        faces = rotated(search, image, quarters) if len(quarters) > 1 else search(image)
        if self.min_size:
            faces = faces.select(sides(faces.boxes).max(1, initial=0) >= self.min_size)
        if self.max_faces is not None and len(faces) > self.max_faces:
            order = np.argsort(-prominence(faces.boxes, *image.shape[:2]) * np.maximum(faces.scores, 0), kind="stable")
            faces = faces.select(np.sort(order[: self.max_faces]))
        return faces


def rotated(search: Callable[[np.ndarray], Detections], image: np.ndarray, quarters: Iterable[int]) -> Detections:
    """Run a detector on an image rotated by each multiple of 90°, and merge the detections."""
    return merged([search(np.rot90(image, k)).unrotated(k, *image.shape[:2]) for k in quarters])


def merged(parts: Sequence[Detections]) -> Detections:
    """Merge the detections of several searches of one image: of those that share a face the best is kept."""
    if len(parts) == 1:
        return parts[0]
    faces = Detections.join(parts)
    return faces.select(suppress(faces.boxes, faces.scores, SAME_FACE, containment))


class Whole:
    """Takes the whole image as one upright face with score 1, for datasets of face crops."""

    def __init__(self, **options: Any) -> None:
        """Accept and ignore the options of the other detectors."""

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the border of the image as the only box."""
        height, width = image.shape[:2]
        return Detections(np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32), np.zeros(1, np.float32))


def prominence(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return (N,) size × centrality of boxes (N, 4) in an image: the main face has the largest value.

    The size is the square root of the area, in pixels; a face in a corner counts half of one in the center.
    """
    middle = np.array([width, height]) / 2
    offset = np.linalg.norm(centers(boxes) - middle, axis=-1) / np.linalg.norm(middle)
    return np.sqrt(area(boxes)) * (1 - 0.5 * offset.clip(0, 1))


def _check(image: np.ndarray) -> None:
    expected = "a uint8 array of shape (H, W, 3), as mien.io.images.read_image returns"
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        got = f"an array of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(f"a detector takes {expected}; got {got}")
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"a detector takes {expected}; got shape {image.shape}")
