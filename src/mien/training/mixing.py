"""Pictures mixed in pairs: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .config import MixConfig


class Mix(NamedTuple):
    """How a batch was mixed: the loss is `share` times that of its targets plus the rest of that of `other`'s."""

    share: float
    other: Tensor


def mix_pairs(pictures: dict[str, Tensor], config: MixConfig, seed: int) -> tuple[dict[str, Tensor], Mix | None]:
    """Mix every picture of a batch with another one.

    Mixup gives λ·a + (1 − λ)·b; CutMix puts a rectangle of b, of 1 − λ of the area, into a. λ is drawn once a batch from
    Beta(α, α); regions of a face are mixed as the face is, CutMix's rectangle at the same place of each.

    Args:
        pictures: name → (N, C, H, W).
        config: the alphas; with both, each batch draws one way.
        seed: what all draws follow from.

    Returns:
        The pictures, and how they were mixed; None if mixing is off.
    """
    if not (config.mixup or config.cutmix):
        return pictures, None
    random = np.random.default_rng(seed)
    first = next(iter(pictures.values()))
    cut = bool(config.cutmix) and (not config.mixup or random.random() < 0.5)
    alpha = config.cutmix if cut else config.mixup
    share, other = random.beta(alpha, alpha), torch.from_numpy(random.permutation(len(first)))
    if not cut:
        return {name: share * image + (1 - share) * image[other] for name, image in pictures.items()}, Mix(share, other)
    half, centre = (1 - share) ** 0.5 / 2, random.random(2)
    low, high = np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
    mixed = {}
    for name, image in pictures.items():
        height, width = image.shape[2:]
        (top, left), (bottom, right) = np.rint(low * (height, width)).astype(int), np.rint(high * (height, width)).astype(int)
        mixed[name] = image.clone()
        mixed[name][:, :, top:bottom, left:right] = image[other][:, :, top:bottom, left:right]
    return mixed, Mix(1 - float(np.prod(high - low)), other)
