"""Gaze direction from the irises of the 478-point face mesh, by an eyeball model.

Each eye is a sphere in the metric head of `mien.faces.pose`, placed by its two corners, since the lids move with the gaze. The
ray from the camera through the center of the iris meets the sphere; the gaze points from the center of the eye to there. The
depth of the iris, which the mesh network hardly measures, is not used.

The position of the eyes relative to their corners is that of the canonical face, corrected by the median reading of one half
of the London set, whose subjects look into the camera: an iris at rest is higher and further out than in the canonical face.
The other half measures bias and noise (benchmarks/gaze.py).
"""

from __future__ import annotations

import numpy as np

from ..types import CONTACT, EyeGaze, Gaze
from .pose import MetricFaces, canonical_face

# Outer corner, inner corner, upper lid, lower lid, center of the iris.
LEFT = (263, 362, 386, 374, 473)
"""The person's left eye, on the right of the image."""
RIGHT = (33, 133, 159, 145, 468)
"""The person's right eye."""

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
    camera = -np.einsum("nji,nj->ni", faces.rotation, faces.translation)  # position of the camera in head coordinates
    eyes = [_eye(faces, camera, RIGHT, -1), _eye(faces, camera, LEFT, 1)]
    directions, openings, centers = (np.stack(each, 1) for each in zip(*eyes, strict=True))
    is_open = openings >= CLOSED  # (N, 2)
    mean = (directions * is_open[..., None]).sum(1)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    to_camera = camera - centers.mean(1)
    to_camera /= np.linalg.norm(to_camera, axis=1, keepdims=True)
    off = np.degrees(np.arccos(np.clip((mean * to_camera).sum(1), -1, 1)))
    in_head = np.concatenate([directions, mean[:, None]], 1)
    angles = np.concatenate([_angles(in_head @ np.swapaxes(faces.rotation, 1, 2)), _angles(in_head)], -1).tolist()
    found: list[Gaze | None] = []
    for (right, left, both), (right_open, left_open), angle in zip(angles, is_open.tolist(), off.tolist(), strict=True):
        each = EyeGaze(*left) if left_open else None, EyeGaze(*right) if right_open else None
        found.append(Gaze(*both, angle, angle <= CONTACT, *each) if left_open or right_open else None)
    return found


def _eye(faces: MetricFaces, camera: np.ndarray, eye: tuple[int, ...], side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return gaze directions (N, 3) in head coordinates, lid openings (N,) in eye widths, and centers (N, 3) of the eyeball.

    `side` is +1 for the person's left eye.
    """
    model, _ = canonical_face()
    outer, inner, *_, iris = eye
    rest = model[iris] - (model[outer] + model[inner]) / 2 + [side * OUTWARD + SHIFT, UP, -RADIUS]
    corners = faces.in_head(list(eye[:4]))
    width = np.linalg.norm(corners[:, 0] - corners[:, 1], axis=1)
    opening = np.linalg.norm(corners[:, 2] - corners[:, 3], axis=1) / np.maximum(width, 1e-9)
    size = (width / np.linalg.norm(model[outer] - model[inner]))[:, None]  # of this eye relative to the canonical one
    center = corners[:, :2].mean(1) + size * rest
    ray = np.einsum("nji,nj->ni", faces.rotation, faces.rays[:, iris])
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    # The nearer intersection of ray and sphere; a ray that misses the sphere is taken where it comes closest.
    away = camera - center
    along = (away * ray).sum(1, keepdims=True)
    inside = along**2 - (away**2).sum(1, keepdims=True) + (size * RADIUS) ** 2
    direction = away + (-along - np.sqrt(np.maximum(inside, 0))) * ray
    return direction / np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9), opening, center


def _angles(directions: np.ndarray) -> np.ndarray:
    """Return (…, 2) yaw and pitch in degrees of unit vectors (…, 3)."""
    x, y, z = np.moveaxis(directions, -1, 0)
    return np.degrees(np.stack([np.arctan2(x, z), np.arcsin(np.clip(-y, -1, 1))], -1))
