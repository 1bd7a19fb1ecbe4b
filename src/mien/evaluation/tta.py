"""Test-time augmentation (TTA): outputs averaged over several views of a face."""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from ..errors import ConfigError

MAX_ROTATION = 10.0  # maximum rotation of a view to either side, in degrees
TEN_CROP = "ten-crop"
WINDOW = 44 / 48  # side of the crops of `TEN_CROP`, as a fraction of the side of the image: 44 of FER2013's 48 pixels
PLACES = {(0.0, 0.0): "top left", (0.0, 1.0): "top right", (1.0, 0.0): "bottom left", (1.0, 1.0): "bottom right"}

Views = int | Literal["ten-crop"]  # number of views, or the name of a set of them


@dataclass(frozen=True, slots=True)
class View:
    """One view of a face."""

    rotation: float = 0.0  # degrees, counter-clockwise
    mirrored: bool = False  # mirrored left to right, after the rotation
    place: tuple[float, float] | None = None  # crop of `WINDOW` of both sides, 0 … 1 from the top and from the left

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        """Return the view of a (h, w, channels) uint8 crop, of the same shape, padded with its edge; single pixels stay."""
        if crop.shape[0] == 1:
            return crop
        if self.place:
            height, width = crop.shape[:2]
            top, left = (place * (1 - WINDOW) * side for place, side in zip(self.place, (height, width), strict=True))
            image = Image.fromarray(crop[..., 0] if crop.shape[2] == 1 else crop)
            window = (left, top, left + WINDOW * width, top + WINDOW * height)
            crop = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, window)).reshape(crop.shape)
        if self.rotation:
            height, width = crop.shape[:2]
            room = max(height, width) // 4
            padded = np.pad(crop, ((room, room), (room, room), (0, 0)), mode="edge")
            image = Image.fromarray(padded[..., 0] if crop.shape[2] == 1 else padded)
            rotated = np.asarray(image.rotate(self.rotation, Image.Resampling.BILINEAR))
            crop = rotated[room : room + height, room : room + width].reshape(crop.shape)
        return np.ascontiguousarray(crop[:, ::-1]) if self.mirrored else crop

    def __str__(self) -> str:
        rotated = f"rotated by {self.rotation:+.1f}°" if self.rotation else ""
        cropped = f"{PLACES.get(self.place, 'center')} crop" if self.place else ""
        return ", ".join(filter(None, (rotated, cropped, "mirrored" if self.mirrored else ""))) or "original"


def views(number: Views, seed: int = 0) -> tuple[View, ...]:
    """Return the first `number` views: original, mirrored, then small rotations of both; ConfigError: less than one.

    `"ten-crop"`: the crops of 11/12 of both sides in the center and the four corners, resized, and their mirror images.
    """
    if number == TEN_CROP:
        places = ((0.5, 0.5), *PLACES)
        return tuple(View(place=place, mirrored=mirrored) for place, mirrored in itertools.product(places, (False, True)))
    if number < 1:
        raise ConfigError(f"tta must be at least 1 view, got {number} (--tta)", value=number, expected=">= 1")
    rotations = np.random.default_rng(seed).uniform(-MAX_ROTATION, MAX_ROTATION, (number + 1) // 2)
    rotations[0] = 0
    return tuple(View(round(float(rotations[index // 2]), 3), bool(index % 2)) for index in range(number))
