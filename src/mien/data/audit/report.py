"""Results of an audit as plain values that serialize to JSON, its findings as sentences, and both as an HTML page."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from ...errors import UnknownName
from ...visualization.pages import STYLE, data_uri, html_page, html_table
from ..datasets import Dataset, reader

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = get_args(Level)

IMBALANCE = 10  # ratio of the largest to the smallest class from which accuracy is misleading
ALIKE = 0.6  # median correlation from which images are so similar that `MIN_CORRELATION` does not separate duplicates

EQUALIZED_COST = "on FER2013, models trained on the original lose 8 to 10 points of accuracy on such a copy"


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
    equalized: int
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


def findings(report: Audit) -> Audit:
    """Return the report with its findings, most severe first."""
    found = [*_copies(report), *_overlaps(report), *_images(report), *_balance(report), *_published(report)]
    found += [Finding("warning", f"the protocol {report.protocol}: {flaw}") for flaw in report.flaws]
    found += [Finding("note", note) for note in report.notes]
    return dataclasses.replace(report, findings=tuple(sorted(found, key=lambda finding: LEVELS.index(finding.level))))


def _copies(report: Audit) -> Iterator[Finding]:
    for leak in report.exact.leaks:
        share = leak.images / report.splits[leak.split].images
        text = f"{leak.images:,} of the {leak.split} images ({share:.1%}) also occur in {leak.other} (exact duplicates)"
        yield Finding(_level(leak), text + _example(report.exact, leak))
    exact = {(leak.split, leak.other): leak.images for leak in report.exact.leaks}
    for leak in report.near.leaks if report.near else ():
        if more := leak.images - exact.get((leak.split, leak.other), 0):
            text = f"{more:,} more {leak.split} images are near duplicates in {leak.other} (crop, brightness, mirror)"
            yield Finding(_level(leak), text + _example(report.near, leak))
    if report.near and report.near.groups and report.quality.resemblance > ALIKE:
        alike = f"all images are similar (correlation {report.quality.resemblance:.2f}), as portraits from one studio are"
        yield Finding("warning", f"{alike}: near duplicates may be other people; check them with --html FILE --show-images")
    copies, total = report.exact, sum(split.images for split in report.splits.values())
    if copies.groups:
        several = f"{copies.groups:,} groups of {copies.images:,} exact duplicates"
        yield Finding("note", f"{copies.distinct:,} distinct images of {total:,}; {several}")
    if copies.conflicting:
        yield Finding("warning", f"{copies.conflicting:,} groups of exact duplicates have conflicting labels")
    if not exact and not report.overlaps and not (report.near and report.near.leaks):
        yield Finding("note", "no duplicates and no subjects in two splits")


def _example(copies: Duplicates | None, leak: Leak) -> str:
    """Return two images of a listed group as an example of a leak; empty if none is listed."""
    for group in copies.examples if copies else ():
        names = {member.split: member.name for member in reversed(group)}
        if {leak.split, leak.other} <= names.keys():
            return f": {names[leak.split]} and {names[leak.other]}" + (", for example" if leak.images > 1 else "")
    return ""


def _overlaps(report: Audit) -> Iterator[Finding]:
    for overlap in report.overlaps:
        subject = f"{overlap.images:,} of the {overlap.split} images"
        if overlap.what == "official part":
            yield Finding("error", f"{subject} belong to the official part {overlap.other}")
        elif overlap.split != "train":
            yield Finding("error", f"{subject} share {overlap.shared:,} {overlap.what}s with {overlap.other}")


def _level(seen: Leak) -> Level:
    """Leaks between training and test are errors of the test split, whose metrics they invalidate."""
    return "warning" if seen.split == "train" else "error"


def _images(report: Audit) -> Iterator[Finding]:
    quality = report.quality
    usual = next(iter(quality.sizes), "")
    kinds: tuple[tuple[tuple[str, ...], Level, str], ...] = (
        (quality.unreadable, "error", "cannot be read"),
        (quality.blank, "warning", "are blank"),
        (quality.odd_sizes, "warning", f"are not {usual} like the others"),
    )
    for names, level, what in kinds:
        if names:
            shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
            yield Finding(level, f"{len(names):,} images {what}: {shown}")
    if quality.without_face:
        number, searched = len(quality.without_face), quality.searched
        text = f"no face was detected in {number:,} of {searched:,} images ({number / searched:.1%}) searched"
        yield Finding("warning", text)
    total = sum(split.images for split in report.splits.values())
    if quality.equalized > total / 2:
        share = f"{quality.equalized:,} images, median deviation {quality.deviation:.0f} gray levels"
        yield Finding("error", f"this is a histogram-equalized copy ({share}): {EQUALIZED_COST}")
    elif quality.equalized > total / 50:
        yield Finding("warning", f"{quality.equalized:,} images are histogram-equalized, the others are not")
    if quality.recompressed > total / 2:
        yield Finding("note", f"the images were JPEG-compressed at this size ({quality.recompressed:,} of {total:,})")


def _balance(report: Audit) -> Iterator[Finding]:
    for name, split in report.splits.items():
        counts = {kind: number for kind, number in split.classes.items() if number}
        if missing := [kind for kind, number in split.classes.items() if not number]:
            yield Finding("warning", f"{name} has no images of {', '.join(missing)}")
        large, small = (pick(counts, key=counts.__getitem__, default="") for pick in (max, min))
        if counts and (ratio := counts[large] / counts[small]) >= IMBALANCE:
            text = f"{name} has {ratio:.0f} times as many images of {large} as of {small}: report the recall of each class"
            yield Finding("note", text)
        if split.unlabeled:
            yield Finding("note", f"{split.unlabeled:,} of the {name} images have no label")


def _published(report: Audit) -> Iterator[Finding]:
    """Compare size, digest and numbers of images with those of the published dataset."""
    try:
        known = reader(report.dataset)
    except UnknownName:  # a dataset made in memory
        return
    usual = next(iter(report.quality.sizes), "")
    if known.size and usual and usual != (published := f"{known.size[0]}×{known.size[1]}"):
        yield Finding("warning", f"most images are {usual}, the published ones {published}: a modified copy")
    original = [split.original for split in report.splits.values() if split.original is not None]
    if original and all(original):
        yield Finding("note", "pixels and labels equal the published original (digest)")
    elif original:
        yield Finding("warning", "pixels or labels differ from the published original: report the digest with every metric")
    elif known.published and known.published.items() <= {name: split.images for name, split in report.splits.items()}.items():
        yield Finding("note", "the splits have the published numbers of images")


GROUPS = 12  # maximum number of groups of duplicates of each kind
SIDE = 72  # side of a thumbnail in pixels

MORE_STYLE = """
td,th{vertical-align:top}li{color:var(--soft)}li.error{color:#c22}li.warning{color:#a60}
figure{display:inline-block;margin:0 .5rem .5rem 0;font-size:.75rem}figure img{display:block;height:72px}
.group{border-left:3px solid var(--line);padding-left:.6rem;margin-bottom:.6rem}
"""


def page(report: Audit, images: Mapping[str, Dataset] | None = None) -> str:
    """Return the report as an HTML document; with `images`, the splits, it shows some, whose terms of use then apply."""
    title = f"Audit of {report.dataset}, protocol {report.protocol}"
    classes = list(dict.fromkeys(kind for split in report.splits.values() for kind in split.classes))
    splits = (
        (name, split.images, *(split.classes.get(kind, 0) for kind in classes), split.digest[:16])
        for name, split in report.splits.items()
    )
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>Layout: {escape(report.layout)}.</p>",
        "<h2>Findings</h2>",
        "<ul>" + "".join(f'<li class="{f.level}">{f.level}: {escape(f.text)}</li>' for f in report.findings) + "</ul>",
        "<h2>Splits</h2>",
        _table(("split", "images", *classes, "digest"), splits),
        "<h2>Exact duplicates</h2>",
        _groups(report.exact, images),
    ]
    if report.near:
        parts += ["<h2>Near duplicates</h2>", _groups(report.near, images)]
    if report.overlaps:
        rows = ((o.what, o.split, o.other, o.shared, o.images) for o in report.overlaps)
        parts += ["<h2>Overlap of splits</h2>", _table(("what", "split", "also in", "shared", "images"), rows)]
    parts += ["<h2>Images</h2>", _quality(report)]
    return html_page(title, parts, STYLE + MORE_STYLE)


def _groups(copies: Duplicates, images: Mapping[str, Dataset] | None) -> str:
    summary = (
        f"<p>{copies.distinct:,} distinct images; {copies.groups:,} groups of together {copies.images:,} images, "
        f"{copies.conflicting:,} with conflicting labels.</p>"
    )
    leaks = _table(("split", "also in", "images"), ((leak.split, leak.other, leak.images) for leak in copies.leaks))
    groups = (
        '<div class="group">' + "".join(_figure(member, images) for member in group[:8]) + "</div>"
        for group in copies.examples[:GROUPS]
    )
    return summary + (leaks if copies.leaks else "") + "".join(groups)


def _figure(member: Member, images: Mapping[str, Dataset] | None) -> str:
    data = (images or {}).get(member.split)
    rows = [] if data is None else np.flatnonzero(data.names == member.name).tolist()
    thumbnail = ""
    if data is not None and rows:
        image = Image.fromarray(data[rows[0]].read())
        image.thumbnail((4 * SIDE, SIDE))
        thumbnail = f'<img alt="" src="{data_uri(image, "PNG")}">'
    caption = escape(f"{member.split}/{member.name} {member.label or ''}")
    return f"<figure>{thumbnail}<figcaption>{caption}</figcaption></figure>"


def _quality(report: Audit) -> str:
    quality = report.quality
    faces = f"{len(quality.without_face):,} of {quality.searched:,}" if quality.without_face is not None else "not searched"
    rows = {
        "sizes": ", ".join(f"{size}: {number:,}" for size, number in quality.sizes.items()),
        "unreadable": len(quality.unreadable),
        "blank": len(quality.blank),
        "other sizes": len(quality.odd_sizes),
        "histogram equalized": quality.equalized,
        "JPEG compressed": quality.recompressed,
        "median deviation of gray levels": f"{quality.deviation:.1f}",
        "median correlation of two images": f"{quality.resemblance:.2f}",
        "without a face": faces,
    }
    return _table(("", ""), rows.items())


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return html_table(header, ([f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows))
