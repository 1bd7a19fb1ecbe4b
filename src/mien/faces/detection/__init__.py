"""Face detection: five detectors behind one function.

    detect = open_detector("blazeface", max_faces=3)
    faces = detect(image)                     # uint8 RGB (H, W, 3) → Detections: boxes, scores, roll, points

| name | detector | license of the weights |
|---|---|---|
| blazeface | the default: MediaPipe's full-range detector, tiled where necessary | Apache-2.0 |
| retinaface | small faces in one pass, in-plane rotation up to ± 60° | MIT, trained on WIDER FACE |
| mtcnn | the three-stage cascade that many datasets were cropped with | MIT, trained on WIDER FACE |
| mtcnn-evolve | the same networks with the conventions of face.evoLVe, which MFER's data were cropped with | as mtcnn |
| dlib | histograms of oriented gradients, frontal faces (extra `[dlib]`) | Boost |
| whole | the whole image as one face | |

WIDER FACE is for academic research; whether that binds weights trained on it is disputed.

`mien.faces.finder` combines detection with the face mesh, which confirms each face, and with second attempts where nothing is
found.
"""

from typing import Any

from ...registry import lookup
from .detections import Detections
from .detector import UPRIGHT, Detector, Whole

__all__ = ["DETECTORS", "Detections", "Detector", "open_detector"]

DETECTORS = {
    "blazeface": "mien.faces.detection.blazeface:BlazeFace",
    "retinaface": "mien.faces.detection.retinaface:RetinaFace",
    "mtcnn": "mien.faces.detection.mtcnn:MTCNN",
    "mtcnn-evolve": "mien.faces.detection.mtcnn:EvolveMTCNN",
    "dlib": "mien.faces.detection.dlib:Dlib",
    "whole": Whole,
}
"""Name → class, constructed with the keywords `threshold`, `min_size`, `small_faces` and `threads`; an instance maps an image
to `Detections`. `"module:attribute"` names any other class with this interface."""


def open_detector(
    name: str = "blazeface",
    *,
    threshold: float | None = None,
    min_size: float = 0,
    max_faces: int | None = None,
    small_faces: bool = False,
    max_roll: float = UPRIGHT,
    threads: int = 1,
) -> Detector:
    """Open a detector by name.

    Args:
        name: key of `DETECTORS`, or `"module:attribute"`.
        threshold: detection score threshold; None for the detector's default. Scores are probabilities in [0, 1], for dlib
            distances from a decision boundary.
        min_size: minimum of a box's longer side in pixels. A large value also saves time.
        max_faces: keep at most this many faces, the most prominent (size × centrality × score). None: all.
        small_faces: search at a higher resolution, slower, for crowds and backgrounds.
        max_roll: find faces with an in-plane rotation up to this many degrees either way (0 to 180). Above 45 the image is also
            searched rotated by 90° both ways, which triples the time (four searches above 135).
        threads: threads used inside one network call; 0 lets the runtime choose.

    Raises:
        UnknownName: unknown detector.
        ConfigError: an option out of range.
        MissingExtra: the detector's package is not installed.
        WeightsError: the detector's weights are missing.

    Example:
        >>> import numpy as np
        >>> detect = open_detector("whole")
        >>> detect(np.zeros((48, 64, 3), np.uint8)).boxes.tolist()
        [[0.0, 0.0, 64.0, 48.0]]
    """
    kind: Any = lookup(name, DETECTORS, "detector")
    search = kind(threshold=threshold, min_size=min_size, small_faces=small_faces, threads=threads)
    return Detector(search, min_size=min_size, max_faces=max_faces, max_roll=max_roll)
