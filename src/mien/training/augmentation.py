"""Variation of training pictures, on whole batches at once."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import AugmentConfig


def augment(image_NCHW: Tensor, size: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Vary grey pictures: mirror, rotate, scale, shift, blur, light, erase.

    Args:
        image_NCHW: (N, 1, H, W) float32 in [0, 1].
        size: side of the pictures that come back.
        config: how much of what.
        generator: source of all randomness.

    Returns:
        (N, 1, size, size) float32, roughly in [0, 1].
    """
    n = len(image_NCHW)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    angle = uniform(-config.rotate, config.rotate) * (math.pi / 180)
    scale = 1 + uniform(-config.scale, config.scale)
    mirror = (uniform(0, 1) < 0.5).float() * 2 - 1
    theta = torch.stack(
        [
            torch.stack([mirror * scale * angle.cos(), -scale * angle.sin()], 1),
            torch.stack([mirror * scale * angle.sin(), scale * angle.cos()], 1),
        ],
        1,
    )
    shift = uniform(-2 * config.shift, 2 * config.shift, 2, 1)
    grid = F.affine_grid(torch.cat([theta, shift], 2), [n, 1, size, size], align_corners=False)
    image = F.grid_sample(image_NCHW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    blurred = uniform(0, 1) < config.blur
    if blurred.any():
        small = F.interpolate(image[blurred], scale_factor=0.5, mode="area")
        image[blurred] = F.interpolate(small, size=(size, size), mode="bilinear", align_corners=False)

    contrast = 1 + uniform(-config.light, config.light, 1, 1, 1)
    brightness = uniform(-config.light / 2, config.light / 2, 1, 1, 1)
    mean = image.mean((2, 3), keepdim=True)
    image = (image - mean) * contrast + mean + brightness

    rows = torch.arange(size).view(1, size, 1)
    columns = torch.arange(size).view(1, 1, size)
    height, width = (uniform(0.15, 0.45, 1, 1) * size for _ in range(2))
    top, left = uniform(0, 1, 1, 1) * (size - height), uniform(0, 1, 1, 1) * (size - width)
    inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    inside &= uniform(0, 1, 1, 1) < config.erase
    noise = torch.rand(image.shape, generator=generator)
    return torch.where(inside[:, None], noise, image)
