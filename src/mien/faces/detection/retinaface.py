"""RetinaFace with a MobileNet-0.25 trunk: small faces in one look.

Deng et al., "RetinaFace: Single-stage Dense Face Localisation in the Wild", 2019 (arXiv:1905.00641); weights of
yakhyo/retinaface-pytorch (MIT), trained on WIDER FACE, whose images are for research. Boxes run from the forehead to the
chin; the five points are the eyes, the tip of the nose and the corners of the mouth.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...cards import bundled_file
from ...runtime.onnx import OnnxRuntime
from .detections import Detections
from .nms import suppress
from .resize import fit

LONGEST, LONGEST_SMALL_FACES = 640, 2560  # pixels of the longer side that the network sees at most …
SHORTEST = 192  # … and at least: of 300 crops of 48 pixels it finds 161 as they are and 297 enlarged to this
THRESHOLD = 0.6  # recall; .8 for precision
SAME_FACE = 0.4  # intersection over union from which the weaker box goes
MEAN_BGR = np.array([104, 117, 123], np.float32)
ANCHORS = {8: (16, 32), 16: (64, 128), 32: (256, 512)}  # stride of the grid: sides of its two anchors, in pixels


class RetinaFace:
    """The image shrunk to `LONGEST` (enlarged only if tiny), looked at once."""

    def __init__(
        self, *, threshold: float | None = None, min_size: float = 0, small_faces: bool = False, threads: int = 1
    ) -> None:
        self.network = OnnxRuntime(bundled_file("retinaface.onnx"), threads)
        self.threshold = THRESHOLD if threshold is None else threshold
        self.longest = LONGEST_SMALL_FACES if small_faces else LONGEST

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of a uint8 RGB image."""
        small, scale = fit(image, min(max(max(image.shape[:2]), SHORTEST), self.longest))
        height, width = small.shape[:2]
        canvas = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.float32)
        canvas[:height, :width] = small[..., ::-1] - MEAN_BGR
        boxes, scores, points = (answer[0] for answer in self.network(canvas.transpose(2, 0, 1)[None]).values())
        found = np.flatnonzero(scores[:, 1] > self.threshold)
        if not found.size:
            return Detections.none(5)
        anchors, boxes, scores, points = anchors_of(*canvas.shape[:2])[found], boxes[found], scores[found, 1], points[found]
        centers = anchors[:, :2] + boxes[:, :2] * 0.1 * anchors[:, 2:]
        halves = anchors[:, 2:] * np.exp(boxes[:, 2:] * 0.2) / 2
        boxes = np.concatenate([centers - halves, centers + halves], 1) / scale
        points = (anchors[:, None, :2] + points.reshape(-1, 5, 2) * 0.1 * anchors[:, None, 2:]) / scale
        kept = suppress(boxes, scores, SAME_FACE)
        return Detections.from_points(boxes[kept], scores[kept], points[kept])


@lru_cache(maxsize=32)
def anchors_of(height: int, width: int) -> np.ndarray:
    """Return (A, 4) float32: center x, y and side (twice) of every anchor, in the order of the network's answers."""
    blocks = []
    for stride, sides in ANCHORS.items():
        centers = (
            np.stack(np.meshgrid(np.arange(0, width, stride), np.arange(0, height, stride)), -1).reshape(-1, 1, 2) + stride / 2
        )
        cell = np.empty((len(centers), len(sides), 4), np.float32)
        cell[..., :2] = centers
        cell[..., 2:] = np.array(sides)[:, None]
        blocks.append(cell.reshape(-1, 4))
    return np.concatenate(blocks)
