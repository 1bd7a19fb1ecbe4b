"""Optimizer, learning-rate schedule and the moving average of the weights."""

from __future__ import annotations

import math

import torch
from torch import nn

from .config import OptimConfig


def optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.SGD:
    """Return SGD over two groups: kernels and matrices decay, everything one-dimensional does not."""
    parameters = list(model.parameters())
    return torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.lr,
        momentum=config.momentum,
        nesterov=True,
    )


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """Return the one-cycle rate: a linear rise over the warm-up, then half a cosine down to zero."""
    progress = (step + 1) / steps
    if progress < config.warmup:
        return config.lr * progress / config.warmup
    return config.lr * (1 + math.cos(math.pi * (progress - config.warmup) / (1 - config.warmup))) / 2


@torch.no_grad()
def average(kept: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move `kept` towards `model`: parameters by `decay` (less in the first steps), buffers likewise, counters by copy."""
    decay = min(decay, (1 + step) / (10 + step))
    for old, new in zip(kept.state_dict().values(), model.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - decay)
        else:
            old.copy_(new)
