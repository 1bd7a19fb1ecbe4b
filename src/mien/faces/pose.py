"""Head pose from the face mesh: the rotation and position of the canonical face in camera coordinates.

MediaPipe's metric fit (google-ai-edge/mediapipe, face_geometry/libs/geometry_pipeline.cc and procrustes_solver.cc): a virtual
camera with a known field of view turns image points into rays, and a weighted similarity of the canonical face to 33 landmarks
gives the size, and with it the distance, of the face.

Differences from MediaPipe: its third fit differs from the second by the known scale alone, so it is not computed.
"""

import functools
from dataclasses import dataclass

import numpy as np

from ..cards import ASSETS
from ..types import FACE, FOV, Pose


@functools.cache
def canonical_face() -> tuple[np.ndarray, np.ndarray]:
    """Return (478, 3) points of the canonical face in cm (x to the person's left, y up, z out of the face), and (478,) weights
    of the fit, most of them 0.
    """
    table = np.loadtxt(ASSETS / "canonical_face.csv", delimiter=",")
    return table[:, :3], table[:, 3]


@functools.cache
def _basis() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Return the landmarks of the fit, their weights (sum 1), the weighted mean of the canonical face there, the weighted
    differences from it, and its weighted variance.
    """
    model, weights = canonical_face()
    basis = np.flatnonzero(weights)
    share = weights[basis] / weights.sum()
    middle = share @ model[basis]
    centered = model[basis] - middle
    weighted = centered * share[:, None]
    return basis, share, middle, weighted, float((weighted * centered).sum())


@dataclass(frozen=True, slots=True, eq=False)
class MetricFaces:
    """N faces in camera coordinates, in cm: x to the right of the image, y up, z from the scene towards the camera."""

    rotation: np.ndarray  # (N, 3, 3) from the canonical face to the camera
    translation: np.ndarray  # (N, 3) of the canonical face's origin
    rays: np.ndarray  # (N, P, 3) directions from the camera to the landmarks, with z = −1
    depth: np.ndarray  # (N, P) distance of the landmarks from the camera, along its axis
    fov: float  # vertical field of view of the camera in degrees

    def in_head(self, landmarks: list[int]) -> np.ndarray:
        """Return (N, K, 3) landmarks in the coordinates of the canonical face."""
        camera = self.rays[:, landmarks] * self.depth[:, landmarks, None]
        return (camera - self.translation[:, None]) @ self.rotation

    @property
    def poses(self) -> list[Pose]:
        """The head poses."""
        r = self.rotation
        pitch, yaw = np.arctan2(r[:, 2, 1], r[:, 2, 2]), np.arcsin(np.clip(-r[:, 2, 0], -1, 1))
        roll = np.arctan2(r[:, 1, 0], r[:, 0, 0])
        angles = np.degrees(np.stack([pitch, yaw, roll], 1))
        rows = np.concatenate([angles, self.translation], 1).tolist()
        return [Pose(p, q, r, x, y, z, self.fov) for p, q, r, x, y, z in rows]


def metric_faces(points: np.ndarray, sizes: np.ndarray, fov: float = FOV) -> MetricFaces:
    """Fit the canonical face to meshes (N, P ≥ 468, 3) in pixels of their images, whose `sizes` (N, 2) are width and height.

    The distance scales with the vertical field of view `fov` in degrees; angles hardly depend on it.
    """
    basis, share, middle, weighted, variance = _basis()
    near = 2 * np.tan(np.radians(fov) / 2) / sizes[:, 1:].astype(np.float64)  # cm per pixel, 1 cm from the camera
    rays = np.empty(points.shape)
    rays[..., :2] = (points[..., :2] + (0.5 - sizes[:, None] / 2)) * (near[:, None] * [1, -1])
    rays[..., 2] = -1
    depth = points[..., 2] * near
    # The first fit gives the size of the face in an orthographic view.
    flat = rays[:, basis]
    flat[..., 2] = -depth[:, basis]
    first, _ = _similarity(flat, weighted, variance)
    # The second gives size and rotation of the landmarks unprojected with it.
    depth = (depth - depth[:, :FACE].mean(1, keepdims=True) + 1) / first[:, None]
    camera = rays[:, basis] * depth[:, basis, None]
    second, rotation = _similarity(camera, weighted, variance)
    translation = (share @ camera) / second[:, None] - rotation @ middle
    return MetricFaces(rotation, translation, rays, depth / second[:, None], fov)


def _similarity(points: np.ndarray, weighted: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return scale (N,) and rotation (N, 3, 3) from the canonical face to points (N, K, 3).

    The weighted orthogonal Procrustes problem without reflection (Umeyama, IEEE TPAMI 13(4), 1991).
    """
    # The weighted differences sum to zero, so the points need not be centered.
    covariance = np.swapaxes(points, 1, 2) @ weighted
    u, singular, v = np.linalg.svd(covariance)
    proper = np.sign(np.linalg.det(covariance))
    singular[:, 2] *= proper
    u[..., 2] *= proper[:, None]
    return singular.sum(1) / variance, u @ v
