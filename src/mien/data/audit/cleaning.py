"""Clean protocols: splits without the leaks found by an audit, for reporting beside the official ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...errors import DatasetError
from ..datasets import Dataset
from ..datasets.clean import Clean
from .duplicates import copies
from .signatures import join, signatures

EVALUATION = "images that also occur in another split"
TRAINING = "images that also occur in another split, further copies of an image, and duplicates with conflicting labels"


def clean_protocol(splits: Mapping[str, Dataset], *, near: bool = False, workers: int = 1) -> Clean:
    """Return the images to exclude.

    Images that also occur in another split are excluded from evaluation splits; duplicates within the split stay, so that
    its metrics differ from the official ones by the leak only. From the training split, further copies of equal images and
    groups of equal images with conflicting labels are excluded too.

    Args:
        splits: as `open_splits` gives them.
        near: whether near duplicates count as equal.
        workers: threads that decode files.

    Raises:
        DatasetError: the dataset has fewer than two splits.
    """
    if len(splits) < 2:
        raise DatasetError(
            f"a clean protocol needs at least two splits, got {', '.join(splits) or 'none'}; choose another protocol"
        )
    found = copies(join([signatures(data, workers) for data in splits.values()]), near)
    group = found.families()
    side = np.repeat(np.arange(len(splits)), [len(data) for data in splits.values()])
    drop, why = {}, {}
    for index, (name, data) in enumerate(splits.items()):
        mine = group[side == index]
        gone = np.isin(mine, group[side != index])
        if name == "train":
            gone |= _repeated(mine) | _conflicting(mine, data.label)
        drop[name] = [str(text) for text in data.names[gone]]
        why[name] = (TRAINING if name == "train" else EVALUATION) + (", near duplicates included" if near else "")
    first = next(iter(splits.values()))
    return Clean(first.name, first.protocol, {name: data.digest for name, data in splits.items()}, drop, why)


def _repeated(group: np.ndarray) -> np.ndarray:
    first = np.zeros(len(group), bool)
    first[np.unique(group, return_index=True)[1]] = True
    return ~first


def _conflicting(group: np.ndarray, label: np.ndarray) -> np.ndarray:
    pairs = np.unique(np.stack([group, label])[:, label >= 0], axis=1)
    kinds = np.bincount(pairs[0], minlength=int(group.max(initial=0)) + 1)
    return kinds[group] > 1
