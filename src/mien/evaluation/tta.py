"""Test-time augmentation (TTA): outputs averaged over several views of a face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import ConfigError

MAX_ROTATION = 10.0  # maximum rotation of a view to either side, in degrees


@dataclass(frozen=True, slots=True)
class View:
    """One view of a face."""

    rotation: float = 0.0  # degrees, counter-clockwise
    mirrored: bool = False  # mirrored left to right, after the rotation

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        """Return the view of a (h, w, channels) uint8 crop, of the same shape, padded with its edge; single pixels stay."""
        if crop.shape[0] == 1:
            return crop
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
        return ", ".join(filter(None, (rotated, "mirrored" if self.mirrored else ""))) or "original"


def views(number: int, seed: int = 0) -> tuple[View, ...]:
    """Return the first `number` views: original, mirrored, then small rotations of both; ConfigError: less than one."""
    if number < 1:
        raise ConfigError(f"tta must be at least 1 view, got {number} (--tta)", value=number, expected=">= 1")
    rotations = np.random.default_rng(seed).uniform(-MAX_ROTATION, MAX_ROTATION, (number + 1) // 2)
    rotations[0] = 0
    return tuple(View(round(float(rotations[index // 2]), 3), bool(index % 2)) for index in range(number))
