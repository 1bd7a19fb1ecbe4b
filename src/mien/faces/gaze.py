"""Gaze direction from the irises of the 478-point face mesh, by an eyeball model.

Each eye is a sphere in the metric head of `mien.faces.pose`, placed by its two corners, since the lids move with the gaze. The
ray from the camera through the center of the iris meets the sphere; the gaze points from the center of the eye to there. The
depth of the iris, which the mesh network hardly measures, is not used.

The position of the eyes relative to their corners is that of the canonical face, corrected by the median reading of one half
of the London set, whose subjects look into the camera: an iris at rest is higher and further out than in the canonical face.
The other half measures bias and noise (benchmarks/measures.py).
"""

import functools
import math

from ..types import CONTACT, EyeGaze, Gaze
from .pose import MetricFaces, canonical_face

Vector = list[float]

# Outer corner, inner corner, upper lid, lower lid, center of the iris.
LEFT = (263, 362, 386, 374, 473)  # the person's left eye, on the right of the image
RIGHT = (33, 133, 159, 145, 468)  # the person's right eye
LIDS, IRISES = [*RIGHT[:4], *LEFT[:4]], [RIGHT[4], LEFT[4]]

RADIUS = 1.2  # radius of the eyeball in cm, in a canonical face
OUTWARD, UP = 0.075, 0.190  # position of the iris at rest relative to the canonical face, in cm
SHIFT = 0.015
"""Systematic error of the mesh network: shift of both irises to the person's left, in cm; also of a mirrored image."""
CLOSED = 0.12
"""Distance of the lids, in widths of the eye, below which an eye counts as closed (the blendshape eyeBlink is about 0.45)."""


def gazes(faces: MetricFaces) -> list[Gaze | None]:
    """Return the gaze of each face, from meshes with irises; None if both eyes are closed."""
    lids, rays = faces.in_head(LIDS).tolist(), (faces.rays[:, IRISES] @ faces.rotation).tolist()
    cameras = (-faces.translation[:, None] @ faces.rotation)[:, 0].tolist()
    return [_gaze(*each) for each in zip(lids, rays, cameras, faces.rotation.tolist(), strict=True)]


def _gaze(lids: list[Vector], rays: list[Vector], camera: Vector, rotation: list[Vector]) -> Gaze | None:
    """Return the gaze of one face from its lids (right eye, left eye), rays and camera in head coordinates.

    Plain Python numbers: numpy takes four times as long for so few.
    """
    eyes: list[EyeGaze | None] = []
    total, to_camera = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    for (rest, width), corners, ray in zip(_eyes(), (lids[:4], lids[4:]), rays, strict=True):
        outer, inner, upper, lower = corners
        across = math.dist(outer, inner)
        size = across / width  # of this eye relative to the canonical one
        center = [(a + b) / 2 + size * shift for a, b, shift in zip(outer, inner, rest, strict=True)]
        away = [a - b for a, b in zip(camera, center, strict=True)]
        to_camera = [a + b for a, b in zip(to_camera, away, strict=True)]
        if math.dist(upper, lower) < CLOSED * across:
            eyes.append(None)
            continue
        # The nearer intersection of ray and sphere; a ray that misses the sphere is taken where it comes closest.
        ray = _unit(ray)
        along = _dot(away, ray)
        inside = along**2 - _dot(away, away) + (size * RADIUS) ** 2
        reach = along + math.sqrt(max(inside, 0.0))
        direction = _unit([a - reach * b for a, b in zip(away, ray, strict=True)])
        total = [a + b for a, b in zip(total, direction, strict=True)]
        eyes.append(EyeGaze(*_angles(direction, rotation)))
    if not any(eyes):
        return None
    mean, (right, left) = _unit(total), eyes
    angle = math.degrees(math.acos(max(min(_dot(mean, _unit(to_camera)), 1.0), -1.0)))
    return Gaze(*_angles(mean, rotation), angle, angle <= CONTACT, left, right)


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(vector: Vector) -> Vector:
    length = max(math.hypot(*vector), 1e-9)
    return [value / length for value in vector]


@functools.cache
def _eyes() -> list[tuple[Vector, float]]:
    """Return the center of the eyeball relative to the middle of the corners, and the width, of the right and the left
    canonical eye.
    """
    model, _ = canonical_face()
    found = []
    for (outer, inner, _, _, iris), side in ((model[list(RIGHT)], -1), (model[list(LEFT)], 1)):
        rest = iris - (outer + inner) / 2 + [side * OUTWARD + SHIFT, UP, -RADIUS]
        found.append((rest.tolist(), math.dist(outer, inner)))
    return found


def _angles(direction: Vector, rotation: list[Vector]) -> tuple[float, float, float, float]:
    """Return yaw and pitch in degrees of a unit vector in head coordinates: relative to the camera, then to the head."""
    angles = []
    for x, y, z in ([_dot(row, direction) for row in rotation], direction):
        angles += [math.degrees(math.atan2(x, z)), math.degrees(math.asin(max(min(-y, 1.0), -1.0)))]
    return tuple(angles)
