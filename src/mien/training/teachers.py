"""Predictions of other networks as training targets: knowledge distillation and pseudo-labels.

**Distillation.** The teacher sees the same augmented images as the student (Beyer et al., "Knowledge distillation: a good
teacher is patient and consistent", CVPR 2022). Batches repeat after `distil.views` epochs, so that predictions can be cached.
If the transform `teacher` comes first, the teacher sees images without augmentation: one prediction for each image is cached,
and batches do not repeat. Probabilities of several teachers are averaged (Hinton et al., "Distilling the knowledge in a neural
network", 2015).

**Pseudo-labels.** Missing annotations of a partly labeled dataset are replaced with confident predictions, as in "EMMA" of
rostos/TFM's train.py, for the multi-task DDAMFN (arXiv 2407.12390).
"""

import copy
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..cards import Card, Input
from ..data.datasets.cache import mapped
from ..errors import ConfigError
from ..faces.preprocessing import Preprocess
from ..labels import LABEL_SETS
from ..models.torch_runtime import run_network
from ..runtime.open_model import open_model
from .config import InitConfig, TrainConfig
from .data import Mixture
from .init_weights import load_initial_weights

Report = Callable[[dict[str, Any]], None]  # called with events of a run
BATCH = 128  # batch size of a teacher


class Teacher:
    """One trained network, or the mean of several, with predictions cached by batch or by image.

    `feed` is the input format of the student. Raises UnknownName, WeightsError: network not found; ConfigError: a teacher needs
    gray images and the student has color, or a teacher lacks an output of a loss term.
    """

    def __init__(self, config: TrainConfig, feed: Input) -> None:
        wanted = {str(term.options.get("teacher", "scores")) for term in config.loss if term.kind == "distil"}
        self.members = [_Member(name, feed) for name in (config.distil.teacher, *config.distil.others)]
        self.feed = feed
        first = self.members[0].card
        self.shared = {name: [member.output(name, first) for member in self.members] for name in wanted}
        self.mirror = config.distil.mirror
        self._of_batch: dict[tuple[int, int], dict[str, Tensor]] = {}
        self._of_row: dict[str, np.ndarray] = {}

    def of_batch(self, image_NCHW: Tensor, key: tuple[int, int]) -> dict[str, Tensor]:
        """Return `teacher.OUTPUT` → (N, classes) float32, cached under `key`; outputs of loss terms are means over teachers."""
        if key not in self._of_batch:
            self._of_batch[key] = self._predict(image_NCHW)
        return {name: value.float() for name, value in self._of_batch[key].items()}

    def predict_split(self, split: Mixture, images: Callable[[np.ndarray], Tensor], report: Report) -> None:
        """Run inference over a split, whose normalized images `images` (rows) returns, for `of_rows`, and cache it on disk."""

        def predictions() -> dict[str, np.ndarray]:
            parts = []
            for first in range(0, len(split), BATCH):
                report({"event": "teacher", "images": first, "of": len(split)})
                parts.append(self._predict(images(np.arange(first, min(first + BATCH, len(split))))))
            return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}

        members = [member.card.to_dict() for member in self.members]
        key = (*split.digests, members, dataclasses.asdict(self.feed), sorted(self.shared), self.mirror)
        digest = hashlib.sha256(repr(key).encode()).hexdigest()
        self._of_row = {name: np.array(values) for name, values in mapped("teacher", digest, predictions).items()}

    def of_rows(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Return the predictions for rows (N,) of the split of `predict_split`, as `of_batch` does."""
        return {name: torch.from_numpy(values[rows]).float() for name, values in self._of_row.items()}

    def _predict(self, image_NCHW: Tensor) -> dict[str, Tensor]:
        views = (image_NCHW, image_NCHW.flip(3)) if self.mirror else (image_NCHW,)
        found = [self._mean(view) for view in views]
        return {f"teacher.{name}": torch.from_numpy(np.mean([each[name] for each in found], 0)).half() for name in found[0]}

    def _mean(self, image_NCHW: Tensor) -> dict[str, np.ndarray]:
        found = [member(image_NCHW) for member in self.members]
        shared = {name: list(zip(found, names, strict=True)) for name, names in self.shared.items()}
        return found[0] | {name: np.mean([outputs[own] for outputs, own in each], 0) for name, each in shared.items()}


class _Member:
    """One teacher, which converts the student's input to its own input format."""

    def __init__(self, model: str, feed: Input) -> None:
        self.card, self.runtime = open_model(model)
        self.ours, self.theirs = feed, Preprocess.of(self.card).input
        if self.theirs.color == "gray" != feed.color:
            message = f"distil.teacher: {self.card.name} needs gray images, this run has {feed.color}; set input.color"
            raise ConfigError(message, value=feed.color, expected="gray")

    def output(self, name: str, first: Card) -> str:
        """Return this network's name of an output of a loss term; ConfigError: no output has these classes."""
        if name in self.runtime.outputs:
            return name
        classes = first.labels if name == "scores" else first.heads.get(name, LABEL_SETS.get(name))
        if classes == self.card.labels:
            return self.card.outputs["scores"]
        known = tuple(self.runtime.outputs)
        message = f"loss term 'distil': {self.card.name} has no output {name!r}; its outputs are {', '.join(known)}"
        raise ConfigError(message, value=name, expected=known)

    def __call__(self, image_NCHW: Tensor) -> dict[str, np.ndarray]:
        ours, theirs = self.ours, self.theirs
        if image_NCHW.shape[2:] != theirs.size:
            image_NCHW = nn.functional.interpolate(image_NCHW, theirs.size, mode="bilinear", antialias=True)
        values = image_NCHW.numpy()
        if (ours.color, ours.scale, ours.offset, ours.std) != (theirs.color, theirs.scale, theirs.offset, theirs.std):
            levels = (values * _channels(ours.std or (1,)) - _channels(ours.offset)) / ours.scale
            if ours.color == "gray":
                levels = np.repeat(levels, 3, 1)
            elif ours.color != theirs.color:
                levels = levels[:, ::-1]
            values = (levels * theirs.scale + _channels(theirs.offset)) / _channels(theirs.std or (1,))
        return self.runtime(np.ascontiguousarray(values, np.float32))


def _channels(values: tuple[float, ...]) -> np.ndarray:
    return np.array(values, np.float32)[:, None, None]


def teacher_of(config: TrainConfig, averaged: nn.Module | None, model: nn.Module) -> nn.Module | None:
    """Return the teacher of a run, of a file or its averaged weights; None without pseudo-labels. ConfigError: invalid one."""
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
    return fill(targets, views, wanted.confidence, wanted.tolerance, config.model.scores)


def fill(
    targets: Mapping[str, Tensor], views: Sequence[Any], confidence: float, tolerance: float, scores: str = "logits"
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
