"""Dataset audit: duplicates across splits, conflicting labels, subject overlap, preprocessed and corrupt images.

    splits = open_splits("fer2013", "data/fer2013")
    report = audit(splits)
    report.exact.leaks[0]       # Leak(split='validation', other='train', images=280)
    clean_protocol(splits).write("fer2013.clean.json")

`mien audit` does the same from the command line.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...errors import ConfigError, DatasetError, SourceError, UnknownName
from ...faces.finder import open_finder
from ...io.images import printable
from ..datasets import Dataset, Sample, reader
from ..datasets.layout import Damaged
from ..datasets.protocols import Clean, official
from .report import Audit, Duplicates, Finding, Leak, Member, Overlap, Quality, SplitSummary, findings

__all__ = [
    "Audit", "Duplicates", "Finding", "Leak", "Overlap", "Quality", "SplitSummary", "audit", "clean_protocol", "open_splits",
]  # fmt: skip


Progress = Callable[[int], None]  # called with the number of images since the last call
EXAMPLES = 20  # groups of duplicates listed in a report
UNEVEN = 0.06  # unevenness below which a histogram was equalized
ZEROED = 0.45  # share of zeroed coefficients above which an image was JPEG-compressed
BLANK = 3.0  # standard deviation of the gray levels below which an image is blank
UNIFORM = 0.9  # share of the most frequent size from which other sizes are reported
ORIGINS = ("film",)  # group columns that identify the origin of an image, like subject and sequence


def open_splits(
    name: str, root: str | Path, protocol: str = "", *, damaged: Damaged = "skip", options: Mapping[str, str] | None = None
) -> dict[str, Dataset]:
    """Return the splits to audit: those of `protocol`, by default the parts named by the files, or `"all"` without parts.

    Raises DatasetError: the data is missing; UnknownName: unknown dataset or protocol.
    """
    known = reader(name)
    as_filed = (name for name, entry in known.protocols.items() if entry.splits is official and not entry.options)
    whole = known.open(root, "all", protocol or next(as_filed, ""), damaged=damaged, options=options)
    return known.deal(whole) if protocol or (whole.part != "").any() else {"all": whole}


def audit(
    splits: Mapping[str, Dataset],
    against: Mapping[str, Dataset] | None = None,
    *,
    near: bool = True,
    search: int | None = None,
    workers: int = 1,
    progress: Progress = lambda number: None,
) -> Audit:
    """Audit the splits of one dataset, and find its images in others.

    Args:
        splits: name → split, all of one dataset and protocol; see `open_splits`.
        against: name → other dataset to compare with; ConfigError where that is the name of a split.
        near: find near duplicates too; the time grows with the square of the number of images.
        search: number of images, evenly spread over all splits, that are searched for faces; 0 for all. None: no search.
        workers: threads that decode files.
        progress: called with the number of images read.

    Example:
        >>> from mien.data.datasets import open_dataset
        >>> report = audit({"test": open_dataset("synthetic", split="test")})
        >>> report.exact.distinct, report.exact.groups, report.findings[0].level
        (42, 0, 'warning')
    """
    if not splits:
        raise ValueError("no splits to audit")
    if both := splits.keys() & (against or {}).keys():
        raise ConfigError(f"{min(both)!r} is the name of a split; give another name to the other dataset", value=min(both))
    first = next(iter(splits.values()))
    view = _View(splits, against or {})
    found = np.concatenate([signatures(data, workers, progress) for data in view.sides.values()])
    group, family = copies(found, near)
    report = Audit(
        dataset=first.name,
        protocol=first.protocol,
        layout=first.layout,
        flaws=first.flaws,
        notes=first.notes,
        splits={name: _summary(data) for name, data in splits.items()},
        exact=_duplicates(group, view),
        near=_duplicates(family, view) if near else None,
        overlaps=tuple(_overlaps(splits)),
        quality=_quality(found, view, search),
        findings=(),
    )
    return findings(report)


class _View:
    """Rows of all sides together: the splits first, then the other datasets."""

    def __init__(self, splits: Mapping[str, Dataset], others: Mapping[str, Dataset]) -> None:
        self.sides, self.splits = {**splits, **others}, len(splits)
        self.names = list(self.sides)
        sizes = [len(data) for data in self.sides.values()]
        self.side, self.starts = np.repeat(np.arange(len(sizes)), sizes), np.cumsum([0, *sizes])
        self.own = self.side < self.splits

    def sample(self, row: int) -> Sample:
        index = int(self.side[row])
        return self.sides[self.names[index]][int(row - self.starts[index])]

    def member(self, row: int) -> Member:
        sample = self.sample(row)
        return Member(self.names[int(self.side[row])], printable(sample.name), sample.label)

    def listed(self, rows: Iterable[int]) -> tuple[str, ...]:
        return tuple(f"{member.split}/{member.name}" for member in map(self.member, rows))


def _summary(data: Dataset) -> SplitSummary:
    try:
        # The digest of files covers the files, not the pixels, and cannot be compared with the original.
        known = reader(data.name).fingerprints.get(data.split) if data.pixels is not None else None
    except UnknownName:  # a dataset made in memory
        known = None
    original = None if known is None else known == data.digest
    return SplitSummary(len(data), data.counts, int((data.label < 0).sum()), data.digest, original)


def _duplicates(group: np.ndarray, view: _View) -> Duplicates:
    own = view.own
    _, group = np.unique(group, return_inverse=True)
    size = np.bincount(group[own], minlength=int(group.max(initial=-1)) + 1)
    members = own & (size[group] > 1)
    label = np.concatenate([data.label for data in view.sides.values()])
    contradicts = conflicting(group, np.where(own, label, -1))
    leaks = [
        Leak(view.names[one], view.names[other], number)
        for one, other in itertools.product(range(view.splits), range(len(view.names)))
        if one != other and (number := int(np.isin(group[view.side == one], group[view.side == other]).sum()))
    ]
    return Duplicates(
        distinct=len(np.unique(group[own])),
        groups=int((size > 1).sum()),
        images=int(members.sum()),
        conflicting=int((contradicts & (size > 1)).sum()),
        leaks=tuple(leaks),
        examples=tuple(_examples(group, members, view)),
    )


def _examples(group: np.ndarray, members: np.ndarray, view: _View) -> Iterator[tuple[Member, ...]]:
    """Groups of several members, those in two splits first."""
    kinds = np.unique(np.stack([group, view.side])[:, members], axis=1)[0]
    listed, sides = np.unique(kinds, return_counts=True)
    for chosen in listed[np.argsort(sides == 1, kind="stable")][:EXAMPLES]:
        yield tuple(view.member(row) for row in np.flatnonzero(group == chosen).tolist())


def _overlaps(splits: Mapping[str, Dataset]) -> list[Overlap]:
    found = []
    for (one, data), (other, rest) in itertools.permutations(splits.items(), 2):
        theirs = _origins(rest)
        for what, mine in _origins(data).items():
            shared = np.setdiff1d(np.intersect1d(mine, theirs.get(what, [])), [""])
            if len(shared):
                found.append(Overlap(what, one, other, len(shared), int(np.isin(mine, shared).sum())))
    for split, data in splits.items():
        official = data.groups.get("official part")
        wrong = () if official is None else official[(official != "") & ((official == "test") != (split == "test"))]
        found += [Overlap("official part", split, str(part), 1, int((wrong == part).sum())) for part in np.unique(wrong)]
    return found


def _origins(data: Dataset) -> dict[str, np.ndarray]:
    columns = {"subject": data.subject, "sequence": data.sequence, **{name: data.groups.get(name) for name in ORIGINS}}
    return {what: column for what, column in columns.items() if column is not None}


def _resemblance(thumbnails: np.ndarray) -> float:
    """Median correlation of each of (N, 16, 16) thumbnails with the one half the set away; 0 for fewer than two."""
    if len(thumbnails) < 2:
        return 0.0
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1)
    return float(np.median(np.einsum("ij,ij->i", flat, np.roll(flat, len(flat) // 2, axis=0))))


def _quality(found: np.ndarray, view: _View, search: int | None) -> Quality:
    readable = found["failure"] == ""
    good = np.flatnonzero(view.own & readable)
    sizes = Counter(map(tuple, found["size"][good].tolist()))
    usual, number = sizes.most_common(1)[0] if sizes else ((0, 0), 0)
    odd = good[(found["size"][good] != usual).any(1)] if number >= UNIFORM * len(good) else []
    seen = found["deviation"][good] >= BLANK
    rows, without = [], []
    if search is not None:
        find = open_finder()
        rows = good[np.linspace(0, len(good) - 1, min(search or len(good), len(good))).astype(int)].tolist()
        without = [row for row in rows if not find([view.sample(row).read()])[0]]
    return Quality(
        sizes={f"{width}×{height}": count for (width, height), count in sizes.most_common(20)},
        odd_sizes=view.listed(odd[:1000]),
        unreadable=tuple(str(text) for text in found["failure"][view.own & ~readable]),
        blank=view.listed(good[~seen]),
        equalized=int((found["unevenness"][good][seen] < UNEVEN).sum()),
        recompressed=int((found["zeroed"][good][seen] > ZEROED).sum()),
        deviation=float(np.median(found["deviation"][good])) if len(good) else 0.0,
        resemblance=_resemblance(found["thumbnail"][good][seen]),
        without_face=view.listed(without) if search is not None else None,
        searched=len(rows),
    )


CHUNK = 1024  # images held in memory at a time

# Signature of an image, 400 bytes; each image is decoded once, an unreadable one has zeros and a failure. A PNG and a csv row
# with the same pixels have the same identity. The perceptual hash compares each field of an 8 × 8 grid with its right-hand
# neighbor; the thumbnail decides whether two images with similar hashes are near duplicates.
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
