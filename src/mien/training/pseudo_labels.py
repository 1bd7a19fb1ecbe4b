"""Labels filled in by a teacher, where a partly labeled set lacks them.

Source: what rostos/TFM's train.py calls EMMA pseudo-labels, for the multi-task DDAMFN (arXiv 2407.12390). Targets are those of
`mien.training.criterion`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import models
from ..errors import ConfigError
from .config import TrainConfig
from .criterion import ask
from .init_weights import load_start


class Filling:
    """A teacher at work beside a run: the run's own averaged weights, or a network of the same kind from a file.

    Args:
        config: the run.
        averaged: the run's own network with averaged weights, if it has one.
        options: what networks of the run are built with.
        device: where it runs.

    Raises:
        ConfigError: the confidence is none, or there is no such teacher.
    """

    def __init__(
        self, config: TrainConfig, averaged: nn.Module | None, options: Mapping[str, Any], device: torch.device
    ) -> None:
        wanted = config.fill
        if not 0.5 < wanted.confidence <= 1:
            raise ConfigError(f"fill.confidence = {wanted.confidence} must be above 0.5 and at most 1, or 0 for none")
        self.wanted, self.scores = wanted, config.model.scores
        if wanted.teacher:
            self.teacher = models.build(config.model.name, **options)
            found = load_start(self.teacher, config.model.name, wanted.teacher)
            if found.missing or found.shape_mismatch:
                raise ConfigError(f"fill.teacher: {wanted.teacher} is no whole {config.model.name} of this run's classes")
            self.teacher.to(device).eval()
        elif averaged is None:
            raise ConfigError("fill: the run's own averaged weights need optim.ema; or name a file as fill.teacher")
        else:
            self.teacher = averaged

    @torch.no_grad()
    def __call__(self, images: dict[str, Tensor], targets: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        """Return the targets of a batch, with the teacher's where there are none and it is sure; as given before its epoch."""
        if epoch < self.wanted.epoch:
            return targets
        mirrored = {name: image.flip(3) for name, image in images.items()}
        answers = [ask(self.teacher, view) for view in (images, mirrored)]
        options = {"confidence": self.wanted.confidence, "tolerance": self.wanted.tolerance}
        return fill(targets, answers, scores=self.scores, **options).targets


class Filled(NamedTuple):
    """Targets with the teacher's where there were none, and where that was.

    `targets` has the tensors given and the filled ones; `pseudo` has, for every target that was filled, a bool tensor: (N,) for
    `label`, `soft` and `valence_arousal`, (N, U) for `action_units`.
    """

    targets: dict[str, Tensor]
    pseudo: dict[str, Tensor]


@torch.no_grad()
def fill(
    targets: Mapping[str, Tensor],
    teacher: Any | Sequence[Any],
    *,
    confidence: float = 0.9,
    tolerance: float = 0.1,
    scores: str = "logits",
) -> Filled:
    """Fill missing annotations with a teacher's confident answers. What people annotated is never changed.

    The teacher is the same network with averaged weights, or another one, in evaluation mode, and its answers may be of several
    views of each image (as it is, mirrored), whose mean then counts.

    Args:
        targets: those of a batch; names and marks of the unknown as in `mien.training.criterion`.
        teacher: `MultiTaskOutput`, or a list of one for each view (a plain list: the output itself is a tuple).
        confidence: probability from which a class is taken as the label, and an action unit as present; it is absent from
            1 − confidence down.
        tolerance: a regression has no confidence of its own. Valence and arousal are taken where two views or more differ
            by no more than this in both; with one view they are left as they are.
        scores: field of the answer that holds the class scores.

    Raises:
        ValueError: `confidence` is not above one half and at most 1.
    """
    if not 0.5 < confidence <= 1:
        raise ValueError(f"confidence={confidence}: must be above 0.5 and at most 1")
    views = teacher if isinstance(teacher, list) else [teacher]
    filled, pseudo = dict(targets), {}
    if "label" in targets and (probability := _mean_of(views, scores, lambda x: x.softmax(1))) is not None:
        top, winner = probability.max(1)
        label = targets["label"]
        unknown = label < 0
        if "soft" in targets:  # a soft label is an annotation too
            unknown = unknown & (targets["soft"].sum(1) == 0)
        pseudo["label"] = taken = unknown & (top >= confidence)
        filled["label"] = torch.where(taken, winner.to(label.dtype), label)
        if "soft" in targets:
            pseudo["soft"] = taken
            filled["soft"] = torch.where(taken[:, None], probability.to(targets["soft"].dtype), targets["soft"])
    if "action_units" in targets and (probability := _mean_of(views, "action_logits", torch.sigmoid)) is not None:
        units = targets["action_units"]
        sure = (probability >= confidence) | (probability <= 1 - confidence)
        pseudo["action_units"] = taken = (units < 0) & sure
        filled["action_units"] = torch.where(taken, (probability > 0.5).to(units.dtype), units)
    if "valence_arousal" in targets and len(views) > 1 and getattr(views[0], "valence_arousal", None) is not None:
        affect = targets["valence_arousal"]
        answers = torch.stack([view.valence_arousal.float() for view in views])
        agree = (answers.amax(0) - answers.amin(0) <= tolerance).all(1)
        pseudo["valence_arousal"] = taken = affect.isnan().any(1) & agree
        filled["valence_arousal"] = torch.where(taken[:, None] & affect.isnan(), answers.mean(0).to(affect.dtype), affect)
    return Filled(filled, pseudo)


def _mean_of(views: Sequence[Any], field: str, link: Any) -> Tensor | None:
    answers = [link(answer.float()) for view in views if (answer := getattr(view, field, None)) is not None]
    return torch.stack(answers).mean(0) if answers else None
