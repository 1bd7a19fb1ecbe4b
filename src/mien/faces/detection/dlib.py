"""dlib's frontal face detector: histograms of oriented gradients, without a network (extra `[dlib]`).

Weaker than the other detectors (recall 0.68 on 114 faces, 0.95 with one upsampling); included because published pipelines crop
with it.
"""

import contextlib
import importlib
from types import ModuleType

import numpy as np

from ...errors import MissingExtra
from .detections import Detections

WINDOW = 80  # smallest face in pixels that is found without upsampling
SMALLEST, SMALLEST_SMALL_FACES = 40, 20  # smallest face in pixels by default, and with `small_faces`


class Dlib:
    """dlib's detector, upsampling the image as often as the smallest face requires.

    Raises MissingExtra: dlib is not installed.
    """

    def __init__(self, *, threshold: float | None, min_size: float, small_faces: bool, threads: int) -> None:
        self.threshold = 0.0 if threshold is None else threshold
        smallest = max(min_size, SMALLEST_SMALL_FACES if small_faces else SMALLEST)
        self.upsamplings = max(int(np.ceil(np.log2(WINDOW / smallest))), 0)
        self.detector = _dlib().get_frontal_face_detector()

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of a uint8 RGB image; scores are distances from the decision boundary, roll is unknown (0)."""
        found, scores, _ = self.detector.run(np.ascontiguousarray(image), self.upsamplings, self.threshold)
        if not len(found):
            return Detections.none()
        order = np.argsort(-np.array(scores), kind="stable")
        boxes = np.array([[r.left(), r.top(), r.right() + 1, r.bottom() + 1] for r in found], np.float32)
        return Detections(boxes[order], np.array(scores, np.float32)[order], np.zeros(len(found), np.float32))


def _dlib() -> ModuleType:
    for name in ("dlib", "_dlib_pybind11"):  # The source build and the wheel dlib-bin use different module names.
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    raise MissingExtra("dlib", "dlib")
