"""No search: the image is the face. For datasets of crops."""

from __future__ import annotations

from typing import Any

import numpy as np

from .detections import Detections


class Whole:
    """One upright face that fills the image, score 1."""

    def __init__(self, **options: Any) -> None:
        """Accept the options of the other detectors; none of them changes anything."""

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the image's own border as the one box."""
        height, width = image.shape[:2]
        return Detections(np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32), np.zeros(1, np.float32))
