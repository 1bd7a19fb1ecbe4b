"""Results of an audit as plain values that serialize to JSON."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding in a sentence: an `"error"` makes metrics on these splits invalid, a `"warning"` must be stated with them."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """One split: number of images, of each class, and without a label."""

    images: int
    classes: Mapping[str, int]
    unlabeled: int
    digest: str
    """`Dataset.digest`."""
    original: bool | None
    """Whether that is the digest of the published original; None if unknown."""


@dataclass(frozen=True, slots=True)
class Leak:
    """Number of images of a split that also occur in another split or dataset."""

    split: str
    other: str
    images: int


@dataclass(frozen=True, slots=True)
class Member:
    """One image of a group of duplicates, with its split or other dataset, `Sample.name` and label."""

    split: str
    name: str
    label: str | None


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Groups of two or more equal images."""

    distinct: int
    """Number of different images."""
    groups: int
    """Number of groups."""
    images: int
    """Images in those groups."""
    conflicting: int
    """Groups with conflicting labels."""
    leaks: tuple[Leak, ...]
    """Images shared between splits, and between splits and other datasets."""
    examples: tuple[tuple[Member, ...], ...]
    """Some of the groups, those between splits first."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Subjects, recordings or other groups in two splits."""

    what: str
    """`"subject"`, `"sequence"` or the name of a group column."""
    split: str
    other: str
    shared: int
    """Number of shared subjects, recordings …"""
    images: int
    """Images of `split` that belong to one of them."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality of the images."""

    sizes: Mapping[str, int]
    """`"48×48"` → number of images, most frequent first."""
    odd_sizes: tuple[str, ...]
    """Images of another size, if nearly all have one size."""
    unreadable: tuple[str, ...]
    """Names and reasons."""
    blank: tuple[str, ...]
    equalised: int
    """Images with an equalized histogram."""
    recompressed: int
    """Images that were JPEG-compressed at their size."""
    deviation: float
    """Median standard deviation inside an image."""
    resemblance: float
    """Median correlation of the thumbnails of two images, −1 … 1: 0.09 in FER2013, 0.87 among portraits of one studio."""
    without_face: tuple[str, ...] | None
    """Images without a detected face; None if not searched."""
    searched: int
    """Number of images searched for faces."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Result of an audit of the splits of one dataset and protocol; layout, flaws and notes are those of its `Dataset`."""

    dataset: str
    protocol: str
    layout: str
    flaws: tuple[str, ...]
    notes: tuple[str, ...]
    splits: Mapping[str, SplitSummary]
    exact: Duplicates
    near: Duplicates | None
    """Near duplicates, exact ones included; None if not searched."""
    overlaps: tuple[Overlap, ...]
    quality: Quality
    findings: tuple[Finding, ...]
    """Most severe first."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dataclasses.asdict(self)
