"""Find the faces of an image: five detectors behind one call.

    detect = open_detector("blazeface", max_faces=3)
    faces = detect(image)                     # uint8 RGB (H, W, 3) → Detections: boxes, scores, roll, points

| name | what | weights |
|---|---|---|
| blazeface | the default: MediaPipe's full-range detector, looking closer only where it must | Apache-2.0 |
| retinaface | small faces in one look, any rotation up to ± 60° | MIT, trained on WIDER FACE |
| mtcnn | the three-stage cascade that many datasets were cropped with | MIT, trained on WIDER FACE |
| mtcnn-evolve | the same networks with the conventions of face.evoLVe, which MFER's data were cropped with | as mtcnn |
| dlib | histograms of gradients, frontal faces (extra `[dlib]`) | Boost |
| whole | the image is the face | |

WIDER FACE is for academic research; whether that binds weights trained on it is disputed.
"""

from __future__ import annotations

from typing import Any

from ...registry import lookup
from .detections import Detections
from .detector import Detector

__all__ = ["DETECTORS", "Detections", "Detector", "open_detector"]

DETECTORS = {
    "blazeface": "mien.faces.detection.blazeface:BlazeFace",
    "retinaface": "mien.faces.detection.retinaface:RetinaFace",
    "mtcnn": "mien.faces.detection.mtcnn:MTCNN",
    "mtcnn-evolve": "mien.faces.detection.mtcnn:EvolveMTCNN",
    "dlib": "mien.faces.detection.dlib:Dlib",
    "whole": "mien.faces.detection.whole:Whole",
}
"""Name → class, opened with keywords `threshold`, `min_size`, `small_faces` and `threads`; its instances turn an image into
`Detections`. `"module:attribute"` names any other of that kind."""


def open_detector(
    name: str = "blazeface",
    *,
    threshold: float | None = None,
    min_size: float = 0,
    max_faces: int | None = None,
    small_faces: bool = False,
    max_roll: float = 45,
    threads: int = 1,
) -> Detector:
    """Open a detector by name.

    Args:
        name: key of `DETECTORS`, or `"module:attribute"`.
        threshold: score above which something is a face; None is the detector's own default. Scores are probabilities in
            [0, 1], for dlib distances from a decision boundary.
        min_size: smallest longer side of a box, in pixels of the image. A large value also saves time.
        max_faces: keep this many faces at most, those with the largest area × score. None: all.
        small_faces: look closer and slower, for crowds and backgrounds.
        max_roll: faces turned in the image plane by up to this many degrees, either way, are looked for (0 to 180). Above 45
            the image is also searched turned by quarters, which takes three times as long (four above 135).
        threads: threads used inside one network call; 0 lets the runtime choose.

    Raises:
        UnknownName: no such detector.
        ConfigError: an option out of its range.
        MissingExtra: the detector's package is not installed.
        WeightsError: the installation lacks the detector's weights.

    Example:
        >>> import numpy as np
        >>> detect = open_detector("whole")
        >>> detect(np.zeros((48, 64, 3), np.uint8)).boxes.tolist()
        [[0.0, 0.0, 64.0, 48.0]]
    """
    kind: Any = lookup(name, DETECTORS, "detector")
    look = kind(threshold=threshold, min_size=min_size, small_faces=small_faces, threads=threads)
    return Detector(look, min_size=min_size, max_faces=max_faces, max_roll=max_roll)
