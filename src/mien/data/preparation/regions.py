"""Eyes, nose and mouth cut out of aligned faces, for networks that read regions of the face (Global-ROI Net).

An image gives `align`, `roi/eye`, `roi/nose` and `roi/mouth`, or, where a face or a region is missing, `error`: all of it or
nothing.

Differences from the published preprocessing, without `author`:
* boxes are clamped to the image, and a region with a side below four pixels counts as missing (the authors' slices wrap);
* of several faces in an aligned image the one nearest to the center is taken, not the last;
* an image that fails leaves no eye or nose file behind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...faces.alignment import apply, dlib_chip_matrix, warp
from ...faces.regions import SIDE, Box, global_roi_boxes, inside, resized
from .faces import FacePicker
from .runner import Made


@dataclass(frozen=True, slots=True)
class Regions:
    """A `Work` that cuts regions of the face."""

    aligned: bool = False
    """The images are aligned faces; they are resized to 224 × 224."""
    author: bool = False
    """Reproduce the published routine exactly: the last face, unclamped boxes, eye and nose files of failed images remain."""
    detector: str = "blazeface"
    """Face detector; whole if each image is a tight crop of one face."""

    def describe(self) -> dict[str, Any]:
        """Return the settings for the manifest."""
        return {"work": "regions", "aligned": self.aligned, "author": self.author, "detector": self.detector, "side": SIDE}

    def open(self) -> Callable[[np.ndarray], Made]:
        """Load the networks and return the function for one image (H, W, 3)."""
        choice = "last" if self.author else "central" if self.aligned else "largest"
        find = FacePicker(self.detector, choice=choice)

        def make(pixels: np.ndarray) -> Made:
            image = resized(pixels, SIDE) if self.aligned else pixels
            face = find(image)
            if face is None or face.points68 is None:
                return Made("no face", {"error": resized(pixels, SIDE)})
            chip, points = image, face.points68
            if not self.aligned:
                matrix = dlib_chip_matrix(points, SIDE)
                chip, points = warp(image, matrix, SIDE, antialias=not self.author), apply(matrix, points)
            boxes = global_roi_boxes(points)
            facts = {"faces": face.faces, "boxes": {name: list(box) for name, box in boxes.items()}}
            return _published(chip, boxes, facts) if self.author else _clamped(chip, boxes, facts)

        return make


def _clamped(chip: np.ndarray, boxes: dict[str, Box], facts: dict[str, Any]) -> Made:
    kept = inside(boxes)
    if kept is None:
        return Made("no region", {"error": chip}, facts)
    crops = {f"roi/{name}": chip[y0:y1, x0:x1] for name, (x0, y0, x1, y1) in kept.items()}
    return Made("ok", {"align": chip, **crops}, facts)


def _published(chip: np.ndarray, boxes: dict[str, Box], facts: dict[str, Any]) -> Made:
    """Crop with Python slices as the authors do, in the order eye, nose, mouth, until the first empty one."""
    made: dict[str, np.ndarray] = {}
    for name, (x0, y0, x1, y1) in boxes.items():
        crop = chip[y0:y1, x0:x1]
        if not crop.size:
            return Made("no region", {"error": chip, **made}, facts)
        made[f"roi/{name}"] = crop
    return Made("ok", {"align": chip, **made}, facts)
