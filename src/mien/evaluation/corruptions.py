"""What photographs suffer: blur, JPEG, poor light, covered faces, other crops; each at one stated strength.

Strengths are relative to the face, so that the same degradation of a thumbnail and of a portrait costs a network alike. Pixels
are changed before the crop is taken from them; the crop itself is changed by where it is taken, as if the face had been found
badly. A photograph can also be cut close around the face before it is found.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from ..data.labeled_faces import Face
from ..faces.preprocessing import gray


@dataclass(frozen=True, slots=True)
class Place:
    """Where the face is in its image, in pixels."""

    x: float
    """Of its center."""
    y: float
    """Of its center."""
    side: float
    """Longer side of its box."""


Change = Callable[[np.ndarray, Place, np.random.Generator], np.ndarray]
"""(H, W, 3) uint8 RGB, where the face is, chance → the same shape."""


@dataclass(frozen=True, slots=True)
class Degradation:
    """One way in which a face gets harder to read."""

    name: str
    """By which tables call it."""
    strength: str
    """How strong it is, in words."""
    change: Change | None = None
    """What happens to the pixels."""
    scale: float = 1.0
    """Side of what is seen, over that of the right crop: 1.2 shows a fifth more."""
    turn: float = 0.0
    """Degrees by which the face appears turned, counter-clockwise."""
    window: float | None = None
    """Side of the square that is kept of the photograph, over that of the face's box; the face must then be found anew."""

    def __call__(self, face: Face, seed: int = 0) -> Face:
        """Return the degraded face; the same for a seed and a row."""
        if self.change is not None:
            lot = np.random.default_rng([seed, face.row])
            face = replace(face, pixels=np.ascontiguousarray(self.change(face.pixels, place_of(face), lot)))
        if self.scale == 1 and not self.turn:
            return face
        if face.box is None:
            return _seen_otherwise(face, self.scale, self.turn)
        assert face.mesh is not None
        points = face.mesh.astype(np.float64)
        center = points[:, :2].mean(0)
        points[:, :2] = (points[:, :2] - center) @ _rotation(self.turn).T * self.scale + center
        return replace(face, mesh=points.astype(np.float32))

    def cut(self, face: Face) -> np.ndarray:
        """Return (h, w, 3) the part of the photograph that `window` keeps; less where the photograph ends."""
        assert self.window is not None
        at = place_of(face)
        half = at.side * self.window / 2
        left, top = (max(0, round(value - half)) for value in (at.x, at.y))
        right, bottom = (round(value + half) for value in (at.x, at.y))
        return np.ascontiguousarray(face.pixels[top:bottom, left:right])


def place_of(face: Face) -> Place:
    """Return where the face is: its box, or the whole image."""
    height, width = face.pixels.shape[:2]
    left, top, right, bottom = (0, 0, width, height) if face.box is None else face.box.tolist()
    return Place((left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top, 1.0))


