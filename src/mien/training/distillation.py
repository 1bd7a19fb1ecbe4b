"""What a finished network says of the pictures of each batch, as targets for a smaller one.

The teacher sees the very pictures that the student sees, varied in the same way (Beyer et al., "Knowledge distillation: a good
teacher is patient and consistent", CVPR 2022). So that it need not look at every picture anew in every epoch, batches come again
after `distil.views` epochs, with the answers of the first time.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..cards import Input
from ..errors import ConfigError
from ..runtime import open_model
from .config import TrainConfig


class Teacher:
    """A network in use, asked for its probabilities; answers are kept by batch.

    Args:
        config: the run.
        feed: the input contract of the student.

    Raises:
        UnknownName, WeightsError: there is no such network.
        ConfigError: the teacher is fed otherwise than the student, in more than the size of pictures.
    """

    def __init__(self, config: TrainConfig, feed: Input) -> None:
        card, self.runtime = open_model(config.distil.teacher)
        theirs = card.input
        if (theirs.colour, theirs.scale, theirs.offset, theirs.std) != (feed.colour, feed.scale, feed.offset, feed.std):
            raise ConfigError(
                f"distil.teacher: {card.name} reads {theirs.colour} pictures with scale {theirs.scale:.4g} and offset "
                f"{theirs.offset}, this run {feed.colour} ones with {feed.scale:.4g} and {feed.offset}; set input to match"
            )
        for term in config.loss:
            if term.kind == "distil" and term.options.get("teacher", "scores") not in self.runtime.outputs:
                raise ConfigError(
                    f"loss term 'distil': {card.name} has no output {term.options.get('teacher', 'scores')!r}; "
                    f"it gives {', '.join(self.runtime.outputs)}"
                )
        self.size = theirs.size
        self._answers: dict[tuple[int, int], dict[str, Tensor]] = {}

    def __call__(self, image_NCHW: Tensor, key: tuple[int, int]) -> dict[str, Tensor]:
        """Return `teacher.OUTPUT` → (N, classes) float32 for each output, of these pictures or of those first seen under the key."""
        if key not in self._answers:
            if image_NCHW.shape[2:] != self.size:
                image_NCHW = functional.interpolate(image_NCHW, self.size, mode="bilinear", antialias=True)
            found = self.runtime(np.ascontiguousarray(image_NCHW.numpy()))
            self._answers[key] = {f"teacher.{name}": torch.from_numpy(value).half() for name, value in found.items()}
        return {name: value.float() for name, value in self._answers[key].items()}
