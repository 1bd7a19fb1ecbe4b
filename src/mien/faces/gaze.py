"""Gaze direction from the irises of the 478-point face mesh, by an eyeball model.

Each eye is a sphere in the metric head of `mien.faces.pose`, placed by its two corners, since the lids move with the gaze. The
ray from the camera through the center of the iris meets the sphere; the gaze points from the center of the eye to there. The
depth of the iris, which the mesh network hardly measures, is not used.

The position of the eyes relative to their corners is that of the canonical face, corrected by the median reading of one half
of the London set, whose subjects look into the camera: an iris at rest is higher and further out than in the canonical face.
The other half measures bias and noise (benchmarks/gaze.py).
"""

from __future__ import annotations

import functools

import numpy as np

from ..types import CONTACT, EyeGaze, Gaze
from .pose import MetricFaces, canonical_face

# Outer corner, inner corner, upper lid, lower lid, center of the iris.
LEFT = (263, 362, 386, 374, 473)
"""The person's left eye, on the right of the image."""
RIGHT = (33, 133, 159, 145, 468)
"""The person's right eye."""
LIDS, IRISES = [*RIGHT[:4], *LEFT[:4]], [RIGHT[4], LEFT[4]]

RADIUS = 1.2
"""Radius of the eyeball in cm, in a canonical face."""
OUTWARD, UP = 0.075, 0.190
"""Position of the iris at rest relative to the canonical face, in cm."""
SHIFT = 0.015
"""Systematic error of the mesh network: shift of both irises to the person's left, in cm; also of a mirrored image."""
CLOSED = 0.12
"""Distance of the lids, in widths of the eye, below which an eye counts as closed (the blendshape eyeBlink is about 0.45)."""


def gazes(faces: MetricFaces) -> list[Gaze | None]:
    """Return the gaze of each face; None if both eyes are closed.

    Args:
        faces: from meshes with irises.
    """
    rest, widths = _eyes()
    backwards = np.swapaxes(faces.rotation, 1, 2)
    corners = faces.in_head(LIDS).reshape(-1, 2, 4, 3)  # right eye, left eye
    across, down = (np.linalg.norm(corners[:, :, i] - corners[:, :, i + 1], axis=-1) for i in (0, 2))
    size = (across / widths)[..., None]  # (N, 2, 1) of these eyes relative to the canonical ones
    centers = (corners[:, :, 0] + corners[:, :, 1]) / 2 + size * rest
    rays = faces.rays[:, IRISES] @ faces.rotation
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    camera = -(backwards @ faces.translation[..., None])[..., 0]  # (N, 3) position of the camera in head coordinates
    # The nearer intersection of ray and sphere; a ray that misses the sphere is taken where it comes closest.
    away = camera[:, None] - centers
    along = (away * rays).sum(-1, keepdims=True)
    inside = along**2 - (away**2).sum(-1, keepdims=True) + (size * RADIUS) ** 2
    directions = away - (along + np.sqrt(np.maximum(inside, 0))) * rays
    directions /= np.maximum(np.linalg.norm(directions, axis=-1, keepdims=True), 1e-9)
    is_open = down >= CLOSED * across  # (N, 2)
    mean = (directions * is_open[..., None]).sum(1)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    to_camera = away.mean(1)
    to_camera /= np.linalg.norm(to_camera, axis=1, keepdims=True)
    off = np.degrees(np.arccos(np.clip((mean * to_camera).sum(1), -1, 1)))
    in_head = np.concatenate([directions, mean[:, None]], 1)
    angles = np.concatenate([_angles(in_head @ backwards), _angles(in_head)], -1).tolist()
    found: list[Gaze | None] = []
    for (right, left, both), (right_open, left_open), angle in zip(angles, is_open.tolist(), off.tolist(), strict=True):
        each = EyeGaze(*left) if left_open else None, EyeGaze(*right) if right_open else None
        yaw, pitch, head_yaw, head_pitch = both
        gaze = Gaze(yaw, pitch, head_yaw, head_pitch, angle, angle <= CONTACT, *each)
        found.append(gaze if left_open or right_open else None)
    return found


@functools.cache
def _eyes() -> tuple[np.ndarray, np.ndarray]:
    """Return (2, 3) the centers of the canonical eyeballs relative to the middle of their corners, and (2,) the widths of the
    eyes; right eye first.
    """
    model, _ = canonical_face()
    outer, inner, _, _, iris = (model[[eye[i] for eye in (RIGHT, LEFT)]] for i in range(5))
    correction = [[-OUTWARD + SHIFT, UP, -RADIUS], [OUTWARD + SHIFT, UP, -RADIUS]]
    return iris - (outer + inner) / 2 + correction, np.linalg.norm(outer - inner, axis=1)


def _angles(directions: np.ndarray) -> np.ndarray:
    """Return (…, 2) yaw and pitch in degrees of unit vectors (…, 3)."""
    x, y, z = np.moveaxis(directions, -1, 0)
    return np.degrees(np.stack([np.arctan2(x, z), np.arcsin(np.clip(-y, -1, 1))], -1))
