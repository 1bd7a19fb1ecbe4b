"""What the loop learns from: whole splits as arrays, cut into shuffled batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..datasets import ferplus
from ..datasets.fer2013 import open_arrays
from .config import DataConfig


@dataclass(frozen=True, slots=True)
class Faces:
    """Pictures with the targets of both heads."""

    images: Tensor
    """(N, 1, 48, 48) uint8."""
    label: Tensor
    """(N,) int64 index into `mien.labels.FER2013`."""
    soft: Tensor
    """(N, 8) float32: the votes without single ones, over the classes of `mien.labels.FERPLUS`."""
    weight: Tensor
    """(N,) float32: share of the votes that fell on one of the eight classes; 0 leaves the FERPlus head alone."""
    majority: Tensor
    """(N,) int64: the FERPlus majority class, or −1 where Microsoft's rule drops the picture."""
    digest: str
    """Fingerprint of the split that was read."""

    def __len__(self) -> int:
        return len(self.images)


def open_faces(config: DataConfig, split: str) -> Faces:
    """Read a split of FER2013 with its votes; the training split without leaked pictures if the config says so."""
    arrays = open_arrays(config.root, split)
    kept = arrays.unique if split == "train" and config.leak_free else np.ones(len(arrays.label), bool)
    kept = np.flatnonzero(kept)[: config.limit or None]
    votes = arrays.votes[kept].astype(np.float32)
    votes[votes <= 1] = 0
    classes = votes[:, :8].sum(1)
    distribution, valid = ferplus.targets(arrays.votes[kept], "majority")
    return Faces(
        images=torch.from_numpy(arrays.images[kept][:, None]),
        label=torch.from_numpy(arrays.label[kept]),
        soft=torch.from_numpy(votes[:, :8] / np.maximum(classes, 1)[:, None]),
        weight=torch.from_numpy(classes / np.maximum(votes.sum(1), 1)),
        majority=torch.from_numpy(np.where(valid, distribution.argmax(1), -1)),
        digest=arrays.digest,
    )


def batches(number: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield index tensors that visit `number` rows in random order; a last batch smaller than `size` is left out."""
    order = torch.randperm(number, generator=generator)
    return iter(order[: number // size * size].split(size))
