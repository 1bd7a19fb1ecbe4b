"""Face alignment: similarity transforms, the published templates, and the warp that makes the crop.

A matrix is (2, 3) and maps image coordinates to crop coordinates; pixel centers are at integers, as in OpenCV, so every matrix
here also works with `cv2.warpAffine`. A stack of faces (N, 5, 2) gives a stack of matrices (N, 2, 3).

Sources: least squares after Umeyama, TPAMI 13(4), 1991; templates of ArcFace (deepinsight/insightface), of MFER's alignment
(ZhaoJ9014/face.evoLVe), of DDAMFN++ (SainingZhang/DDAMFN) and of dlib (davisking/dlib, `get_face_chip_details`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from ..types import View

Interpolation = Literal["bilinear", "nearest"]
Matrix = tuple[float, float, float, float, float, float]  # rows of a (2, 3) matrix from crop to image

WIDE, BLOCK = 128, 64
"""Side of a crop from which `_bilinear` is faster than Pillow, and the rows that it computes at once to stay in the cache."""

COMPLEX = np.array([1, 1j])  # factors that make a complex number of x and y

FITS: Mapping[str, View] = {"five": View(0, 1, 2, 3, 4), "eyes-mouth": View(0, 1, (3, 4))}
"""Landmarks that are fitted to the template: all five, or the eyes and the middle of the mouth."""


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """Positions of the five landmarks in a square crop."""

    name: str  # its key in `TEMPLATES`
    size: int  # side in pixels of the crop that the positions refer to
    poses: np.ndarray
    """(P, 5, 2) left eye, right eye, nose tip, left and right mouth corner; of several poses the best fitting one is used."""
    reverse: bool = False  # the fit minimizes distances in the image instead of in the crop (see `reverse_similarity`)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the similarity transform, without reflection, that maps `source` closest to `target` in least squares.

    Both are (…, K, 2) points, K ≥ 2; the matrix M (…, 2, 3) has the least Σ‖M·source − target‖². Raises ValueError: the points
    of one source coincide, or are not finite.

    Example:
        >>> similarity([[0, 0], [1, 0]], [[5, 5], [5, 7]]).tolist()
        [[0.0, -2.0, 5.0], [2.0, 0.0, 5.0]]
    """
    # In complex numbers a rotation with scaling is one factor, so the least-squares solution is a division.
    start, end = (np.asarray(points, np.float64) @ COMPLEX for points in (source, target))
    start_mean, end_mean = start.mean(-1), end.mean(-1)
    offset = start - start_mean[..., None]
    spread = (offset.real**2 + offset.imag**2).sum(-1)
    if not (spread > 0).all():
        raise ValueError("a similarity needs at least two different, finite points")
    turn = (offset.conj() * end).sum(-1) / spread
    shift = end_mean - turn * start_mean
    matrix = np.empty((*turn.shape, 2, 3))
    matrix[..., 0, 0] = matrix[..., 1, 1] = turn.real
    matrix[..., 1, 0], matrix[..., 0, 1] = turn.imag, -turn.imag
    matrix[..., 0, 2], matrix[..., 1, 2] = shift.real, shift.imag
    return matrix


