"""The whole image as one face, for datasets of face crops."""

from __future__ import annotations

from typing import Any

import numpy as np

from .detections import Detections


class Whole:
    """Returns one upright face that fills the image, with score 1."""

    def __init__(self, **options: Any) -> None:
        """Accept and ignore the options of the other detectors."""

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the border of the image as the only box."""
        height, width = image.shape[:2]
        return Detections(np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32), np.zeros(1, np.float32))
