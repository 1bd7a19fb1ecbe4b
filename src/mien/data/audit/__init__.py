"""Dataset audit: duplicates across splits, conflicting labels, subject overlap, preprocessed and corrupt images.

    splits = open_splits("fer2013", "data/fer2013")
    report = audit(splits)
    report.exact.leaks[0]       # Leak(split='validation', other='train', images=280)
    clean_protocol(splits).write("fer2013.clean.json")

`mien audit` does the same from the command line.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from ...errors import ConfigError, UnknownName
from ...faces.finder import open_finder
from ...io.images import printable
from ..datasets import Dataset, Sample, reader
from ..datasets.layout import Damaged
from ..datasets.protocols import official
from .duplicates import Progress, clean_protocol, conflicting, copies, signatures
from .report import Audit, Duplicates, Finding, Leak, Member, Overlap, Quality, SplitSummary, findings

__all__ = [
    "Audit", "Duplicates", "Finding", "Leak", "Overlap", "Quality", "SplitSummary", "audit", "clean_protocol", "open_splits",
]  # fmt: skip


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


EXAMPLES = 20  # groups of duplicates listed in a report
UNEVEN = 0.06  # unevenness below which a histogram was equalized
ZEROED = 0.45  # share of zeroed coefficients above which an image was JPEG-compressed
BLANK = 3.0  # standard deviation of the gray levels below which an image is blank
UNIFORM = 0.9  # share of the most frequent size from which other sizes are reported
ORIGINS = ("film",)  # group columns that identify the origin of an image, like subject and sequence


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