def _rotation(degrees: float) -> np.ndarray:
    """Return the matrix that turns image coordinates (y down) clockwise as they are looked at."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def _seen_otherwise(face: Face, scale: float, turn: float) -> Face:
    """Take another window of an image that is one face; what lies outside repeats its edge."""
    height, width = face.pixels.shape[:2]
    room = round(max(height, width) * 0.75)
    padded = Image.fromarray(np.pad(face.pixels, ((room, room), (room, room), (0, 0)), mode="edge"))
    center = np.array([width / 2, height / 2])
    # Pillow asks, for every pixel of the result, where in the source it comes from.
    linear = _rotation(turn) * scale
    start = center + room - linear @ center
    seen = padded.transform(
        (width, height), Image.Transform.AFFINE, (*linear[0], start[0], *linear[1], start[1]), Image.Resampling.BICUBIC
    )
    mesh = face.mesh
    if mesh is not None:
        points = mesh.astype(np.float64)
        points[:, :2] = (points[:, :2] + 0.5 - center) @ np.linalg.inv(linear).T + center - 0.5
        mesh = points.astype(np.float32)
    return replace(face, pixels=np.asarray(seen), mesh=mesh)


def _levels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _blurred(pixels: np.ndarray, at: Place, lot: np.random.Generator) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(at.side / 48)))


def _small(pixels: np.ndarray, at: Place, lot: np.random.Generator) -> np.ndarray:
    image = Image.fromarray(pixels)
    share = min(24 / at.side, 1.0)
    small = image.resize([max(1, round(length * share)) for length in image.size], Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.BICUBIC))


def _jpeg(pixels: np.ndarray, at: Place, lot: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file).convert("RGB"))


def _noisy(pixels: np.ndarray, at: Place, lot: np.random.Generator) -> np.ndarray:
    return _levels(pixels + lot.normal(0, 10, (*pixels.shape[:2], 1)))


def _dark(pixels: np.ndarray, at: Place, lot: np.random.Generator) -> np.ndarray:
    return _levels(pixels * 0.5)


def _bright(pixels: np.ndarray, at: Place, lot: np.random.Generator) -> np.ndarray:
    return _levels(pixels * 1.4)


def _flat(pixels: np.ndarray, at: Place, lot: np.random.Generator) -> np.ndarray:
    return _levels(pixels * 0.5 + 64)


def _side_light(pixels: np.ndarray, at: Place, lot: np.random.Generator) -> np.ndarray:
    across = np.clip((np.arange(pixels.shape[1]) + 0.5 - at.x) / at.side, -0.5, 0.5) * lot.choice((-1, 1))
    return _levels(pixels * (1 + across)[None, :, None])


def _cast(pixels: np.ndarray, at: Place, lot: np.random.Generator) -> np.ndarray:
    return _levels(pixels * np.array([1.25, 1.0, 0.75])[:: lot.choice((-1, 1))])


def _colorless(pixels: np.ndarray, at: Place, lot: np.random.Generator) -> np.ndarray:
    return np.broadcast_to(gray(pixels).reshape(*pixels.shape[:2], 1), pixels.shape)


def _covered(pixels: np.ndarray, at: Place, lot: np.random.Generator) -> np.ndarray:
    side = at.side / 4
    x, y = np.array([at.x, at.y]) + lot.uniform(-0.5, 0.5, 2) * (at.side - side)
    left, top, right, bottom = (max(0, round(value)) for value in (x - side / 2, y - side / 2, x + side / 2, y + side / 2))
    covered = pixels.copy()
    covered[top:bottom, left:right] = 128
    return covered


DEGRADATIONS: tuple[Degradation, ...] = (
    Degradation("blur", "Gaussian, 1/48 of the face", _blurred),
    Degradation("small face", "24 pixels", _small),
    Degradation("JPEG", "quality 30", _jpeg),
    Degradation("noise", "10 gray levels", _noisy),
    Degradation("dark", "half the light", _dark),
    Degradation("bright", "1.4 × the light, clipped", _bright),
    Degradation("low contrast", "half", _flat),
    Degradation("light from a side", "0.5 … 1.5 across the face", _side_light),
    Degradation("color cast", "red × 1.25, blue × 0.75, or the reverse", _cast),
    Degradation("no color", "gray", _colorless),
    Degradation("covered", "a square of a quarter of its side", _covered),
    Degradation("turned left", "15°", turn=15),
    Degradation("turned right", "15°", turn=-15),
    Degradation("tight crop", "20 % less", scale=0.8),
    Degradation("loose crop", "20 % more", scale=1.2),
)
"""What `mien.evaluation.robustness.stress` tries."""
PHOTOGRAPHS: tuple[Degradation, ...] = (
    Degradation("tight photograph", "1.04 × the face, found anew", window=1.04),
    Degradation("loose photograph", "1.56 × the face, found anew", window=1.56),
)
"""What it tries too where faces are found in photographs: 1.3 × the face, 20 % less and 20 % more."""
TIGHT, LOOSE, COLORLESS = "tight crop", "loose crop", "no color"
