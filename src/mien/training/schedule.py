"""Learning-rate schedules as functions of the step, so that resuming a run needs no other state than the step."""

import bisect
import math
from typing import Any

from ..registry import lookup
from .config import ScheduleConfig


class Schedule:
    """The factor of the learning rate at every step of a run of `epochs` epochs with `per_epoch` steps.

    `step`, `multi-step`, `exponential` and `plateau` agree with torch's schedulers of these names, stepped after each epoch.

    Example:
        >>> schedule = Schedule(ScheduleConfig(kind="step", every=2, gamma=0.1), epochs=4, per_epoch=10)
        >>> [round(schedule.factor(step), 3) for step in (0, 19, 20, 39)]
        [1.0, 1.0, 0.1, 0.1]
    """

    def __init__(self, config: ScheduleConfig, epochs: int, per_epoch: int) -> None:
        self.config, self.per_epoch, self.total = config, per_epoch, epochs * per_epoch
        # Warm-up below 1 is a fraction of the run, otherwise a number of epochs.
        self.rise = round(config.warmup * (self.total if config.warmup < 1 else per_epoch))
        self.best, self.bad, self.drops = math.inf, 0, 0
        self._own = lookup(config.kind, {}, "schedule") if ":" in config.kind else None

    def factor(self, step: int) -> float:
        """Return the factor of the maximum rate at a step, counted from 0 over the whole run."""
        if step < self.rise:
            return (step + 1) / self.rise
        return max(self._after_warmup(step), self.config.floor)

    def _after_warmup(self, step: int) -> float:
        config, epoch = self.config, step // self.per_epoch
        if self._own is not None:
            return float(self._own(step, self.total, self.per_epoch))
        if config.kind == "step":
            return config.gamma ** (epoch // config.every)
        if config.kind == "multi-step":
            return config.gamma ** bisect.bisect_right(sorted(config.milestones), epoch)
        if config.kind == "exponential":
            return config.gamma**epoch
        if config.kind == "plateau":
            return config.gamma**self.drops
        if config.kind in ("cosine", "one-cycle"):
            progress = (step + 1 - self.rise) / max(self.total - self.rise, 1)
            return (1 + math.cos(math.pi * min(progress, 1.0))) / 2
        return 1.0

    def epoch_ended(self, loss: float) -> None:
        """Update `plateau` with the result of an epoch; smaller is better."""
        if loss < self.best * (1 - self.config.threshold if self.best > 0 else 1 + self.config.threshold):
            self.best, self.bad = loss, 0
            return
        self.bad += 1
        if self.bad > self.config.patience:
            self.drops, self.bad = self.drops + 1, 0

    def state(self) -> dict[str, Any]:
        """Return the state of `plateau`."""
        return {"best": self.best, "bad": self.bad, "drops": self.drops}

    def restore(self, state: dict[str, Any]) -> None:
        """Set the state that `state` returned."""
        self.best, self.bad, self.drops = float(state["best"]), int(state["bad"]), int(state["drops"])
