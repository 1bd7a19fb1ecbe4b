"""Predictions of a trained teacher as training targets: knowledge distillation.

The teacher sees the same augmented images as the student (Beyer et al., "Knowledge distillation: a good teacher is patient and
consistent", CVPR 2022). Batches repeat after `distil.views` epochs, so that predictions can be cached. If the transform
`teacher` comes first, the teacher sees images without augmentation: one prediction for each image is cached, and batches do not
repeat. Probabilities of several teachers are averaged (Hinton et al., "Distilling the knowledge in a neural network", 2015).
"""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..cards import Card, Input
from ..data.datasets.cache import mapped
from ..errors import ConfigError
from ..faces.preprocessing import Preprocess
from ..labels import LABEL_SETS
from ..runtime.open_model import open_model
from .config import TrainConfig
from .data import Mixture

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
        """Return `teacher.OUTPUT` → (N, classes) float32 for each output, cached under `key`.

        Outputs of loss terms are means over all teachers, others are the first teacher's.
        """
        if key not in self._of_batch:
            self._of_batch[key] = self._predict(image_NCHW)
        return {name: value.float() for name, value in self._of_batch[key].items()}

    def predict_split(
        self, split: Mixture, images: Callable[[np.ndarray], Tensor], report: Callable[[dict[str, Any]], None]
    ) -> None:
        """Run inference over a split, whose normalized images `images` (rows) returns, for `of_rows`.

        The predictions are stored in the cache of parsed datasets for other seeds, processes and resumed runs.
        """

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
            image_NCHW = functional.interpolate(image_NCHW, theirs.size, mode="bilinear", antialias=True)
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
