"""Which values the numbers of a config may have, said before anything is opened; words are checked as a recipe is read."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from operator import attrgetter

from ..errors import ConfigError
from .config import TrainConfig

LIMITS: Mapping[str, tuple[float, float]] = {
    "epochs": (1, inf),
    "batch": (1, inf),
    "accumulate": (1, inf),
    "threads": (0, inf),
    "workers": (0, inf),
    "checkpoint_steps": (0, inf),
    "input.size": (1, inf),
    "mix.mixup": (0, inf),
    "mix.cutmix": (0, inf),
    "distil.views": (1, inf),
    "sampler.samples": (0, inf),
    "optim.lr": (0, inf),
    "optim.momentum": (0, 1),
    "optim.weight_decay": (0, inf),
    "optim.clip": (0, inf),
    "optim.ema": (0, 1),
    "optim.sam": (0, inf),
    "schedule.every": (1, inf),
    "schedule.gamma": (0, inf),
    "schedule.patience": (0, inf),
    "validation.views": (1, 2),
    "validation.patience": (0, inf),
    "validation.certain": (0, 1),
}
"""Field → least and largest value."""


def check(config: TrainConfig) -> None:
    """Refuse numbers that no run can have.

    Raises:
        ConfigError: a field is out of its limits, or NaN.
    """
    for name, limits in LIMITS.items():
        _check(name, attrgetter(name)(config), limits)
    for index, data in enumerate(config.data):
        _check(f"data.{index}.weight", data.weight, (0, inf))
        _check(f"data.{index}.balance", data.balance, (0, 1))
    for name, side in config.input.regions.items():
        _check(f"input.regions: {name}", side, (1, inf))
    for start, side in config.input.sizes.items():
        if not start.isdecimal():
            raise ConfigError(f"input.sizes: {start!r} is no epoch; write {{0 = {side}}} for this side from the first one on")
        _check(f"input.sizes: {start}", side, (1, inf))


def _check(name: str, value: float, limits: tuple[float, float]) -> None:
    low, high = limits
    if not low <= value <= high:
        wanted = f"{low} or more" if high == inf else f"from {low} to {high}"
        raise ConfigError(f"{name} must be {wanted}, not {value}")
