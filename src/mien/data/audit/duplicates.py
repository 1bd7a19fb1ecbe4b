"""Exact and near duplicates of images, and protocols without the leaks that they cause."""

from collections.abc import Mapping

import numpy as np

from ...errors import DatasetError
from ..datasets import Dataset
from ..datasets.protocols import Clean
from .signatures import signatures

MAX_DISTANCE = 10
"""Bits in which the perceptual hashes of one photograph may differ. Of FER2013's pairs of correlation 0.95 this finds 99 %."""

MIN_CORRELATION = 0.95
"""Correlation of the 16 × 16 thumbnails of one photograph. On FER2013, 46 of 48 pairs between 0.95 and 0.96 are one photograph
in another crop, brightness or with another watermark, and the other two look the same; above 0.96 every one that was looked at
is. Between 0.90 and 0.93 a third are different people."""

MIN_DEVIATION = 4.0  # standard deviation of a thumbnail below which an image is blank and resembles all other blank ones

BLOCK = 1024

EVALUATION = "images that also occur in another split"
TRAINING = "images that also occur in another split, further copies of an image, and duplicates with conflicting labels"


def copies(found: np.ndarray, near: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return two (N,) int64 from signatures: numbers of groups of equal pixels, and of families of near duplicates.

    A family is connected by equal pixels and by pairs of near duplicates: crops, other brightness and mirror images of one
    photograph. Without `near` it is the group. The time of `near` grows with the square of the number of images: half a
    minute for 35,000 on one core.
    """
    readable, each = found["failure"] == "", np.char.add(b"?", np.arange(len(found)).astype("S"))
    identity = np.where(readable, found["identity"], each)
    _, first, group = np.unique(identity, return_index=True, return_inverse=True)
    if not near:
        return group, group
    thumbnails = found["thumbnail"][first].reshape(len(first), 256).astype(np.float32)
    thumbnails -= thumbnails.mean(1, keepdims=True)
    length = np.linalg.norm(thumbnails, axis=1, keepdims=True)
    usable = readable[first] & (length[:, 0] >= MIN_DEVIATION * 16)
    thumbnails /= np.maximum(length, 1)
    turned = thumbnails.reshape(-1, 16, 16)[:, :, ::-1].reshape(len(first), 256)
    hashes = found["hash"][first]
    ways = [_similar(hashes, hashes, thumbnails, thumbnails), _similar(hashes, found["mirrored"][first], thumbnails, turned)]
    pairs = np.concatenate(ways)
    root = np.arange(len(first))
    for one, other in np.unique(pairs[usable[pairs].all(1)], axis=0).tolist():
        root[_top(root, other)] = _top(root, one)
    return group, np.array([_top(root, each) for each in range(len(root))], np.int64)[group]


def _similar(hashes: np.ndarray, others: np.ndarray, thumbnails: np.ndarray, other_thumbnails: np.ndarray) -> np.ndarray:
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(hashes), BLOCK):
        distance = np.bitwise_count(hashes[start : start + BLOCK, None] ^ others[None, start:])
        first, second = np.nonzero(distance <= MAX_DISTANCE)
        later = second > first
        first, second = first[later] + start, second[later] + start
        for part in range(0, len(first), 1 << 16):
            a, b = first[part : part + (1 << 16)], second[part : part + (1 << 16)]
            alike = np.einsum("ij,ij->i", thumbnails[a], other_thumbnails[b]) >= MIN_CORRELATION
            found.append(np.stack([a[alike], b[alike]], 1))
    return np.concatenate(found)


def _top(root: np.ndarray, group: int) -> int:
    while root[group] != group:
        root[group] = root[root[group]]
        group = int(root[group])
    return group


def clean_protocol(splits: Mapping[str, Dataset], *, near: bool = False, workers: int = 1) -> Clean:
    """Return the images to exclude from splits, as `open_splits` gives them; with `near` near duplicates count as equal.

    Images that also occur in another split are excluded from evaluation splits; duplicates within the split stay, so that
    its metrics differ from the official ones by the leak only. From the training split, further copies of equal images and
    groups of equal images with conflicting labels are excluded too. Fewer than two splits raise DatasetError.
    """
    if len(splits) < 2:
        there = ", ".join(splits) or "none"
        raise DatasetError(f"a clean protocol needs at least two splits, got {there}; choose another protocol")
    _, group = copies(np.concatenate([signatures(data, workers) for data in splits.values()]), near)
    side = np.repeat(np.arange(len(splits)), [len(data) for data in splits.values()])
    drop, why = {}, {}
    for index, (name, data) in enumerate(splits.items()):
        mine = group[side == index]
        gone = np.isin(mine, group[side != index])
        if name == "train":
            again = np.ones(len(mine), bool)
            again[np.unique(mine, return_index=True)[1]] = False
            gone |= again | conflicting(mine, data.label)[mine]
        drop[name] = [str(text) for text in data.names[gone]]
        why[name] = (TRAINING if name == "train" else EVALUATION) + (", near duplicates included" if near else "")
    first = next(iter(splits.values()))
    return Clean(first.name, first.protocol, {name: data.digest for name, data in splits.items()}, drop, why)


def conflicting(group: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return for each group, by its number, whether it has images with different labels; −1 is none."""
    pairs = np.unique(np.stack([group, label])[:, label >= 0], axis=1)
    return np.bincount(pairs[0], minlength=int(group.max(initial=-1)) + 1) > 1
