"""Results of an audit as plain values that serialize to JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding in a sentence."""

    level: Level
    """`"error"`: metrics on these splits are invalid; `"warning"`: they need a remark; `"note"`: information."""
    text: str
    """The sentence, with numbers."""


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """One split."""

    images: int
    """Number of images."""
    classes: Mapping[str, int]
    """Class → number of images."""
    unlabeled: int
    """Images without a label."""
    digest: str
    """`Dataset.digest`."""
    original: bool | None
    """Whether that is the digest of the published original; None if unknown."""


@dataclass(frozen=True, slots=True)
class Leak:
    """Images that two splits share."""

    split: str
    """The split whose images are counted."""
    other: str
    """The other split or dataset."""
    images: int
    """Number of images of `split`."""


@dataclass(frozen=True, slots=True)
class Member:
    """One image of a group of duplicates."""

    split: str
    """Its split or other dataset."""
    name: str
    """Its `Sample.name`."""
    label: str | None
    """Its label."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Groups of duplicates."""

    distinct: int
    """Number of different images."""
    groups: int
    """Groups of two images or more."""
    images: int
    """Images in those groups."""
    conflicting: int
    """Groups with conflicting labels."""
    leaks: tuple[Leak, ...]
    """Images shared between splits, and between splits and other datasets."""
    examples: tuple[tuple[Member, ...], ...]
    """Examples, groups between splits first."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Subjects, recordings or other groups in two splits."""

    what: str
    """`"subject"`, `"sequence"` or the name of a group column."""
    split: str
    """The split whose images are counted."""
    other: str
    """The other split."""
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
    """Blank images."""
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
    """Result of an audit."""

    dataset: str
    """Entry of `mien.data.datasets.DATASETS`."""
    protocol: str
    """The protocol whose splits were audited."""
    layout: str
    """The detected layout."""
    flaws: tuple[str, ...]
    """Known flaws of the protocol."""
    notes: tuple[str, ...]
    """Notes of the reader."""
    splits: Mapping[str, SplitSummary]
    """By name."""
    exact: Duplicates
    """Exact duplicates."""
    near: Duplicates | None
    """Near duplicates, exact ones included; None if not searched."""
    overlaps: tuple[Overlap, ...]
    """Subjects and recordings in several splits."""
    quality: Quality
    """Quality of the images."""
    findings: tuple[Finding, ...]
    """Findings as sentences, most severe first."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dataclasses.asdict(self)
