"""Face landmarks: MediaPipe's face mesh (468 or 478 points) and the 52 blendshapes computed from it.

The input of the mesh network is a square region of the image, rotated so that the eyes are level. A detector's box gives the
first region; detectors disagree about boxes (brow or forehead to chin), so the region is refined from the first landmarks.

Source: MediaPipe's face landmark and blendshape models and its rules for their regions (google-ai-edge/mediapipe).

Differences from MediaPipe: the region is refined, by the small mesh; points are placed by the pixel centers that the networks
were found to mean (`MESHES`), half a pixel of the 256 from where MediaPipe has them; blendshapes are read from upright points.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..cards import bundled_file
from ..labels import BLENDSHAPES
from ..registry import lookup
from ..runtime.onnx import OnnxRuntime
from ..types import EYES, FACE, blendshape_points
from .alignment import Interpolation, apply, crop_square, square_matrix

MESHES: Mapping[str, float] = {"mesh478": 0.5, "mesh468": 0.0}
"""Name of a mesh → coordinate of the first pixel's center in its network's output. It is undocumented; with these values the
mesh of a mirrored image is the mirrored mesh (measured on 68 portraits: 0.498 ± 0.016 and −0.06 ± 0.03)."""
SCOUT = "mesh468"
"""The mesh that refines the region for both, in nearest-neighbor crops. The 478 landmarks are then about as close to their
converged positions as after a first pass of their own (0.7 against 0.4 % of the interocular distance, with an error of 3 %), in
0.9 ms instead of 5."""
FITTING = ("blazeface",)
"""Detectors whose boxes the mesh was made for. If only alignment is needed, one pass suffices: eyes, nose and mouth are 3.1 %
of the interocular distance from where three passes of the large mesh converge, after two passes 3.0 %."""
PRESENCE = 0.5  # mesh presence below which a region shows no face


@dataclass(frozen=True, slots=True, eq=False)
class Landmarks:
    """The meshes of N faces."""

    points: np.ndarray
    """(N, 468 or 478, 3) float32: x and y in image pixels (pixel centers at whole numbers), z in the same unit, smaller is
    nearer; its zero is near the middle of the head. Views: `mien.types`."""
    presence: np.ndarray  # (N,) float32, 0 … 1: probability that the region shows a face

    def __len__(self) -> int:
        return len(self.points)

    @property
    def regions(self) -> np.ndarray:
        """(N, 4) regions in which the same faces are searched in the next frame of a video."""
        return regions_of_points(self.points)


def region_of_box(box: Sequence[float] | np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Return the region (x and y of its center, side, rotation in radians) for a detected box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = (float(value) for value in box)
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2, 1.425 * max(x1 - x0, y1 - y0), roll])


def regions_of_points(points: np.ndarray) -> np.ndarray:
    """Return the regions (N, 4) around meshes (N, P, 2 or 3), rotated by the line between the eyes."""
    found = np.empty((len(points), 4))
    for region, mesh in zip(found, points, strict=True):
        roll = float(eye_roll(mesh))
        cosine, sine = math.cos(roll), math.sin(roll)
        x, y = mesh[:FACE, 0].astype(np.float64), mesh[:FACE, 1].astype(np.float64)
        across, down = x * cosine + y * sine, y * cosine - x * sine
        left, right, top, bottom = (float(value) for value in (across.min(), across.max(), down.min(), down.max()))
        u, v = (left + right) / 2, (top + bottom) / 2
        region[:] = u * cosine - v * sine, u * sine + v * cosine, 1.5 * max(right - left, bottom - top), roll
    return found


class Landmarker:
    """Computes the meshes of detected faces. Thread-safe.

    The mesh is `"mesh478"` (with irises, as the blendshapes need it), or `"mesh468"`, a fifth of the time and about as good for
    alignment but on profiles. `refine` is how often the region is refined from the landmarks, 0 for regions of the last frame.

    Example:
        >>> import numpy as np
        >>> landmarker = Landmarker("mesh468")
        >>> landmarker([(np.zeros((64, 64, 3), np.uint8), (8, 8, 56, 56), 0.0)]).points.shape
        (1, 468, 3)
    """

    def __init__(self, mesh: str = "mesh478", refine: int = 1, threads: int = 1) -> None:
        self.refine = refine
        self._mesh = _Mesh(mesh, threads)
        self._scout = _Mesh(SCOUT, threads) if refine and mesh != SCOUT else self._mesh

    def __call__(self, faces: Sequence[tuple[np.ndarray, Sequence[float] | np.ndarray, float]]) -> Landmarks:
        """Return the meshes of faces, each given by its image, box (x0, y0, x1, y1) in pixels, and rotation in radians."""
        regions = [region_of_box(box, roll) for _, box, roll in faces]
        return self.locate([image for image, _, _ in faces], np.array(regions).reshape(-1, 4))

    def crops(self, images: Sequence[np.ndarray]) -> Landmarks:
        """Return the meshes of images (H, W, 3) that are tight crops of one upright face each; no detector is needed."""
        sizes = [image.shape[:2] for image in images]
        regions = [(width / 2, height / 2, 1.3 * max(height, width), 0.0) for height, width in sizes]
        return self.locate(images, np.array(regions).reshape(-1, 4))

    def locate(self, images: Sequence[np.ndarray], regions: np.ndarray, refine: int | None = None) -> Landmarks:
        """Return the meshes in regions (N, 4) of images, one for each, (H, W) or (H, W, 3) uint8 RGB; see `region_of_box`."""
        for _ in range(self.refine if refine is None else refine):
            regions = self._scout(images, regions, "nearest").regions
        return self._mesh(images, regions)


class _Mesh:
    """One mesh network: regions in, meshes out."""

    def __init__(self, name: str, threads: int) -> None:
        self.origin = lookup(name, MESHES, "mesh", plugins=False)
        self.network = OnnxRuntime(bundled_file(f"{name}.onnx"), threads)
        self.size: int = self.network.session.get_inputs()[0].shape[1]
        self.count: int = self.network.session.get_outputs()[0].shape[1] // 3

    def __call__(
        self, images: Sequence[np.ndarray], regions: np.ndarray, interpolation: Interpolation = "bilinear"
    ) -> Landmarks:
        points = np.empty((len(images), self.count, 3), np.float32)
        presence = np.empty(len(images), np.float32)
        for start in range(0, len(images), self.network.together):
            part = slice(start, start + self.network.together)
            batch, back = region_crops(images[part], regions[part], self.size, interpolation)
            found, logits, *_ = self.network(batch).values()
            mesh = found.reshape(len(batch), -1, 3)
            points[part, :, :2] = apply(back, mesh[..., :2].astype(np.float64) - self.origin)
            points[part, :, 2] = mesh[..., 2] * (regions[part, 2, None] / self.size)
            presence[part] = 1 / (1 + np.exp(-np.clip(logits[:, 0], -50, 50)))
        return Landmarks(points, presence)


def region_crops(
    images: Sequence[np.ndarray], regions: np.ndarray, size: int, interpolation: Interpolation = "bilinear"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the regions as (N, size, size, 3) float32, 0 … 1, and the (N, 2, 3) matrices from there to the images."""
    backs = [square_matrix(x, y, max(side, 1), roll, size) for x, y, side, roll in regions.tolist()]
    batch = np.empty((len(images), size, size, 3), np.float32)
    for pixels, image, back in zip(batch, images, backs, strict=True):
        crop = crop_square(image, back, size, interpolation=interpolation)
        np.multiply(crop if crop.ndim == 3 else crop[..., None], np.float32(1 / 255), out=pixels)
    return batch, np.array(backs).reshape(-1, 2, 3)


