"""What a finished network says of the images of each batch, as targets for a smaller one.

The teacher sees the very images that the student sees, varied in the same way (Beyer et al., "Knowledge distillation: a
good teacher is patient and consistent", CVPR 2022). So that it need not look at every image anew in every epoch, batches come
again after `distil.views` epochs, with the answers of the first time. Where the step `teacher` comes before all others it sees
every image as it is: one answer for each, kept for the whole run, and no batch comes again. Several teachers speak with one
voice, the mean of their probabilities (Hinton et al., "Distilling the knowledge in a neural network", 2015).
"""

from __future__ import annotations

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

ASKED = 128
"""Images that a teacher is asked about at once."""


class Teacher:
    """A network in use, or the mean of several, asked for its probabilities; answers are kept by batch or by image.

    Args:
        config: the run.
        feed: the input contract of the student.

    Raises:
        UnknownName, WeightsError: there is no such network.
        ConfigError: a teacher wants gray images and the student is shown colors, or has not the output that is learned.
    """

    def __init__(self, config: TrainConfig, feed: Input) -> None:
        wanted = {str(term.options.get("teacher", "scores")) for term in config.loss if term.kind == "distil"}
        self.voices = [_Voice(name, feed) for name in (config.distil.teacher, *config.distil.others)]
        self.feed = feed
        first = self.voices[0].card
        self.shared = {name: [voice.output(name, first) for voice in self.voices] for name in wanted}
        self.mirror = config.distil.mirror
        self._of_batch: dict[tuple[int, int], dict[str, Tensor]] = {}
        self._of_row: dict[str, np.ndarray] = {}

    def of_batch(self, image_NCHW: Tensor, key: tuple[int, int]) -> dict[str, Tensor]:
        """Return `teacher.OUTPUT` → (N, classes) float32 for each output: of these images, or of the first under this key.

        Of several teachers these are means where a loss term learns them; the rest are the first's.
        """
        if key not in self._of_batch:
            self._of_batch[key] = self._ask(image_NCHW)
        return {name: value.float() for name, value in self._of_batch[key].items()}

    def of_split(self, split: Mixture, look: Callable[[np.ndarray], Tensor], report: Callable[[dict[str, Any]], None]) -> None:
        """Ask about every image of a split, of which `look` (rows) gives some as they are shown, for `of_rows`.

        The answers are kept in the cache of parsed datasets: other seeds, processes and resumed runs need not ask again.
        """

        def answers() -> dict[str, np.ndarray]:
            parts = []
            for first in range(0, len(split), ASKED):
                report({"event": "teacher", "images": first, "of": len(split)})
                parts.append(self._ask(look(np.arange(first, min(first + ASKED, len(split))))))
            return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}

        voices = [voice.card.to_dict() for voice in self.voices]
        asked = (*split.digests, voices, dataclasses.asdict(self.feed), sorted(self.shared), self.mirror)
        digest = hashlib.sha256(repr(asked).encode()).hexdigest()
        self._of_row = {name: np.array(values) for name, values in mapped("teacher", digest, answers).items()}

    def of_rows(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Return the answers to these images (N,) of the split that was asked about, as `of_batch` does."""
        return {name: torch.from_numpy(values[rows]).float() for name, values in self._of_row.items()}

    def _ask(self, image_NCHW: Tensor) -> dict[str, Tensor]:
        looks = (image_NCHW, image_NCHW.flip(3)) if self.mirror else (image_NCHW,)
        answers = [self._mean(look) for look in looks]
        return {f"teacher.{name}": torch.from_numpy(np.mean([each[name] for each in answers], 0)).half() for name in answers[0]}

    def _mean(self, image_NCHW: Tensor) -> dict[str, np.ndarray]:
        answers = [voice(image_NCHW) for voice in self.voices]
        shared = {
            name: np.mean([answer[called] for answer, called in zip(answers, theirs, strict=True)], 0)
            for name, theirs in self.shared.items()
        }
        return answers[0] | shared


class _Voice:
    """One network, shown what the student is shown."""

    def __init__(self, model: str, feed: Input) -> None:
        self.card, self.runtime = open_model(model)
        self.ours, self.theirs = feed, Preprocess.of(self.card).input
        if self.theirs.color == "gray" != feed.color:
            raise ConfigError(
                f"distil.teacher: {self.card.name} reads gray images and this run {feed.color} ones; set input.color"
            )

    def output(self, name: str, first: Card) -> str:
        """Return what this network calls the output `name` of a loss term: its own, or its scores of the same classes.

        Raises:
            ConfigError: it has none with these classes.
        """
        if name in self.runtime.outputs:
            return name
        classes = first.labels if name == "scores" else LABEL_SETS.get(name)
        if classes == self.card.labels:
            return self.card.outputs["scores"]
        raise ConfigError(
            f"loss term 'distil': {self.card.name} has no output {name!r}; it gives {', '.join(self.runtime.outputs)}"
        )

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
