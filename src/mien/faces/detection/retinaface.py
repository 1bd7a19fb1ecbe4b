"""RetinaFace with a MobileNet-0.25 backbone: finds small faces in one pass.

Deng et al., "RetinaFace: Single-stage Dense Face Localisation in the Wild", 2019 (arXiv:1905.00641); weights of
yakhyo/retinaface-pytorch (MIT), trained on WIDER FACE, whose images are for research. Boxes extend from the forehead to the
chin; the five keypoints are the eyes, the tip of the nose and the corners of the mouth.
"""

from functools import lru_cache

import numpy as np

from ...cards import bundled_file
from ...runtime.onnx import OnnxRuntime
from .detections import Detections
from .nms import suppress
from .resize import fit

LONGEST, LONGEST_SMALL_FACES = 640, 2560
"""Longer side of the network's input in pixels: at most this, by default and with `small_faces`."""
SHORTEST = 192  # smaller images are enlarged to this longer side: of 300 crops of 48 pixels 297 faces are found instead of 161
THRESHOLD = 0.6  # default score threshold, chosen for recall; 0.8 favors precision
SAME_FACE = 0.4  # IoU above which the lower-scored of two boxes is suppressed
MEAN_BGR = np.array([104, 117, 123], np.float32)
ANCHORS = {8: (16, 32), 16: (64, 128), 32: (256, 512)}  # stride of each feature map → sides of its two anchors, both in pixels


class RetinaFace:
    """RetinaFace on the image scaled to at most `LONGEST`."""

    def __init__(self, *, threshold: float | None, min_size: float, small_faces: bool, threads: int) -> None:
        # The largest inputs of `small_faces` would keep hundreds of megabytes.
        self.network = OnnxRuntime(bundled_file("retinaface.onnx"), threads, arena=not small_faces)
        self.threshold = THRESHOLD if threshold is None else threshold
        self.longest = LONGEST_SMALL_FACES if small_faces else LONGEST

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of a uint8 RGB image."""
        small, scale = fit(image, min(max(max(image.shape[:2]), SHORTEST), self.longest))
        # The feature maps align with the image only if both sides are multiples of the largest stride.
        height, width = small.shape[:2]
        canvas = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.float32)
        canvas[:height, :width] = small[..., ::-1] - MEAN_BGR
        boxes, scores, points = (output[0] for output in self.network(canvas.transpose(2, 0, 1)[None]).values())
        found = np.flatnonzero(scores[:, 1] > self.threshold)
        if not found.size:
            return Detections.none(5)
        # Outputs are offsets from anchors in the SSD parametrization, with variances 0.1 for centers and 0.2 for log sizes.
        anchors, boxes, scores, points = anchors_of(*canvas.shape[:2])[found], boxes[found], scores[found, 1], points[found]
        centers = anchors[:, :2] + boxes[:, :2] * 0.1 * anchors[:, 2:]
        halves = anchors[:, 2:] * np.exp(boxes[:, 2:] * 0.2) / 2
        boxes = np.concatenate([centers - halves, centers + halves], 1) / scale
        points = (anchors[:, None, :2] + points.reshape(-1, 5, 2) * 0.1 * anchors[:, None, 2:]) / scale
        kept = suppress(boxes, scores, SAME_FACE)
        return Detections.from_points(boxes[kept], scores[kept], points[kept])


@lru_cache(maxsize=8)
def anchors_of(height: int, width: int) -> np.ndarray:
    """Return (A, 4) float32: center x, center y and side (twice) of each anchor, in the order of the network's outputs."""
    blocks = []
    for stride, lengths in ANCHORS.items():
        grid = np.stack(np.meshgrid(np.arange(0, width, stride), np.arange(0, height, stride)), -1).reshape(-1, 1, 2)
        cell = np.empty((len(grid), len(lengths), 4), np.float32)
        cell[..., :2] = grid + stride / 2
        cell[..., 2:] = np.array(lengths)[:, None]
        blocks.append(cell.reshape(-1, 4))
    return np.concatenate(blocks)
