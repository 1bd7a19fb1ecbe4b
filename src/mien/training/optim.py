"""Optimizers, schedules, sharpness-aware minimization, parameter freezing, averaged weights, synchronized BatchNorm on CPUs."""

import bisect
import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ConfigError
from ..registry import lookup
from .config import OptimConfig, ScheduleConfig, Stage

MODEL = "model."  # prefix of the names of the network's parameters inside a `Learner`; patterns in recipes omit it


def optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimizer, whose groups have a `factor` for the common rate; ConfigError: a pattern matches no parameter."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    names = {name.removeprefix(MODEL): parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    for group in config.groups:
        if not any(fnmatchcase(name, group.match) for name in names):
            raise ConfigError(_no_match("optim.groups", (group.match,), list(names)), value=group.match, expected=tuple(names))
    for name, parameter in names.items():
        group = next((each for each in config.groups if fnmatchcase(name, each.match)), None)
        decay = config.weight_decay if group is None or group.weight_decay is None else group.weight_decay
        decays = parameter.ndim > 1 or config.decay_all
        groups.setdefault((group.lr if group else 1.0, decay if decays else 0.0), []).append(parameter)
    listed = [{"params": parameters, "weight_decay": decay, "factor": factor} for (factor, decay), parameters in groups.items()]
    if config.name == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        # The fused implementation fails if a later stage unfreezes parameters.
        return torch.optim.SGD(listed, lr=config.lr, momentum=config.momentum, nesterov=nesterov, foreach=True)
    if config.name == "radam":
        return torch.optim.RAdam(listed, lr=config.lr, betas=config.betas)
    if ":" in config.name:
        return lookup(config.name, {}, "optimizer")(listed, config)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name]
    return kind(listed, lr=config.lr, betas=config.betas, fused=True)


def freeze(module: nn.Module, stage: Stage | None, trainable: Sequence[str]) -> None:
    """Freeze all parameters of a learner in training mode except those of a stage (None: freeze none).

    `trainable` names the parameters that can be trained at all. Raises ConfigError if no parameter matches.
    """
    patterns = stage.train if stage else ("*",)
    names = [name.removeprefix(MODEL) for name in trainable]
    chosen = {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}
    if not chosen:
        raise ConfigError(_no_match("stages", patterns, names), value=patterns, expected=tuple(names))
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in trainable and name.removeprefix(MODEL) in chosen)
    if stage and stage.batch_norm == "frozen":
        for part in module.modules():
            if isinstance(part, _BatchNorm) and not any(p.requires_grad for p in part.parameters()):
                part.eval()


def _no_match(field: str, patterns: Sequence[str], names: Sequence[str]) -> str:
    examples = ", ".join([*names[:2], "…", *names[-2:]] if len(names) > 4 else names)
    return f"{field}: no parameter matches {', '.join(patterns)}; parameters: {examples}"


class Average:
    """Exponential moving average of the weights of a network, stored in a copy of it; faster in the first steps."""

    def __init__(self, kept: nn.Module, model: nn.Module, decay: float) -> None:
        self.decay = decay
        pairs = list(zip(kept.state_dict(keep_vars=True).values(), model.state_dict(keep_vars=True).values(), strict=True))
        self._old = [old.detach() for old, _ in pairs if old.is_floating_point()]
        self._new = [new.detach() for _, new in pairs if new.is_floating_point()]
        self._counters = [(old, new) for old, new in pairs if not old.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update after step `step`, counted from 0 over the whole run."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._old, self._new, 1 - decay)
        for old, new in self._counters:
            old.copy_(new)


@torch.no_grad()
def sam_ascend(parameters: Sequence[Tensor], radius: float) -> list[Tensor]:
    """Move parameters to the maximum of the linearized loss within a radius, w ← w + ρ·g / (‖g‖₂ + 1e-12); return the moves."""
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    moves = [g * (radius / (norm + 1e-12)) for g in gradients]
    torch._foreach_add_(list(parameters), moves)
    return moves


@torch.no_grad()
def sam_restore(parameters: Sequence[Tensor], moves: list[Tensor]) -> None:
    """Undo `sam_ascend`, keeping the gradients for the optimizer."""
    torch._foreach_sub_(list(parameters), moves)


@contextmanager
def frozen_statistics(module: nn.Module) -> Generator[None]:
    """Context in which BatchNorm normalizes with batch statistics without updating its running statistics."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class _Sum(Function):
    """Sum over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        value = value.clone()
        torch.distributed.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:
        value = gradient[0].contiguous().clone()
        torch.distributed.all_reduce(value)
        return value


class _CpuSync:
    """BatchNorm with statistics over all processes on CPUs, where torch's `SyncBatchNorm` does not run."""

    def forward(self: Any, x: Tensor) -> Tensor:
        if not self.training or not torch.distributed.is_initialized():
            return _BatchNorm.forward(self, x)
        axes, shape = [axis for axis in range(x.ndim) if axis != 1], [1, -1, *[1] * (x.ndim - 2)]
        wide = x.float()
        count = torch.full((1,), x.numel() / x.shape[1])
        sums = _Sum.apply(torch.cat([wide.sum(axes), count]))  # pyrefly: ignore
        mean, total = sums[:-1] / sums[-1], sums[-1]
        # Mean and variance are exchanged separately, since E[x²] − E[x]² loses all precision if the mean is large.
        offset = wide - mean.view(shape)
        variance = _Sum.apply(offset.square().sum(axes)) / total  # pyrefly: ignore
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * total / (total - 1).clamp(min=1), self.momentum)
        scale = (variance + self.eps).rsqrt() * self.weight
        return (offset * scale.view(shape) + self.bias.view(shape)).to(x.dtype)


class _CpuSync1d(_CpuSync, nn.BatchNorm1d):
    pass


class _CpuSync2d(_CpuSync, nn.BatchNorm2d):
    pass


def synchronize_batch_norm(model: nn.Module, device: str) -> None:
    """Synchronize every BatchNorm of a network over all processes, in place; names and weights do not change."""
    kinds: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm1d: _CpuSync1d, nn.BatchNorm2d: _CpuSync2d}
    for part in model.modules():
        if type(part) in kinds:
            part.process_group = None  # pyrefly: ignore - an attribute of torch's SyncBatchNorm
            part.__class__ = kinds[type(part)] if device == "cpu" else nn.SyncBatchNorm


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
        self.plateau = {"best": math.inf, "bad": 0, "drops": 0}  # the state, saved in checkpoints
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
        if config.kind in ("cosine", "one-cycle"):
            progress = (step + 1 - self.rise) / max(self.total - self.rise, 1)
            return (1 + math.cos(math.pi * min(progress, 1.0))) / 2
        reductions = {
            "step": epoch // config.every,
            "multi-step": bisect.bisect_right(sorted(config.milestones), epoch),
            "exponential": epoch,
            "plateau": self.plateau["drops"],
        }
        return config.gamma ** reductions.get(config.kind, 0)

    def epoch_ended(self, loss: float) -> None:
        """Update `plateau` with the result of an epoch; smaller is better."""
        state, threshold = self.plateau, self.config.threshold
        if loss < state["best"] * (1 - threshold if state["best"] > 0 else 1 + threshold):
            state |= {"best": loss, "bad": 0}
        elif state["bad"] < self.config.patience:
            state["bad"] += 1
        else:
            state |= {"drops": state["drops"] + 1, "bad": 0}
