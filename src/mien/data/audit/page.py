"""The audit report as a self-contained HTML page."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

from ...visualization.pages import STYLE, data_uri, html_page, html_table
from ..datasets import Dataset, Sample
from .report import Audit, Duplicates, Member

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
        _copies(report.exact, images),
    ]
    if report.near:
        parts += ["<h2>Near duplicates</h2>", _copies(report.near, images)]
    if report.overlaps:
        rows = ((o.what, o.split, o.other, o.shared, o.images) for o in report.overlaps)
        parts += ["<h2>Overlap of splits</h2>", _table(("what", "split", "also in", "shared", "images"), rows)]
    parts += ["<h2>Images</h2>", _quality(report)]
    return html_page(title, parts, STYLE + MORE_STYLE)


def _copies(copies: Duplicates, images: Mapping[str, Dataset] | None) -> str:
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
    thumbnail = _thumbnail(data[rows[0]]) if data is not None and rows else ""
    caption = escape(f"{member.split}/{member.name} {member.label or ''}")
    return f"<figure>{thumbnail}<figcaption>{caption}</figcaption></figure>"


def _thumbnail(sample: Sample) -> str:
    image = Image.fromarray(sample.read())
    image.thumbnail((4 * SIDE, SIDE))
    return f'<img alt="" src="{data_uri(image, "PNG")}">'


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
