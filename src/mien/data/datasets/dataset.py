"""A dataset in memory: columns of annotations beside images that stay where they are."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import overload

import numpy as np

from ...errors import DatasetError
from .images import Files, Pixels
from .sample import Sample

COLUMNS = [
    "names",
    "label",
    "part",
    "distribution",
    "votes",
    "valence",
    "arousal",
    "action_units",
    "boxes",
    "subject",
    "sequence",
]
"""Fields of `Dataset` with one row per image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset(Sequence[Sample]):
    """Samples in a fixed order; `dataset[i]` is a `Sample`, `dataset[a:b]` and `dataset.take(rows)` are datasets.

    Missing values are −1 (integers), NaN (floats) or the empty string; a missing column is None.
    """

    name: str
    """Entry of `mien.data.datasets.DATASETS`."""
    labels: tuple[str, ...]
    """Class names, in the order of `label`."""
    images: Files | Pixels
    """The images, undecoded."""
    names: np.ndarray
    """(N,) str: identity of each image inside the dataset."""
    label: np.ndarray
    """(N,) int64: index into `labels`, −1 where unlabeled."""
    part: np.ndarray
    """(N,) str: part in the dataset's files: `"train"`, `"validation"`, `"test"` or empty."""
    distribution: np.ndarray | None = None
    """(N, len(labels)) float: soft labels, rows summing to one."""
    votes: np.ndarray | None = None
    """(N, len(vote_names)) counts."""
    vote_names: tuple[str, ...] = ()
    """Columns of `votes`."""
    valence: np.ndarray | None = None
    """(N,) float32 in −1 … 1, NaN where not annotated."""
    arousal: np.ndarray | None = None
    """(N,) float32 in −1 … 1, NaN where not annotated."""
    action_units: np.ndarray | None = None
    """(N, len(unit_names)) int8: 1 present, 0 absent, −1 not annotated."""
    unit_names: tuple[str, ...] = ()
    """Columns of `action_units`."""
    boxes: np.ndarray | None = None
    """(N, 4) float32: left, top, right, bottom of the face."""
    subject: np.ndarray | None = None
    """(N,) str."""
    sequence: np.ndarray | None = None
    """(N,) str."""
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further (N,) str columns to compare results by."""
    split: str = "all"
    """Which split of `protocol` this is."""
    protocol: str = "official"
    """How the splits were made; see `mien.data.datasets.protocols`."""
    fold: tuple[int, int] | None = None
    """Fold and number of folds, of protocols with folds."""
    choices: Mapping[str, str] = field(default_factory=dict)
    """Non-default options of the reader, such as `{"mode": "probability"}`: they make it another dataset."""
    flaws: tuple[str, ...] = ()
    """Known flaws of the protocol, reported with every metric."""
    layout: str = ""
    """Name of the detected layout."""
    notes: tuple[str, ...] = ()
    """Remarks: skipped rows, counts that differ from the published ones."""

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    def __getitem__(self, index: int | slice) -> Sample | Dataset:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        index = range(len(self))[index]
        return Sample(
            name=str(self.names[index]),
            image=self.images[index],
            label=self.labels[self.label[index]] if self.label[index] >= 0 else None,
            distribution=_named(self.labels, self.distribution, index, float),
            votes=_named(self.vote_names, self.votes, index, int),
            valence=_number(self.valence, index),
            arousal=_number(self.arousal, index),
            action_units=_units(self.unit_names, self.action_units, index),
            box=_box(self.boxes, index),
            subject=_text(self.subject, index),
            sequence=_text(self.sequence, index),
            groups={name: str(column[index]) for name, column in self.groups.items() if column[index]},
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def take(self, rows: np.ndarray, **changes: object) -> Dataset:
        """Return the images of these (M,) row numbers, in their order; `changes` replaces further fields."""
        columns = {name: column[rows] for name in COLUMNS if (column := getattr(self, name)) is not None}
        groups = {name: column[rows] for name, column in self.groups.items()}
        own = {"images": self.images.take(rows), "groups": groups, **columns}
        return dataclasses.replace(self, **own | changes)  # pyrefly: ignore

    def evenly(self, number: int) -> Dataset:
        """Return at most `number` images, spread evenly over the data; all of them for 0.

        Raises:
            DatasetError: the number is negative.
        """
        if not _wanted(number) or number >= len(self):
            return self
        return self.take(np.unique(np.linspace(0, len(self) - 1, number).astype(int)))

    def of_each_class(self, number: int) -> Dataset:
        """Return `number` images, of every class the same share of what there is, spread evenly; all of them for 0.

        Raises:
            DatasetError: the number is negative.
        """
        if not _wanted(number) or number >= len(self):
            return self
        order = np.argsort(self.label, kind="stable")
        return self.take(np.sort(order[np.linspace(0, len(self) - 1, number).round().astype(int)]))

    @property
    def variant(self) -> str:
        """The protocol with what was chosen beside it: `official, mode=probability`. Figures are comparable within one."""
        return ", ".join([self.protocol, *(f"{name}={value}" for name, value in self.choices.items())])

    @property
    def pixels(self) -> np.ndarray | None:
        """(N, H, W[, 3]) uint8 of a dataset stored as one array, mapped from disk where it can be; None if kept as files."""
        return self.images.stack() if isinstance(self.images, Pixels) else None

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of each class."""
        known = np.bincount(self.label[self.label >= 0], minlength=len(self.labels))
        return dict(zip(self.labels, known.tolist(), strict=True))

    @cached_property
    def digest(self) -> str:
        """sha256 (hexadecimal) of images and labels: the fingerprint that distinguishes versions of the data.

        For a dataset kept as an array it covers `images.tobytes()` followed by the labels as uint8, so FER2013 gives
        the published values; for files it covers the content of each file, in order. Reads every image once.
        """
        labels = self.label.astype(np.uint8).tobytes()
        if isinstance(self.images, Pixels):
            content = hashlib.sha256(np.ascontiguousarray(self.images.stack()).data)
        else:
            content = hashlib.sha256(self.images.fingerprint())
        content.update(labels)
        return content.hexdigest()


def _number(column: np.ndarray | None, index: int) -> float | None:
    return None if column is None or np.isnan(column[index]) else float(column[index])


def _text(column: np.ndarray | None, index: int) -> str | None:
    return None if column is None or not column[index] else str(column[index])


def _named(names: Sequence[str], column: np.ndarray | None, index: int, kind: type) -> dict | None:
    return None if column is None else {name: kind(value) for name, value in zip(names, column[index], strict=True)}


def _units(names: Sequence[str], column: np.ndarray | None, index: int) -> dict[str, bool] | None:
    if column is None or not (column[index] >= 0).any():
        return None
    return {name: bool(value) for name, value in zip(names, column[index], strict=True) if value >= 0}


def _box(column: np.ndarray | None, index: int) -> tuple[float, float, float, float] | None:
    if column is None or np.isnan(column[index]).any():
        return None
    left, top, right, bottom = column[index].tolist()
    return left, top, right, bottom


def _wanted(number: int) -> int:
    if number < 0:
        raise DatasetError(f"number of images must be 0 (all) or more, got {number}", value=number)
    return number
