"""Test-time augmentation: a model's answer is the mean over a few views of the same face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import ConfigError

LARGEST_TURN = 10.0
"""Degrees; views turn by up to this to either side."""


@dataclass(frozen=True, slots=True)
class View:
    """One way of looking at a face."""

    turn: float = 0.0
    """Degrees, counter-clockwise."""
    mirrored: bool = False
    """Left and right exchanged, after the turn."""

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        """Return the view of a (h, w, channels) uint8 crop, of the same shape; what a turn uncovers repeats the edge."""
        if self.turn:
            crop = _turned(crop, self.turn)
        return np.ascontiguousarray(crop[:, ::-1]) if self.mirrored else crop

    def __str__(self) -> str:
        turned = f"turned by {self.turn:+.1f}°" if self.turn else ""
        return ", ".join(filter(None, (turned, "mirrored" if self.mirrored else ""))) or "as it is"


def views(number: int, seed: int = 0) -> tuple[View, ...]:
    """Return the first `number` views: the face as it is, mirrored, then small turns in pairs of both; the same for a seed.

    Raises:
        ConfigError: `number` is less than one.

    Example:
        >>> [str(view) for view in views(2)]
        ['as it is', 'mirrored']
    """
    if number < 1:
        raise ConfigError(f"a face is looked at once or more often, not {number} times (--tta)")
    turns = np.random.default_rng(seed).uniform(-LARGEST_TURN, LARGEST_TURN, (number + 1) // 2)
    turns[0] = 0
    return tuple(View(round(float(turns[index // 2]), 3), bool(index % 2)) for index in range(number))


def _turned(crop: np.ndarray, degrees: float) -> np.ndarray:
    height, width = crop.shape[:2]
    room = max(height, width) // 4
    padded = np.pad(crop, ((room, room), (room, room), (0, 0)), mode="edge")
    image = Image.fromarray(padded[..., 0] if crop.shape[2] == 1 else padded)
    turned = np.asarray(image.rotate(degrees, Image.Resampling.BILINEAR))[room : room + height, room : room + width]
    return turned.reshape(crop.shape)
