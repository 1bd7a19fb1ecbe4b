"""Eyes, nose and mouth of training images, found by the face mesh."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..faces.landmarks import Landmarker
from ..faces.regions import region_crops
from ..types import points68


class Regions:
    """Cut the regions of images that are face crops already; images without a mesh give them where they lie on average.

    Args:
        sizes: name → side of the crop in pixels.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes, self.landmarker = dict(sizes), Landmarker("mesh468")

    def __call__(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Return name → (side, side, 3) uint8 of one image (H, W, 3)."""
        mesh = self.landmarker.crops([pixels])
        points = points68(mesh.points[0]) if mesh.presence[0] >= 0.5 else None
        return region_crops(pixels, points, self.sizes)