def reverse_similarity(
    source: np.ndarray, target: np.ndarray, reflection: Literal["never", "better", "published"] = "never"
) -> np.ndarray:
    """Fit from the target to the source and invert: the alignment that MFER and face.evoLVe use; shapes as for `similarity`.

    Errors are measured in the image, so a face that fits poorly is scaled up: on real faces the scale is 4 to 7 % above that of
    `similarity`. The mirrored solution may win where it is `"better"`; `"published"` compares both with the mirrored target, as
    the published routine does by mistake, and so mirrors strong left profiles.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    plain = invert(similarity(target, source))
    if reflection == "never":
        return plain
    mirror = np.array([[-1.0, 0], [0, 1]])
    mirrored = mirror @ invert(similarity(target @ mirror, source))
    judged = target @ mirror if reflection == "published" else target
    errors = [np.linalg.norm(apply(matrix, source) - judged, axis=(-2, -1)) for matrix in (plain, mirrored)]
    return np.where((errors[0] <= errors[1])[..., None, None], plain, mirrored)


def crop_matrix(
    points: np.ndarray, template: Template, size: int | None = None, *, fit: str = "five", margin: float = 1.0
) -> np.ndarray:
    """Return the matrix (…, 2, 3) from an image to a crop in which five landmarks of a face are aligned with a template.

    The points (…, 5, 2) are in image pixels: left eye, right eye, nose tip, left and right mouth corner, left in the image.
    `template` is an entry of `TEMPLATES`, `size` the side of the crop in pixels, by default the template's own, `fit` a key of
    `FITS`; the crop shows `margin` times the template's side, about the same center. Raises ValueError: the points coincide or
    are not finite.
    """
    size = size or template.size
    half = size / 2
    view = FITS[fit]
    poses = view((template.poses * (size / template.size) - half) / margin + half)
    chosen = view(np.asarray(points, np.float64))[..., None, :, :]
    if template.reverse:
        matrices = reverse_similarity(chosen, poses, "better")
    else:
        matrices = similarity(chosen, np.broadcast_to(poses, chosen.shape[:-3] + poses.shape))
    if len(poses) == 1:
        return matrices[..., 0, :, :]
    best = pose_errors(chosen, matrices, poses).argmin(-1)
    return np.take_along_axis(matrices, best[..., None, None, None], -3)[..., 0, :, :]


def pose_errors(points: np.ndarray, matrices: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Return (…, P) the summed distances between the transformed points and each pose, in crop pixels."""
    return np.linalg.norm(apply(matrices, points) - poses, axis=-1).sum(-1)


def dlib_chip_matrix(points68: np.ndarray, size: int = 224, padding: float = 0.25) -> np.ndarray:
    """Return the matrix (…, 2, 3) of dlib's face chip, in which landmarks (…, 68, 2) fit those of the mean face.

    `padding` is the margin on every side, as a share of the mean face's box.
    """
    mean_face = (_DLIB_MEAN_FACE + padding) / (1 + 2 * padding) * size
    return reverse_similarity(np.asarray(points68)[..., _DLIB_POINTS, :], mean_face)


