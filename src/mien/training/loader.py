"""Batches of varied images that follow from a seed alone, prepared by threads ahead of the step that needs them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..faces.preprocessing import Preprocess
from .augmentation import Dice, Glance, augment
from .config import TrainConfig
from .data import Mixture, card_input
from .distillation import Teacher


@dataclass(frozen=True, slots=True)
class Batch:
    """What one process learns from in one step."""

    rows: np.ndarray
    """(n,) row numbers in the split."""
    images: dict[str, Tensor]
    """Name → (n, C, h, w) float32, as the network is fed."""
    targets: dict[str, Tensor]
    """Name → (n, …)."""
    share: float
    """This process's part of the global batch, times the number of processes: 1 where all parts are equal."""


class Loader:
    """The batches of every epoch; each is a function of (seed, epoch, step) alone.

    Args:
        split: the training split.
        config: the run.
        process: number of this process.
        processes: how many share each batch.
        report: called with `{"event": "teacher", "images": …, "of": …}` while a teacher is asked about all images.
    """

    def __init__(
        self,
        split: Mixture,
        config: TrainConfig,
        process: int = 0,
        processes: int = 1,
        report: Callable[[dict[str, Any]], None] = lambda event: None,
    ) -> None:
        self.split, self.config, self.process, self.processes = split, config, process, processes
        if config.sampler.kind == "balanced" and len(split.parts) > 1:
            raise ConfigError("sampler.kind = 'balanced' knows one dataset; with several set data.balance and data.weight")
        shown = max(round(split.rates.sum()), 1)
        size = config.sampler.samples if config.sampler.kind == "balanced" and config.sampler.samples else shown
        whole, rest = divmod(size, config.batch)
        self.steps = whole + (rest >= processes and rest > 0 and not config.sampler.drop_last)
        if not self.steps:
            raise ConfigError(
                f"{size} images do not fill one batch of {config.batch}; lower batch, or set sampler.drop_last=false"
            )
        if config.batch % processes:
            raise ConfigError(f"a batch of {config.batch} cannot be shared equally by {processes} processes; give a multiple")
        self.preprocess = Preprocess(card_input(config.input))
        self.teacher = Teacher(config, self.preprocess.input) if config.distil.teacher else None
        self.plain = self.teacher is not None and bool(config.augment) and config.augment[0]["op"] == "teacher"
        if self.teacher and self.plain:
            self.teacher.of_split(split, self.plain_images, report)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `start` on, prepared ahead by `workers` threads."""
        order = self.order(self.view(epoch))
        steps = iter(range(start, self.steps))
        with ThreadPoolExecutor(max(self.config.workers, 1), "mien-loader") as pool:
            queue: list[Future[Batch]] = []
            try:
                ahead = islice(steps, self.config.workers + 1)
                queue += [pool.submit(self.prepare, order, epoch, step) for step in ahead]
                while queue:
                    batch = queue.pop(0).result()
                    queue += [pool.submit(self.prepare, order, epoch, step) for step in islice(steps, 1)]
                    yield batch
            finally:
                for waiting in queue:
                    waiting.cancel()

    def order(self, epoch: int) -> np.ndarray:
        """Return (n,) the row numbers of an epoch, in order, for all processes together."""
        sampler = self.config.sampler
        random = np.random.default_rng([self.config.seed, 0 if sampler.kind == "once" else epoch])
        if sampler.kind != "balanced":
            return random.permutation(drawn(self.split.rates, random))
        weights = sample_weights(self.split)
        return random.choice(len(weights), sampler.samples or len(weights), replace=True, p=weights)

    def view(self, epoch: int) -> int:
        """Return the first epoch that shows a teacher the same as this one; itself where it sees plain images or is none."""
        return epoch % self.config.distil.views if self.teacher and not self.plain else epoch

    def plain_images(self, rows: np.ndarray) -> Tensor:
        """Return images (N, C, H, W) as they are before any step, in the card's value range."""
        return self.normalize(to_unit(self.split.images(rows).images["image"]))

    def prepare(self, order: np.ndarray, epoch: int, step: int) -> Batch:
        """Return this process's part of one batch.

        Draws follow from (seed, view, step); those of steps that only the pupil of a teacher sees from (seed, epoch, step).
        """
        config, view = self.config, self.view(epoch)
        rows = order[step * config.batch : (step + 1) * config.batch]
        total = len(rows)
        each, more = divmod(total, self.processes)  # of a last batch that is not full, the first processes get one more
        first = self.process * each + min(self.process, more)
        part = slice(first, first + each + (self.process < more))
        mine = rows[part]
        shown = self.split.images(mine)
        size = {name: store.shape[1] for name, store in shown.images.items()}
        size["image"] = config.size_at(epoch)
        dice = Dice(hash_of(config.seed, view, step), total, part)
        glance = Glance(Dice(hash_of(config.seed, "pupil", epoch, step), total, part))
        images = augment(
            {name: to_unit(store) for name, store in shown.images.items()},
            config.augment,
            dice,
            normalize=self.normalize,
            size=size,
            together=config.augment_together,
            glance=glance if self.teacher else None,
        )
        kept = torch.from_numpy(shown.readable)
        if not shown.readable.all():
            mine, images = mine[shown.readable], {name: value[kept] for name, value in images.items()}
        targets = {name: value[mine] for name, value in self.split.targets.items()}
        if self.teacher and self.plain:
            targets |= self.teacher.of_rows(mine)
        elif self.teacher:
            seen = images["image"] if glance.image is None else self.normalize(glance.image[kept])
            targets |= self.teacher.of_batch(seen, (view, step))
        return Batch(mine, images, targets, len(mine) * self.processes / max(total, 1))

    def normalize(self, image_NCHW: Tensor) -> Tensor:
        """Bring images in 0 … 1 to the card's channels and value range."""
        return normalize(image_NCHW, self.preprocess)


