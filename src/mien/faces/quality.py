"""Quality of a face image: whether its pixels can support a confident prediction.

    quality = size × sharpness × detail × frontal × upright × presence × agreement          each 0 … 1

Each factor is 1 where predictions are as accurate as on good portraits, and 0 where they are useless or there may be no face at
all. The ramps between were set on degraded images of the LFW validation split, the threshold on the clean ones (docs/log.md,
"Faces on ordinary photographs").
"""

import math

import numpy as np

from ..types import FACE, Pose
from .alignment import crop_square, square_matrix
from .finder import FoundFace

TRUSTED = 0.4  # quality from which a prediction may be certain
SIZE = (14.0, 26.0)
"""Longer side of the mesh in pixels: useless, good. Accuracy drops by 1 point at 22 pixels and by 15 at 15 pixels."""
SHARPNESS = (0.12, 0.32)
"""Sharpness of the face at `SIDE` pixels, see `texture`: useless, good. Accuracy drops by 9 points at 0.24 and 24 at 0.17."""
FLAT = (0.62, 0.45)
"""Flat share of the face, see `texture`: useless, good. Photographs have at most 0.28, drawings and logos mostly 0.64 or more;
portraits that are half white by overexposure are in between."""
TURN = (75.0, 45.0)  # yaw or pitch in degrees: useless, good
ROLL = (110.0, 60.0)  # in-plane rotation in degrees: useless, good. Upside-down detections are often false.
PRESENCE = (0.5, 0.95)  # presence of the mesh: useless, good
DOUBTED = 0.3  # factor of a face that only one of two detectors finds
SIDE = 48  # side in pixels of the upright crop whose texture is measured


def face_quality(image: np.ndarray, face: FoundFace, pose: Pose | None = None) -> float | None:
    """Return the quality of a face in an image (H, W, 3) uint8 RGB, 0 … 1; None without a mesh.

    Without the head pose, yaw and pitch are left out.
    """
    if face.points is None:
        return None
    points, roll = face.points[:FACE, :2], face.roll
    low, high = points.min(0).tolist(), points.max(0).tolist()
    size = max(high[0] - low[0], high[1] - low[1])
    middle = (low[0] + high[0]) / 2, (low[1] + high[1]) / 2
    sharpness, flat = texture(crop_square(image, square_matrix(*middle, max(size, 1), roll, SIDE), SIDE, gray=True))
    factors = [
        _ramp(size, *SIZE),
        _ramp(sharpness, *SHARPNESS),
        _ramp(flat, *FLAT),
        _ramp(abs(math.degrees(roll)), *ROLL),
        _ramp(face.presence, *PRESENCE),
        1.0 if face.agreed else DOUBTED,
    ]
    if pose is not None:
        factors += [_ramp(abs(pose.yaw), *TURN), _ramp(abs(pose.pitch), *TURN)]
    return math.prod(factors)


def is_certain(confidence: float, threshold: float, quality: float | None) -> bool:
    """Return whether a prediction is certain: confidence and quality of the face reach their thresholds."""
    return confidence >= threshold and (quality is None or quality >= TRUSTED)


def texture(crop: np.ndarray) -> tuple[float, float]:
    """Return sharpness and flat share of an upright face crop (`SIDE`, `SIDE`), uint8 gray.

    Sharpness is the deviation of the Laplacian as a share of the deviation of the gray levels, so it does not depend on
    brightness and contrast. A face smaller than the crop is enlarged, so it is less sharp. The flat share is that of the pixels
    whose Laplacian is below 2 % of the deviation of the gray levels: skin has some texture everywhere, drawn areas have none.
    """
    pixels = crop.astype(np.float32)
    inside = pixels[1:-1, 1:-1]
    laplacian = 4 * inside - pixels[:-2, 1:-1] - pixels[2:, 1:-1] - pixels[1:-1, :-2] - pixels[1:-1, 2:]
    deviation = max(float(inside.std()), 1.0)
    return float(laplacian.std()) / deviation, float((np.abs(laplacian) < 0.02 * deviation).mean())


def _ramp(value: float, useless: float, good: float) -> float:
    return min(max((value - useless) / (good - useless), 0.0), 1.0)