def invert(matrix: np.ndarray) -> np.ndarray:
    """Return the (…, 2, 3) inverse matrices: from crop to image."""
    linear = np.linalg.inv(matrix[..., :2])
    return np.concatenate([linear, -linear @ matrix[..., 2:]], -1)


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return (…, K, 2) points transformed by a (…, 2, 3) matrix."""
    return points @ np.swapaxes(matrix[..., :2], -1, -2) + matrix[..., None, :, 2]


def warp(image: np.ndarray, matrix: np.ndarray, size: int, *, antialias: bool = True, gray: bool = False) -> np.ndarray:
    """Return a bilinear crop (size, size) or (size, size, 3) of an image (H, W) or (H, W, 3) uint8, black outside the image.

    The matrix (2, 3) is from image to crop. Antialiasing averages image pixels first where a crop pixel covers two or more.
    Without it they are skipped, as by OpenCV, and the crop is within one gray level of OpenCV's, half a level darker on average
    since Pillow truncates. `gray` gives ITU-R 601 luma. Raises ValueError: the matrix has no inverse.
    """
    # Plain Python numbers: a dozen numpy calls on four values each would take longer than a small crop.
    a, b, x, c, d, y = given = np.asarray(matrix, np.float64).ravel().tolist()
    area = a * d - b * c
    back = math.nan, 0.0, 0.0, 0.0, 0.0, 0.0
    if math.isfinite(area) and area and all(map(math.isfinite, given)):
        a, b, c, d = d / area, -b / area, -c / area, a / area
        back = a, b, -(a * x + b * y), c, d, -(c * x + d * y)
    if not all(map(math.isfinite, back)):
        raise ValueError(f"this matrix does not map images to crops: {np.asarray(matrix).tolist()}")
    return _transformed(*_part(image, back, size, antialias=antialias), size, gray=gray)


def square_matrix(x: float, y: float, side: float, roll: float, size: int) -> Matrix:
    """Return the matrix from a crop, `size` pixels wide, to a square of the image.

    The square has its center at (x, y) and is rotated by `roll` radians, positive clockwise in the image.
    """
    cosine, sine, half = side / size * math.cos(roll), side / size * math.sin(roll), size / 2
    return cosine, -sine, x - (cosine - sine) * half, sine, cosine, y - (sine + cosine) * half


def crop_square(
    image: np.ndarray, back: Matrix, size: int, *, interpolation: Interpolation = "bilinear", gray: bool = False
) -> np.ndarray:
    """Return a crop like that of `warp`, for the matrix of `square_matrix`; large crops are within two gray levels of it.

    `"nearest"` is ten times faster, for crops from which only a rough measurement is taken.
    """
    part, back = _part(image, back, size, antialias=True)
    if size >= WIDE and interpolation == "bilinear" and not gray:
        return _bilinear(part, back, size) if part.mode == "RGB" else _bilinear(part.convert("RGB"), back, size)[..., 0]
    return _transformed(part, back, size, interpolation, gray=gray)


def _part(image: np.ndarray, back: Matrix, size: int, *, antialias: bool) -> tuple[Image.Image, Matrix]:
    """Return the part of the image that a crop covers, shrunk for antialiasing, and the matrix from the crop to it.

    The matrix counts from the corners of pixels, as Pillow does, not from their centers.
    """
    a, b, x, c, d, y = back
    step = max(1, int(abs(a * d - b * c) ** 0.5 + 1e-6)) if antialias else 1
    # One block of pixels around the part lets interpolation and averaging at its edge see the neighboring pixels, or the black
    # outside the image.
    (height, width), black = image.shape[:2], [(0, 0)] * image.ndim
    left, right = _covered(a, b, x, size, width, step)
    top, bottom = _covered(c, d, y, size, height, step)
    inside = image[max(top, 0) : bottom, max(left, 0) : right]
    black[:2] = (max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0))
    part = Image.fromarray(np.pad(inside, black) if any(map(any, black)) else inside)
    across = a / step, b / step, (x + 0.5 - (a + b) / 2 - left) / step
    down = c / step, d / step, (y + 0.5 - (c + d) / 2 - top) / step
    return part.reduce(step) if step > 1 else part, (*across, *down)


def _transformed(
    part: Image.Image, back: Matrix, size: int, interpolation: Interpolation = "bilinear", *, gray: bool
) -> np.ndarray:
    resample = Image.Resampling.BILINEAR if interpolation == "bilinear" else Image.Resampling.NEAREST
    crop = part.transform((size, size), Image.Transform.AFFINE, back, resample)
    return np.asarray(crop.convert("L") if gray else crop)


def _bilinear(part: Image.Image, back: Matrix, size: int) -> np.ndarray:
    """Return what Pillow's bilinear transform gives to two gray levels, in less than half of its time.

    The channels of a pixel lie in the four 16-bit lanes of one integer, so that a product with a weight of 8 bits scales all of
    them. Coordinates have 8 fractional bits. Positions outside the part are moved to its edge, which is black.
    """
    width, height = part.size
    lanes = np.frombuffer(part.tobytes("raw", "RGBX"), np.uint8).astype(np.uint16).view(np.uint64)
    corners = lanes[1:], lanes[width:], lanes[width + 1 :]
    places = np.arange(size) + 0.5
    columns, rows = (
        [
            np.clip(np.floor(256 * part), -1e9, 1e9).astype(np.int32)
            for part in (u * places + (shift - 0.5), v * places[:, None])
        ]
        for u, v, shift in (back[:3], back[3:])
    )
    last = 256 * (width - 1) - 1, 256 * (height - 1) - 1
    ranges = [(u.min() + v.min(), u.max() + v.max()) for u, v in (columns, rows)]
    outside = any(low < 0 or high > end for (low, high), end in zip(ranges, last, strict=True))
    crop = np.empty((size, size, 4), np.uint8)
    for start in range(0, size, BLOCK):
        block = slice(start, start + BLOCK)
        x, y = columns[0] + columns[1][block], rows[0] + rows[1][block]
        if outside:
            np.clip(x, 0, last[0], out=x)
            np.clip(y, 0, last[1], out=y)
        index = ((y >> 8) * width + (x >> 8)).astype(np.intp)
        x &= 255
        y &= 255
        both = (x * y) >> 8
        x -= both
        y -= both
        rest = 256 - both
        rest -= x
        rest -= y
        total = lanes.take(index, mode="wrap")
        total *= rest.astype(np.uint64)
        for corner, weight in zip(corners, (x, y, both), strict=True):
            value = corner.take(index, mode="wrap")
            value *= weight.astype(np.uint64)
            total += value
        np.right_shift(total.view(np.uint16).reshape(-1, size, 4), 8, out=crop[block], casting="unsafe")
    pixels = Image.frombuffer("RGBX", (size, size), crop, "raw", "RGBX", 0, 1).tobytes("raw", "RGB")
    return np.frombuffer(pixels, np.uint8).reshape(size, size, 3)


def _covered(a: float, b: float, shift: float, size: int, length: int, step: int) -> tuple[int, int]:
    """Return the half-open range of pixels along one axis that a crop covers, with a block around it."""
    near, far = -0.5, size - 0.5
    places = [a * u + b * v + shift for u in (near, far) for v in (near, far)]
    low = int(min(max(math.floor(min(places)), 0), length)) - step
    high = int(min(max(math.ceil(max(places)) + 1, 0), length)) + step
    return low, high + -(high - low) % step


_ARCFACE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
_FER2013 = np.array([[14.3, 18.2], [32.7, 18.2], [23.5, 27.5], [16.1, 36.7], [30.9, 36.7]])
_DDAMFN = np.array(
    [
        [[55.550, 49.477], [62.116, 49.339], [38.075, 70.237], [55.017, 92.262], [61.466, 92.979]],  # left profile
        [[47.241, 48.598], [72.887, 49.540], [40.555, 71.067], [47.423, 93.643], [71.236, 94.353]],  # left
        [[33.566, 40.559], [78.321, 40.559], [55.338, 64.967], [38.479, 90.276], [73.591, 90.276]],  # frontal
        [[39.516, 49.540], [65.162, 48.598], [71.849, 71.067], [41.167, 94.353], [64.980, 93.643]],  # right
        [[50.225, 49.339], [56.791, 49.477], [74.266, 70.237], [50.875, 92.979], [65.317, 92.262]],  # right profile
    ]
)

# Nose, eyes and upper lip: dlib excludes jaw, brows and the lower lip, which move most.
_DLIB_POINTS = [*range(27, 55), *range(60, 65)]
# fmt: off
_DLIB_MEAN_FACE = np.array([
    [0.490127, 0.203352], [0.490127, 0.307009], [0.490127, 0.409805], [0.490127, 0.515625], [0.366880, 0.587326],
    [0.426036, 0.609345], [0.490127, 0.628106], [0.554217, 0.609345], [0.613373, 0.587326], [0.121737, 0.216423],
    [0.187122, 0.178758], [0.265825, 0.179852], [0.334606, 0.231733], [0.260918, 0.245099], [0.182743, 0.244077],
    [0.645647, 0.231733], [0.714428, 0.179852], [0.793132, 0.178758], [0.858516, 0.216423], [0.797510, 0.244077],
    [0.719335, 0.245099], [0.254149, 0.780233], [0.340985, 0.745405], [0.428858, 0.727388], [0.490127, 0.742578],
    [0.551395, 0.727388], [0.639268, 0.745405], [0.726104, 0.780233], [0.290379, 0.784792], [0.428096, 0.778746],
    [0.490127, 0.785343], [0.552157, 0.778746], [0.689874, 0.784792],
])
# fmt: on


def _dlib_points5(size: int = 224, padding: float = 0.25) -> np.ndarray:
    """Return (5, 2) eyes, nose tip and mouth corners of the mean face in a face chip."""
    place = {point: _DLIB_MEAN_FACE[index] for index, point in enumerate(_DLIB_POINTS)}
    groups = ([*range(36, 42)], [*range(42, 48)], [30], [48], [54])
    points = np.stack([np.mean([place[point] for point in group], 0) for group in groups])
    return (points + padding) / (1 + 2 * padding) * size


TEMPLATES: Mapping[str, Template] = {
    template.name: template
    for template in (
        Template("arcface112", 112, _ARCFACE[None]),
        Template("mfer112", 112, _ARCFACE[None], reverse=True),
        Template("ddamfn5", 112, _DDAMFN),
        Template("fer2013", 48, _FER2013[None]),
        Template("dlib", 224, _dlib_points5()[None]),
    )
}
"""Crops of ArcFace, of MFER (the same points, fitted the other way), of DDAMFN++ (five poses), of FER2013 (mean landmarks of
its images, which thus keep their place), and the five-point form of dlib's face chip, which Global-ROI Net was trained on."""