def normalize(image_NCHW: Tensor, preprocess: Preprocess) -> Tensor:
    """Bring images in 0 … 1 to the channels and the value range of a card, as `Preprocess.tensor` does for uint8."""
    value = preprocess.input
    if image_NCHW.shape[1] != preprocess.channels:
        image_NCHW = image_NCHW.expand(-1, preprocess.channels, -1, -1)
    shape = (1, -1, 1, 1)
    image_NCHW = image_NCHW * (255 * value.scale) + torch.tensor(value.offset).view(shape)
    return image_NCHW / torch.tensor(value.std).view(shape) if value.std else image_NCHW


def to_unit(store_NHWC: np.ndarray) -> Tensor:
    """Return (N, H, W, C) uint8 as (N, C, H, W) float32 in 0 … 1."""
    return torch.from_numpy(store_NHWC).permute(0, 3, 1, 2).float().div_(255)


def drawn(rates: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return row numbers in ascending order, each ⌊rate⌋ or ⌈rate⌉ times, as many as the rates (N,) sum up to (rounded).

    Systematic sampling: equidistant positions with one random offset on the cumulated rates.
    """
    if (rates == 1).all():
        return np.arange(len(rates))
    ends = np.cumsum(rates)
    number = max(round(float(ends[-1])), 1)
    positions = (np.arange(number) + random.random()) * (ends[-1] / number)
    return np.searchsorted(ends, positions, side="right").clip(max=len(rates) - 1)


def sample_weights(split: Mixture) -> np.ndarray:
    """Return (N,) probabilities that make classes equally frequent: 1 / class size, or its mean over a soft label's classes.

    Raises:
        ConfigError: no image has a label.
    """
    per_class = torch.where(split.counts > 0, 1 / split.counts.clamp(min=1e-9), 0.0).double()
    label = split.targets["label"]
    weight = torch.where(label >= 0, per_class[label.clamp(min=0)], 0.0)
    if "soft" in split.targets:
        present = (split.targets["soft"] > 0).double()
        mean = (present @ per_class) / present.sum(1).clamp(min=1)
        weight = torch.where(label >= 0, weight, mean) if (label >= 0).all() else mean
    total = float(weight.sum())
    if total <= 0:
        raise ConfigError("sampler.kind = 'balanced' needs labels, and no training image has one; take 'shuffle'")
    return (weight / total).numpy()


def hash_of(*numbers: int | str) -> int:
    """Return a 63-bit seed that follows from some numbers and words."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "big") >> 1
