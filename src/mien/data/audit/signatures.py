"""Signatures of images for the audit: 400 bytes to find duplicates and preprocessing.

Each image is decoded once. Its identity is a digest of the decoded pixels, so a PNG and a csv row with the same pixels are
equal. Its perceptual hash compares each field of an 8 × 8 grid with its right-hand neighbor; a 16 × 16 thumbnail decides
whether two images with similar hashes are near duplicates.
"""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from ...errors import SourceError
from ..datasets import Dataset, Sample

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
    found["unevenness"] = [_unevenness(row) for row in levels]
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


def _unevenness(levels: np.ndarray) -> float:
    share = np.bincount(levels, minlength=256).cumsum() / len(levels)
    return float(np.abs(share - np.arange(1, 257) / 256).max())


def _zeroed(gray: np.ndarray) -> np.ndarray:
    """Share of coefficients below 0.8 among the finer half of each 8 × 8 block of JPEG's grid; 0 without a block."""
    number, height, width = gray.shape
    down, along = height // 8, width // 8
    if not down or not along:
        return np.zeros(number, np.float32)
    blocks = gray[:, : down * 8, : along * 8].reshape(number, down, 8, along, 8).transpose(0, 1, 3, 2, 4)
    basis = _cosines()
    fine = np.add.outer(np.arange(8), np.arange(8)) >= 8
    return (np.abs(basis @ blocks @ basis.T)[..., fine] < 0.8).mean((1, 2, 3), dtype=np.float32)


@lru_cache
def _cosines() -> np.ndarray:
    order, place = np.mgrid[:8, :8]
    basis = np.cos(np.pi * (2 * place + 1) * order / 16) / 2
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


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
