"""Optimizers with parameter groups, sharpness-aware minimization, freezing, and the moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .config import OptimConfig, Stage

MODEL = "model."
"""What names of the network's parameters begin with inside a `Learner`; patterns of a recipe leave it out."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def optimizer(module: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimizer of all parameters that can learn.

    Every group carries `factor`, by which the common learning rate is multiplied for it. Kernels and matrices decay;
    biases and normalization only with `decay_all`.

    Raises:
        ConfigError: a group's pattern matches no parameter.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    matched: set[str] = set()
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        group = next((g for g in config.groups if fnmatchcase(name.removeprefix(MODEL), g.match)), None)
        decay, factor = config.weight_decay, 1.0
        if group:
            matched.add(group.match)
            factor, decay = group.lr, decay if group.weight_decay is None else group.weight_decay
        if parameter.ndim <= 1 and not config.decay_all:
            decay = 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    for group in config.groups:
        if group.match not in matched:
            raise ConfigError(f"optim.groups: no parameter is called like {group.match!r}; names: {_examples(module)}")
    listed = [{"params": parameters, "weight_decay": decay, "factor": factor} for (factor, decay), parameters in groups.items()]
    if config.name == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        # Not torch's fused form: it fails where a later stage lets further parameters learn.
        return torch.optim.SGD(listed, lr=config.lr, momentum=config.momentum, nesterov=nesterov, foreach=True)
    if len(config.betas) != 2:
        raise ConfigError(f"optim.betas must be two decay rates, not {config.betas}")
    betas = (config.betas[0], config.betas[1])
    if config.name == "radam":
        return torch.optim.RAdam(listed, lr=config.lr, betas=betas)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.name]
    return kind(listed, lr=config.lr, betas=betas, fused=True)


def freeze(module: nn.Module, stage: Stage | None, able: Sequence[str]) -> None:
    """Let only the parameters of a stage learn.

    Args:
        module: the learner, in training mode.
        stage: the stage; None lets everything learn.
        able: names of the parameters that can learn at all (dead ones cannot).

    Raises:
        ConfigError: nothing would learn.
    """
    patterns = stage.train if stage else ("*",)
    learning = {name for name in able if any(fnmatchcase(name.removeprefix(MODEL), pattern) for pattern in patterns)}
    if not learning:
        raise ConfigError(f"stages: no parameter is called like {', '.join(patterns)}; names: {_examples(module)}")
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in learning)
    if stage and stage.batch_norm == "frozen":
        for part in module.modules():
            if isinstance(part, BATCH_NORMS) and not any(p.requires_grad for p in part.parameters()):
                part.eval()


def _examples(module: nn.Module) -> str:
    names = [name.removeprefix(MODEL) for name, _ in module.named_parameters()]
    return ", ".join([*names[:2], "…", *names[-2:]]) if len(names) > 4 else ", ".join(names)


class Average:
    """The moving average of a network's weights, kept in a copy of it.

    Parameters and floating-point buffers move towards the network's by 1 − decay (faster in the first steps), counters are
    copied.
    """

    def __init__(self, kept: nn.Module, model: nn.Module, decay: float) -> None:
        self.decay = decay
        pairs = list(zip(kept.state_dict(keep_vars=True).values(), model.state_dict(keep_vars=True).values(), strict=True))
        self._old = [old.detach() for old, _ in pairs if old.is_floating_point()]
        self._new = [new.detach() for _, new in pairs if new.is_floating_point()]
        self._counters = [(old, new) for old, new in pairs if not old.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move after step `step`, counted from 0 over the whole run."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._old, self._new, 1 - decay)
        for old, new in self._counters:
            old.copy_(new)


@torch.no_grad()
def climb(parameters: Sequence[Tensor], radius: float) -> list[Tensor]:
    """Move parameters to where the loss is highest nearby, to first order: the first half of a SAM step.

    w ← w + ρ·g / (‖g‖₂ + 1e-12), the norm taken over all gradients (Foret et al., "Sharpness-aware minimization", 2021).

    Returns:
        What was added to each parameter; `descend` takes it away again.
    """
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    moves = [g * (radius / (norm + 1e-12)) for g in gradients]
    torch._foreach_add_(list(parameters), moves)
    return moves


@torch.no_grad()
def descend(parameters: Sequence[Tensor], moves: list[Tensor]) -> None:
    """Undo `climb`; the gradients of the climbed place stay for the optimizer."""
    torch._foreach_sub_(list(parameters), moves)


@contextmanager
def still_statistics(module: nn.Module) -> Iterator[None]:
    """Within it, BatchNorm uses the batch's statistics without moving its own."""
    norms: list[Any] = [part for part in module.modules() if isinstance(part, BATCH_NORMS)]
    momenta = [norm.momentum for norm in norms]
    counters = [norm.num_batches_tracked.clone() if norm.num_batches_tracked is not None else None for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum, counter in zip(norms, momenta, counters, strict=True):
            norm.momentum = momentum
            if counter is not None:
                norm.num_batches_tracked.copy_(counter)
