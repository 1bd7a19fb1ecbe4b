"""Image corruptions: blur, JPEG, poor light, occlusion, other crops; each at one stated strength.

Strengths are relative to the size of the face. Pixels are corrupted before the face is cropped; crops are shifted in scale and
rotation, as by a badly detected face. A photograph can also be cropped around the face before detection.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from ..data.labeled_faces import Face
from ..faces.preprocessing import gray


@dataclass(frozen=True, slots=True)
class Place:
    """Position of the face in its image, in pixels."""

    x: float  # center
    y: float  # center
    side: float  # longer side of the box


# (H, W, 3) uint8 RGB image, position of the face, random generator → image of the same shape.
Change = Callable[[np.ndarray, Place, np.random.Generator], np.ndarray]


@dataclass(frozen=True, slots=True)
class Degradation:
    """One corruption of faces."""

    name: str  # name in tables
    strength: str  # strength in words
    change: Change | None = None  # change of the pixels
    scale: float = 1.0  # side of the crop relative to the correct one: 1.2 shows a fifth more
    turn: float = 0.0  # rotation of the face in degrees, counter-clockwise
    # Side of the square crop of the photograph relative to the face box; the face is then detected again.
    window: float | None = None

    def __call__(self, face: Face, seed: int = 0) -> Face:
        """Return the corrupted face, deterministic for a seed and a row."""
        if self.change is not None:
            rng = np.random.default_rng([seed, face.row])
            face = replace(face, pixels=np.ascontiguousarray(self.change(face.pixels, place_of(face), rng)))
        if self.scale == 1 and not self.turn:
            return face
        if face.box is None:
            return _recropped(face, self.scale, self.turn)
        assert face.mesh is not None
        points = face.mesh.astype(np.float64)
        center = points[:, :2].mean(0)
        points[:, :2] = (points[:, :2] - center) @ _rotation(self.turn).T * self.scale + center
        return replace(face, mesh=points.astype(np.float32))

    def cut(self, face: Face) -> np.ndarray:
        """Return (h, w, 3) the crop of the photograph by `window`, clipped to the photograph."""
        assert self.window is not None
        at = place_of(face)
        half = at.side * self.window / 2
        left, top = (max(0, round(value - half)) for value in (at.x, at.y))
        right, bottom = (round(value + half) for value in (at.x, at.y))
        return np.ascontiguousarray(face.pixels[top:bottom, left:right])


def place_of(face: Face) -> Place:
    """Return the position of the face: its box, or the whole image."""
    height, width = face.pixels.shape[:2]
    left, top, right, bottom = (0, 0, width, height) if face.box is None else face.box.tolist()
    return Place((left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top, 1.0))


def _rotation(degrees: float) -> np.ndarray:
    """Return the (2, 2) matrix that rotates image coordinates (y down) clockwise on screen."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def _recropped(face: Face, scale: float, turn: float) -> Face:
    """Take another window of an image that is one face, padded with its edge."""
    height, width = face.pixels.shape[:2]
    room = round(max(height, width) * 0.75)
    padded = Image.fromarray(np.pad(face.pixels, ((room, room), (room, room), (0, 0)), mode="edge"))
    center = np.array([width / 2, height / 2])
    # Pillow expects the map from result to source coordinates.
    linear = _rotation(turn) * scale
    start = center + room - linear @ center
    coefficients = (*linear[0], start[0], *linear[1], start[1])
    seen = padded.transform((width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    mesh = face.mesh
    if mesh is not None:
        points = mesh.astype(np.float64)
        points[:, :2] = (points[:, :2] + 0.5 - center) @ np.linalg.inv(linear).T + center - 0.5
        mesh = points.astype(np.float32)
    return replace(face, pixels=np.asarray(seen), mesh=mesh)


def _levels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _small(pixels: np.ndarray, at: Place, rng: np.random.Generator) -> np.ndarray:
    image = Image.fromarray(pixels)
    share = min(24 / at.side, 1.0)
    small = image.resize([max(1, round(length * share)) for length in image.size], Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.BICUBIC))


def _jpeg(pixels: np.ndarray, at: Place, rng: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file).convert("RGB"))


def _side_light(pixels: np.ndarray, at: Place, rng: np.random.Generator) -> np.ndarray:
    across = np.clip((np.arange(pixels.shape[1]) + 0.5 - at.x) / at.side, -0.5, 0.5) * rng.choice((-1, 1))
    return _levels(pixels * (1 + across)[None, :, None])


def _covered(pixels: np.ndarray, at: Place, rng: np.random.Generator) -> np.ndarray:
    side = at.side / 4
    x, y = np.array([at.x, at.y]) + rng.uniform(-0.5, 0.5, 2) * (at.side - side)
    left, top, right, bottom = (max(0, round(value)) for value in (x - side / 2, y - side / 2, x + side / 2, y + side / 2))
    covered = pixels.copy()
    covered[top:bottom, left:right] = 128
    return covered


# Default corruptions of `mien.evaluation.robustness.robustness`.
DEGRADATIONS: tuple[Degradation, ...] = (
    Degradation(
        "blur",
        "Gaussian, 1/48 of the face",
        lambda pixels, at, rng: np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(at.side / 48))),
    ),
    Degradation("small face", "24 pixels", _small),
    Degradation("JPEG", "quality 30", _jpeg),
    Degradation("noise", "10 gray levels", lambda pixels, at, rng: _levels(pixels + rng.normal(0, 10, (*pixels.shape[:2], 1)))),
    Degradation("dark", "half the light", lambda pixels, at, rng: _levels(pixels * 0.5)),
    Degradation("bright", "1.4 × the light, clipped", lambda pixels, at, rng: _levels(pixels * 1.4)),
    Degradation("low contrast", "half", lambda pixels, at, rng: _levels(pixels * 0.5 + 64)),
    Degradation("light from a side", "0.5 … 1.5 across the face", _side_light),
    Degradation(
        "color cast",
        "red × 1.25, blue × 0.75, or the reverse",
        lambda pixels, at, rng: _levels(pixels * np.array([1.25, 1.0, 0.75])[:: rng.choice((-1, 1))]),
    ),
    Degradation("no color", "gray", lambda pixels, at, rng: np.broadcast_to(gray(pixels)[..., None], pixels.shape)),
    Degradation("covered", "a square of a quarter of its side", _covered),
    Degradation("turned left", "15°", turn=15),
    Degradation("turned right", "15°", turn=-15),
    Degradation("tight crop", "20 % less", scale=0.8),
    Degradation("loose crop", "20 % more", scale=1.2),
)
# Further defaults for photographs: 1.3 × the face, 20 % less and 20 % more.
PHOTOGRAPHS: tuple[Degradation, ...] = (
    Degradation("tight photograph", "1.04 × the face, face detected again", window=1.04),
    Degradation("loose photograph", "1.56 × the face, face detected again", window=1.56),
)
TIGHT, LOOSE = "tight crop", "loose crop"
