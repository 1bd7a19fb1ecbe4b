"""What an audit found, as plain values: it serializes to JSON and prints the same everywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence for people."""

    level: Level
    """`"error"`: a figure from these splits is wrong; `"warning"`: it needs a remark; `"note"`: good to know."""
    text: str
    """What was found, with its number."""


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
    """Whether that is the digest of the published original; None where it is not known."""


@dataclass(frozen=True, slots=True)
class Leak:
    """Images that two splits share."""

    split: str
    """The split whose images are counted."""
    other: str
    """The split, or the other dataset and split, in which they also stand."""
    images: int
    """How many of `split`."""


@dataclass(frozen=True, slots=True)
class Member:
    """One image of a group of copies."""

    split: str
    """The split, or the other dataset, that it stands in."""
    name: str
    """Its `Sample.name`."""
    label: str | None
    """Its label."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Groups of copies."""

    distinct: int
    """Number of different images."""
    groups: int
    """Groups of two images or more."""
    images: int
    """Images in those groups."""
    conflicting: int
    """Groups whose images bear different labels."""
    leaks: tuple[Leak, ...]
    """Between splits, and between the splits and other datasets; none where nothing is shared."""
    examples: tuple[tuple[Member, ...], ...]
    """Some groups, those between splits first."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """People, recordings or other groups on both sides."""

    what: str
    """`"subject"`, `"sequence"` or the name of a group column."""
    split: str
    """The split whose images are counted."""
    other: str
    """The other split."""
    shared: int
    """Number of subjects (recordings …) that both have."""
    images: int
    """Images of `split` that show one of them."""


@dataclass(frozen=True, slots=True)
class Quality:
    """The images by themselves."""

    sizes: Mapping[str, int]
    """`"48×48"` → number of images, most frequent first."""
    odd_sizes: tuple[str, ...]
    """Names of images of another size, where nearly all have one size."""
    unreadable: tuple[str, ...]
    """Names with reasons."""
    blank: tuple[str, ...]
    """Names of images with hardly any gray levels."""
    equalised: int
    """Images whose histogram was equalised."""
    recompressed: int
    """Images whose pixels went through JPEG on their own grid."""
    deviation: float
    """Median standard deviation inside an image."""
    resemblance: float
    """Median correlation of the thumbnails of two images, −1 … 1: 0.09 in FER2013, 0.87 among portraits of one studio."""
    without_face: tuple[str, ...] | None
    """Names of images in which no face was found; None if that was not looked for."""
    searched: int
    """In how many images a face was looked for."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything an audit found."""

    dataset: str
    """Entry of `mien.data.datasets.DATASETS`."""
    protocol: str
    """The protocol whose splits were audited."""
    layout: str
    """The layout that was found."""
    flaws: tuple[str, ...]
    """Stated flaws of the protocol."""
    notes: tuple[str, ...]
    """Notes of the reader."""
    splits: Mapping[str, SplitSummary]
    """By name."""
    exact: Duplicates
    """Copies pixel for pixel."""
    near: Duplicates | None
    """Copies to the eye, the exact ones included; None if they were not looked for."""
    overlaps: tuple[Overlap, ...]
    """People and recordings that splits share."""
    quality: Quality
    """The images by themselves."""
    findings: tuple[Finding, ...]
    """All of it in sentences, worst first."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dataclasses.asdict(self)