def eye_roll(points: np.ndarray) -> np.ndarray:
    """Return (…) the in-plane rotation of meshes (…, P, 2 or 3) in radians, from the line between the outer corners of the
    eyes.

    Positive: the head leans to the right of the image.
    """
    across = points[..., EYES[1][0], :2].astype(np.float64) - points[..., EYES[0][0], :2]
    return np.arctan2(across[..., 1], across[..., 0])


class Blendshapes:
    """Computes blendshapes from 478-point meshes. Thread-safe.

    The network expects upright heads, so meshes are rotated first, and moved to the origin for the precision of float32.
    """

    def __init__(self, threads: int = 1) -> None:
        self._network = OnnxRuntime(bundled_file("blendshapes.onnx"), threads)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return (N, 52) float32 activations, 0 … 1, named by `BLENDSHAPES`, for meshes (N, 478, 2 or 3).

        Raises ValueError: the meshes have no iris landmarks.
        """
        if points.shape[-2] != 478:
            raise ValueError(f"blendshapes need the 478-point mesh, not {points.shape[-2]} points")
        chosen = blendshape_points(points).astype(np.float64)
        chosen -= chosen.mean(-2, keepdims=True)
        roll = eye_roll(points)
        cosine, sine = np.cos(roll)[:, None], np.sin(roll)[:, None]
        upright = np.empty(chosen.shape, np.float32)
        upright[..., 0] = chosen[..., 0] * cosine + chosen[..., 1] * sine
        upright[..., 1] = chosen[..., 1] * cosine - chosen[..., 0] * sine
        # One face per call: batches are no faster, and on some processors the sums would depend on the batch size.
        faces = [self._network(face[None])["blendshapes"] for face in upright]
        return np.concatenate([np.empty((0, len(BLENDSHAPES)), np.float32), *faces])
