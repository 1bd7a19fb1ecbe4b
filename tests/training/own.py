"""Parts of a training run that a user wrote outside of mien."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Output(NamedTuple):
    logits: Tensor


class Linear(nn.Module):
    """A network whose `forward` has no annotations."""

    def __init__(self, num_classes: int = 7) -> None:
        super().__init__()
        self.fc = nn.Linear(32 * 32, num_classes)

    def forward(self, image):
        return Output(self.fc(image.flatten(1)))


class Margin(nn.Module):
    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, logits: Tensor, targets: dict[str, Tensor]) -> Tensor:
        return nn.functional.multi_margin_loss(logits, targets["label"], margin=self.margin)


def margin(width: int, classes: int, counts: Tensor, *, margin: float = 1.0) -> nn.Module:
    return Margin(margin)


def rmsprop(groups: Sequence[dict[str, Any]], config: Any) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(groups, lr=config.lr)


def triangle(step: int, steps: int, per_epoch: int) -> float:
    return 1 - abs(2 * step / steps - 1)
