"""Datasets in memory: columns of annotations beside images that stay where they are, decoded on access."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from ...errors import DatasetError
from ...io.files import sha256
from ...io.images import read_image

COLUMNS = (
    "names", "label", "part", "distribution", "votes", "valence", "arousal", "action_units", "boxes", "subject", "sequence",
)  # fmt: skip
"""Fields of `Dataset` with one row per image."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its annotations; missing ones are None or empty.

    Example:
        >>> Sample("00007", np.zeros((48, 48), np.uint8), label="fear").read().shape
        (48, 48, 3)
    """

    name: str
    """Identity inside the dataset: the path below its root, with `/`, or the row number of a csv."""
    image: Path | np.ndarray = field(compare=False, repr=False)
    """Path of the image, or its pixels: (H, W) or (H, W, 3) uint8. Files are decoded by `read`."""
    label: str | None = None
    """Class name, as `mien.labels` spells it."""
    distribution: Mapping[str, float] | None = None
    """Soft label: class → probability, summing to one."""
    votes: Mapping[str, int] | None = None
    """Number of annotators per class, which may include classes beyond the labels (`unknown`, `NF`)."""
    valence: float | None = None
    """−1 (unpleasant) … 1 (pleasant)."""
    arousal: float | None = None
    """−1 (calm) … 1 (excited)."""
    action_units: Mapping[str, bool] | None = None
    """Facial action units: `{"AU12": True, …}`, only those that were annotated for this image."""
    box: tuple[float, float, float, float] | None = None
    """Left, top, right and bottom of the face in pixels, if annotated."""
    subject: str | None = None
    """Identity of the person."""
    sequence: str | None = None
    """Recording of which the image is a frame."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Other columns for comparing results: gender, age range, film …"""

    def read(self) -> np.ndarray:
        """Decode the image to (H, W, 3) uint8 RGB; SourceError if the file cannot be read."""
        return read_image(self.image).pixels


@dataclass(frozen=True, slots=True)
class Files:
    """Images that are files."""

    root: Path  # folder of the names
    names: np.ndarray  # (N,) str: paths below `root`, with `/`

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Path:
        return self.root / str(self.names[index])

    def take(self, rows: np.ndarray) -> Files:
        """Return these rows."""
        return Files(self.root, self.names[rows])

    def content(self) -> bytes:
        """Return the sha256 over the sha256 of every file, in order; the names play no part."""
        return hashlib.sha256(b"".join(bytes.fromhex(sha256(path)) for path in self)).digest()


@dataclass(frozen=True, slots=True)
class Pixels:
    """Images that are rows of an array. An array mapped from a file stays there, and pickles as the path of that file."""

    array: np.ndarray  # (M, H, W) or (M, H, W, 3) uint8, of which `rows` are meant
    rows: np.ndarray  # (N,) int64

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.array[self.rows[index]]

    def take(self, rows: np.ndarray) -> Pixels:
        """Return these rows."""
        return Pixels(self.array, self.rows[rows])

    def stack(self) -> np.ndarray:
        """Return (N, H, W[, 3]) uint8: a view of the mapped file where the rows follow one another, else a copy."""
        if len(self.rows) and np.all(np.diff(self.rows) == 1):
            return self.array[self.rows[0] : self.rows[-1] + 1]
        return self.array[self.rows]

    def content(self) -> memoryview:
        """Return all pixels, in order."""
        return np.ascontiguousarray(self.stack()).data

    def __reduce__(self) -> tuple:
        if isinstance(self.array, np.memmap):
            return _mapped, (str(self.array.filename), self.rows)
        return Pixels, (self.array, self.rows)


def _mapped(path: str, rows: np.ndarray) -> Pixels:
    return Pixels(np.load(path, mmap_mode="r"), rows)


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
    arousal: np.ndarray | None = None
    """(N,) float32 in −1 … 1, as the valence; NaN where not annotated."""
    action_units: np.ndarray | None = None
    """(N, len(unit_names)) int8: 1 present, 0 absent, −1 not annotated."""
    unit_names: tuple[str, ...] = ()
    """Columns of `action_units`."""
    boxes: np.ndarray | None = None
    """(N, 4) float32: left, top, right, bottom of the face."""
    subject: np.ndarray | None = None
    sequence: np.ndarray | None = None
    """(N,) str, as the subject."""
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
        row = {name: column[index] for name in COLUMNS if (column := getattr(self, name)) is not None}
        shares, votes, units, box = (row.get(name) for name in ("distribution", "votes", "action_units", "boxes"))
        given: dict[str, Any] = {
            name: float(row[name]) for name in ("valence", "arousal") if not np.isnan(row.get(name, np.nan))
        }
        given |= {name: str(row[name]) for name in ("subject", "sequence") if row.get(name)}
        if shares is not None:
            given["distribution"] = dict(zip(self.labels, shares.tolist(), strict=True))
        if votes is not None:
            given["votes"] = dict(zip(self.vote_names, votes.tolist(), strict=True))
        if units is not None and (units >= 0).any():
            present = zip(self.unit_names, units.tolist(), strict=True)
            given["action_units"] = {name: bool(value) for name, value in present if value >= 0}
        if box is not None and not np.isnan(box).any():
            given["box"] = tuple(box.tolist())
        return Sample(
            name=str(row["names"]),
            image=self.images[index],
            label=self.labels[row["label"]] if row["label"] >= 0 else None,
            groups={name: str(column[index]) for name, column in self.groups.items() if column[index]},
            **given,
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
        """Return at most `number` images, spread evenly over the data; all for 0. A negative number raises DatasetError."""
        return self if self._all(number) else self.take(np.linspace(0, len(self) - 1, number).astype(int))

    def of_each_class(self, number: int) -> Dataset:
        """Return `number` images, of every class the same share of what there is, spread evenly; all of them for 0."""
        if self._all(number):
            return self
        order = np.argsort(self.label, kind="stable")
        return self.take(np.sort(order[np.linspace(0, len(self) - 1, number).round().astype(int)]))

    def _all(self, number: int) -> bool:
        if number < 0:
            raise DatasetError(f"number of images must be 0 (all) or more, got {number}", value=number)
        return not 0 < number < len(self)

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

        For a dataset kept as an array it covers `images.tobytes()` followed by the labels as uint8, so FER2013 gives the
        published values; for files it covers the content of each file, in order. Reads every image once.
        """
        content = hashlib.sha256(self.images.content())
        content.update(self.label.astype(np.uint8).tobytes())
        return content.hexdigest()
