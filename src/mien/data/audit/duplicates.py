"""Exact and near duplicates of images by their signatures, and protocols without the leaks that they cause.

A signature takes 400 bytes; each image is decoded once. Its identity is a digest of the decoded pixels, so a PNG and a csv row
with the same pixels are equal. Its perceptual hash compares each field of an 8 × 8 grid with its right-hand neighbor; a 16 × 16
thumbnail decides whether two images with similar hashes are near duplicates.
"""

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from ...errors import DatasetError, SourceError
from ..datasets import Dataset, Sample
from ..datasets.protocols import Clean

CHUNK = 1024  # images held in memory at a time
Progress = Callable[[int], None]  # called with the number of images since the last call

# A row for each image; an unreadable image has zeros and a failure.
SIGNATURE = np.dtype([
    ("identity", "S16"),  # equal for equal pixels; empty for unreadable images
    ("hash", np.uint64),  # perceptual hash
    ("mirrored", np.uint64),  # perceptual hash of the mirrored image
    ("thumbnail", np.uint8, (16, 16)),  # gray
    ("size", np.int32, (2,)),  # width and height
    ("deviation", np.float32),  # standard deviation of the gray levels: 0 is a blank image; about 53 for FER2013
    # Largest distance between the distribution of gray levels and an even one, 0 … 1. Histogram equalization gives about 0.02;
    # 99 % of FER2013's images have more than 0.08.
    ("unevenness", np.float32),
    # Share of the high-frequency 8 × 8 DCT coefficients that are zero up to rounding, 0 … 1. JPEG gives 0.65 even at quality
    # 95; images that were scaled or cropped afterwards have about 0.2.
    ("zeroed", np.float32),
    ("failure", object),  # why the image cannot be read, or empty
])  # fmt: skip


def signatures(data: Dataset, workers: int = 1, progress: Progress = lambda number: None) -> np.ndarray:
    """Return (N,) `SIGNATURE` of all images of a dataset, in its order; `workers` threads decode files."""
    stored, parts = data.pixels, [np.empty(0, SIGNATURE)]
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(data), CHUNK):
            chunk = data[start : start + CHUNK]
            if stored is not None:
                parts.append(_describe(np.asarray(stored[start : start + CHUNK])))
            else:
                parts += pool.map(_of_file, chunk)
            progress(len(chunk))
    return np.concatenate(parts)


def _of_file(sample: Sample) -> np.ndarray:
    try:
        return _describe(sample.read()[None])
    except SourceError as error:
        failed = np.zeros(1, SIGNATURE)
        failed["failure"] = f"{sample.name}: {error}"
        return failed


def _describe(batch: np.ndarray) -> np.ndarray:
    """Describe (N, H, W) or (N, H, W, 3) uint8 images of one size."""
    if batch.ndim == 4 and (batch[..., :1] == batch).all():
        batch = batch[..., 0]
    gray = batch.astype(np.float32) if batch.ndim == 3 else batch @ np.array([0.299, 0.587, 0.114], np.float32)
    number, height, width = gray.shape
    levels = np.clip(np.rint(gray), 0, 255).astype(np.uint8).reshape(number, -1)
    found = np.zeros(number, SIGNATURE)
    found["identity"] = [_identity(image) for image in batch]
    found["hash"], found["mirrored"] = _hash(_shrink(gray, 8, 9)), _hash(_shrink(gray[:, :, ::-1], 8, 9))
    found["thumbnail"] = np.clip(np.rint(_shrink(gray, 16, 16)), 0, 255)
    found["size"] = width, height
    found["deviation"] = gray.reshape(number, -1).std(1)
    shares = np.stack([np.bincount(row, minlength=256) for row in levels]).cumsum(1) / levels.shape[1]
    found["unevenness"] = np.abs(shares - np.arange(1, 257) / 256).max(1)
    found["zeroed"], found["failure"] = _zeroed(gray), ""
    return found


def _identity(image: np.ndarray) -> bytes:
    if image.ndim == 3 and (image[..., :1] == image).all():  # Gray, stored as color.
        image = image[..., 0]
    digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=15, salt=repr(image.shape[:2]).encode()[:16])
    return digest.digest() + b"\x01"  # numpy strips trailing zero bytes.


def _hash(fields: np.ndarray) -> np.ndarray:
    bits = (fields[:, :, 1:] > fields[:, :, :-1]).reshape(len(fields), 64)
    return np.packbits(bits, 1).view(np.uint64)[:, 0]


# The basis of the DCT of 8 samples, a row for each frequency.
COSINES = np.cos(np.pi * np.outer(np.arange(8), 2 * np.arange(8) + 1) / 16).astype(np.float32) / 2
COSINES[0] /= np.sqrt(2)


def _zeroed(gray: np.ndarray) -> np.ndarray:
    """Share of coefficients below 0.8 among the finer half of each 8 × 8 block of JPEG's grid; 0 without a block."""
    number, height, width = gray.shape
    down, along = height // 8, width // 8
    if not down or not along:
        return np.zeros(number, np.float32)
    blocks = gray[:, : down * 8, : along * 8].reshape(number, down, 8, along, 8).transpose(0, 1, 3, 2, 4)
    fine = np.add.outer(np.arange(8), np.arange(8)) >= 8
    return (np.abs(COSINES @ blocks @ COSINES.T)[..., fine] < 0.8).mean((1, 2, 3), dtype=np.float32)


def _shrink(gray: np.ndarray, height: int, width: int) -> np.ndarray:
    """Average (N, H, W) images over a grid of fields."""
    return _averages(gray.shape[1], height) @ gray @ _averages(gray.shape[2], width).T


@lru_cache(maxsize=256)
def _averages(size: int, fields: int) -> np.ndarray:
    """(fields, size) weights of the mean over each of `fields` equal stretches of `size` pixels."""
    edges = np.arange(fields + 1) * size / fields
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(overlap, 0, None) * fields / size).astype(np.float32)


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
