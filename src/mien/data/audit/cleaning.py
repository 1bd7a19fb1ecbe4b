"""A protocol without the leaks that an audit finds, to report beside the official one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...errors import DatasetError
from ..datasets import Dataset
from ..datasets.clean import Clean
from .duplicates import copies
from .signatures import join, signatures

EVALUATION = "images that also stand in another split"
TRAINING = "images that also stand in another split, further copies of an image, and groups of copies with different labels"


def clean_protocol(splits: Mapping[str, Dataset], *, near: bool = False, workers: int = 1) -> Clean:
    """Return which images to leave out.

    Evaluation splits lose the images that also stand in any other split; copies within the split stay, so that its
    figure differs from the official one by the leak alone. The training split loses those too, all but the first of
    equal images, and groups of equal images whose labels differ.

    Args:
        splits: as `open_splits` gives them.
        near: whether similar images count as equal.
        workers: threads that decode files.

    Raises:
        DatasetError: the dataset has no splits.
    """
    if len(splits) < 2:
        raise DatasetError(
            f"{', '.join(splits) or 'nothing'}: a clean protocol is about several splits; name a protocol that makes some"
        )
    found = copies(join([signatures(data, workers) for data in splits.values()]), near)
    group = found.families()
    side = np.repeat(np.arange(len(splits)), [len(data) for data in splits.values()])
    drop, why = {}, {}
    for index, (name, data) in enumerate(splits.items()):
        mine = group[side == index]
        gone = np.isin(mine, group[side != index])
        if name == "train":
            gone |= _repeated(mine) | _torn(mine, data.label)
        drop[name] = [str(text) for text in data.names[gone]]
        why[name] = (TRAINING if name == "train" else EVALUATION) + (", to the eye" if near else "")
    first = next(iter(splits.values()))
    return Clean(first.name, first.protocol, {name: data.digest for name, data in splits.items()}, drop, why)


def _repeated(group: np.ndarray) -> np.ndarray:
    first = np.zeros(len(group), bool)
    first[np.unique(group, return_index=True)[1]] = True
    return ~first


def _torn(group: np.ndarray, label: np.ndarray) -> np.ndarray:
    pairs = np.unique(np.stack([group, label])[:, label >= 0], axis=1)
    kinds = np.bincount(pairs[0], minlength=int(group.max(initial=0)) + 1)
    return kinds[group] > 1
