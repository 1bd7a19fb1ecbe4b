"""Batches of augmented images, determined by the seed alone and prepared in advance by threads."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..faces.preprocessing import Preprocess
from .augmentation import BatchRng, TeacherView, augment
from .config import TrainConfig
from .data import Mixture, card_input
from .teachers import Report, Teacher
from .transforms import hash_of


@dataclass(frozen=True, slots=True)
class Batch:
    """The part of a batch that one process trains on."""

    rows: np.ndarray  # (n,) row numbers in the split
    images: dict[str, Tensor]  # name → (n, C, h, w) float32, normalized
    targets: dict[str, Tensor]  # name → (n, …)
    share: float  # fraction of the global batch, times the number of processes: 1 if all parts have the same size


class Loader:
    """The batches of every epoch; each is a function of (seed, epoch, step) alone. ConfigError: unsuitable batch or sampler."""

    def __init__(
        self, split: Mixture, config: TrainConfig, process: int = 0, processes: int = 1, report: Report = lambda event: None
    ) -> None:
        self.split, self.config, self.process, self.processes = split, config, process, processes
        if config.sampler.kind == "balanced" and len(split.parts) > 1:
            raise ConfigError("sampler.kind = 'balanced' requires a single dataset; use data.balance and data.weight instead")
        shown = max(round(split.rates.sum()), 1)
        size = config.sampler.samples if config.sampler.kind == "balanced" and config.sampler.samples else shown
        whole, rest = divmod(size, config.batch)
        self.steps = whole + (rest >= processes and rest > 0 and not config.sampler.drop_last)
        if not self.steps:
            message = f"{size} images are fewer than one batch of {config.batch}"
            advice = "reduce batch, or set sampler.drop_last=false"
            raise ConfigError(f"{message}; {advice}", value=config.batch, expected=size)
        if config.batch % processes:
            raise ConfigError(f"batch must be a multiple of {processes} (processes), got {config.batch}", value=config.batch)
        self.preprocess = Preprocess(card_input(config.input))
        self.teacher = Teacher(config, self.preprocess.input) if config.distil.teacher else None
        # If the teacher sees images without augmentation, one prediction for each image serves the whole run.
        self.plain = self.teacher is not None and bool(config.augment) and config.augment[0]["op"] == "teacher"
        if self.teacher and self.plain:
            images = lambda rows: normalize(to_unit(split.images(rows)[0]["image"]), self.preprocess)  # noqa: E731
            self.teacher.predict_split(split, images, report)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `start` on, prepared in advance by `workers` threads."""
        order = self.order(self.view(epoch))
        steps = iter(range(start, self.steps))
        pool = ThreadPoolExecutor(max(self.config.workers, 1), "mien-loader")
        submitted = (pool.submit(self.prepare, order, epoch, step) for step in steps)
        try:
            queue = deque(islice(submitted, self.config.workers + 1))
            while queue:
                batch = queue.popleft().result()
                queue.extend(islice(submitted, 1))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)

    def order(self, epoch: int) -> np.ndarray:
        """Return (n,) the row numbers of an epoch in order, for all processes."""
        sampler = self.config.sampler
        random = np.random.default_rng([self.config.seed, 0 if sampler.kind == "once" else epoch])
        if sampler.kind != "balanced":
            return random.permutation(sampled(self.split.rates, random))
        weights = sample_weights(self.split)
        return random.choice(len(weights), sampler.samples or len(weights), replace=True, p=weights)

    def view(self, epoch: int) -> int:
        """Return the first epoch with the same batches for the teacher, or the epoch itself if batches never repeat."""
        return epoch % self.config.distil.views if self.teacher and not self.plain else epoch

    def prepare(self, order: np.ndarray, epoch: int, step: int) -> Batch:
        """Return this process's part of one batch.

        Random numbers follow from (seed, view, step); those of transforms after `teacher` from (seed, epoch, step).
        """
        config, view = self.config, self.view(epoch)
        rows = order[step * config.batch : (step + 1) * config.batch]
        total = len(rows)
        each, more = divmod(total, self.processes)  # The first processes get one more image of an incomplete batch.
        first = self.process * each + min(self.process, more)
        part = slice(first, first + each + (self.process < more))
        mine = rows[part]
        stored, readable = self.split.images(mine)
        size = {name: store.shape[1] for name, store in stored.items()} | {"image": config.size_at(epoch)}
        teacher_view = TeacherView(BatchRng(hash_of(config.seed, "student", epoch, step), total, part))
        images = augment(
            {name: to_unit(store) for name, store in stored.items()},
            config.augment,
            BatchRng(hash_of(config.seed, view, step), total, part),
            normalize=lambda image: normalize(image, self.preprocess),
            size=size,
            together=config.augment_together,
            teacher_view=teacher_view if self.teacher else None,
        )
        kept = torch.from_numpy(readable)
        if not readable.all():
            mine, images = mine[readable], {name: value[kept] for name, value in images.items()}
        targets = {name: value[mine] for name, value in self.split.targets.items()}
        if self.teacher and self.plain:
            targets |= self.teacher.of_rows(mine)
        elif self.teacher:
            seen = teacher_view.image
            seen = images["image"] if seen is None else normalize(seen[kept], self.preprocess)
            targets |= self.teacher.of_batch(seen, (view, step))
        return Batch(mine, images, targets, len(mine) * self.processes / max(total, 1))


def normalize(image_NCHW: Tensor, preprocess: Preprocess) -> Tensor:
    """Convert images in 0 … 1 to the channels and value range of a card, as `Preprocess.tensor` does for uint8."""
    value = preprocess.input
    if image_NCHW.shape[1] != preprocess.channels:
        image_NCHW = image_NCHW.expand(-1, preprocess.channels, -1, -1)
    shape = (1, -1, 1, 1)
    image_NCHW = image_NCHW * (255 * value.scale) + torch.tensor(value.offset).view(shape)
    return image_NCHW / torch.tensor(value.std).view(shape) if value.std else image_NCHW


def to_unit(store_NHWC: np.ndarray) -> Tensor:
    """Return (N, H, W, C) uint8 as (N, C, H, W) float32 in 0 … 1."""
    return torch.from_numpy(store_NHWC).permute(0, 3, 1, 2).float().div_(255)


def sampled(rates: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return ascending row numbers, each ⌊rate⌋ or ⌈rate⌉ times by systematic sampling, as many as the sum of rates (N,)."""
    if (rates == 1).all():
        return np.arange(len(rates))
    ends = np.cumsum(rates)
    number = max(round(float(ends[-1])), 1)
    positions = (np.arange(number) + random.random()) * (ends[-1] / number)
    return np.searchsorted(ends, positions, side="right").clip(max=len(rates) - 1)


def sample_weights(split: Mixture) -> np.ndarray:
    """Return (N,) probabilities by 1 / class size, averaged over the classes of a soft label; ConfigError without any label."""
    per_class = torch.where(split.counts > 0, 1 / split.counts.clamp(min=1e-9), 0.0).double()
    label = split.targets["label"]
    weight = torch.where(label >= 0, per_class[label.clamp(min=0)], 0.0)
    if "soft" in split.targets:
        present = (split.targets["soft"] > 0).double()
        mean = (present @ per_class) / present.sum(1).clamp(min=1)
        weight = torch.where(label >= 0, weight, mean) if (label >= 0).all() else mean
    total = float(weight.sum())
    if total <= 0:
        raise ConfigError("sampler.kind = 'balanced' requires labels, but no training image has one; use 'shuffle'")
    return (weight / total).numpy()
