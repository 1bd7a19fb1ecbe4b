"""Pseudo-labels: missing annotations of a partly labeled dataset are replaced with confident predictions of a teacher.

Source: the "EMMA" pseudo-labels of rostos/TFM's train.py, for the multi-task DDAMFN (arXiv 2407.12390). Targets are those of
`mien.training.criterion`.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..models.torch_runtime import run_network
from .config import InitConfig, TrainConfig
from .init_weights import load_initial_weights


def teacher_of(config: TrainConfig, averaged: nn.Module | None, model: nn.Module) -> nn.Module | None:
    """Return the teacher of a run: a network from a file, or the averaged weights of the run; None without pseudo-labels.

    `model` is the network of the run. Raises ConfigError: the confidence is not above one half, or the teacher is missing or
    incomplete.
    """
    wanted = config.pseudo_labels
    if not wanted.confidence:
        return None
    if wanted.confidence <= 0.5:
        message = f"pseudo_labels.confidence must be above 0.5, or 0 for off, got {wanted.confidence}"
        raise ConfigError(message, value=wanted.confidence)
    if not wanted.teacher:
        if averaged is None:
            raise ConfigError("pseudo_labels requires optim.ema for averaged weights, or a file in pseudo_labels.teacher")
        return averaged
    teacher = copy.deepcopy(model)
    report = load_initial_weights(teacher, config.model.name, InitConfig(file=wanted.teacher))
    if report.missing or report.shape_mismatch:
        problem = f"{wanted.teacher} is not a complete {config.model.name} with the classes of this run"
        raise ConfigError(f"pseudo_labels.teacher: {problem}", path=wanted.teacher)
    return teacher.eval()


@torch.no_grad()
def pseudo_labeled(
    teacher: nn.Module, config: TrainConfig, images: dict[str, Tensor], targets: dict[str, Tensor], epoch: int
) -> dict[str, Tensor]:
    """Return the targets of a batch with pseudo-labels from the epoch `pseudo_labels.epoch` on."""
    wanted = config.pseudo_labels
    if epoch < wanted.epoch:
        return targets
    mirrored = {name: image.flip(3) for name, image in images.items()}
    views = [run_network(teacher, view) for view in (images, mirrored)]
    return fill(targets, views, confidence=wanted.confidence, tolerance=wanted.tolerance, scores=config.model.scores)


def fill(
    targets: Mapping[str, Tensor],
    views: Sequence[Any],
    *,
    confidence: float = 0.9,
    tolerance: float = 0.1,
    scores: str = "logits",
) -> dict[str, Tensor]:
    """Replace missing annotations with confident predictions of a teacher. Annotations are never changed.

    `views` are the teacher's `MultiTaskOutput` for each view of the images (original, mirrored); their mean is used. A class
    needs a probability of `confidence`, a unit one of at least that or at most 1 − `confidence`. Regression has no confidence,
    so valence and arousal are used if at least two views differ by at most `tolerance` in both.
    """
    filled = dict(targets)
    if "label" in targets and (probability := _mean(views, scores, lambda x: x.softmax(1))) is not None:
        top, winner = probability.max(1)
        label = targets["label"]
        unknown = label < 0
        if "soft" in targets:
            unknown = unknown & (targets["soft"].sum(1) == 0)
        taken = unknown & (top >= confidence)
        filled["label"] = torch.where(taken, winner.to(label.dtype), label)
        if "soft" in targets:
            filled["soft"] = torch.where(taken[:, None], probability.to(targets["soft"].dtype), targets["soft"])
    if "action_units" in targets and (probability := _mean(views, "action_logits", torch.sigmoid)) is not None:
        units = targets["action_units"]
        confident = (probability >= confidence) | (probability <= 1 - confidence)
        taken = (units < 0) & confident
        filled["action_units"] = torch.where(taken, (probability > 0.5).to(units.dtype), units)
    if "valence_arousal" in targets and len(views) > 1 and getattr(views[0], "valence_arousal", None) is not None:
        affect = targets["valence_arousal"]
        predicted = torch.stack([view.valence_arousal.float() for view in views])
        agree = (predicted.amax(0) - predicted.amin(0) <= tolerance).all(1)
        taken = affect.isnan().any(1) & agree
        filled["valence_arousal"] = torch.where(taken[:, None] & affect.isnan(), predicted.mean(0).to(affect.dtype), affect)
    return filled


def _mean(views: Sequence[Any], field: str, activation: Callable[[Tensor], Tensor]) -> Tensor | None:
    found = [activation(value.float()) for view in views if (value := getattr(view, field, None)) is not None]
    return torch.stack(found).mean(0) if found else None
