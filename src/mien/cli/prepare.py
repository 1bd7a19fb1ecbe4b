"""`mien prepare` and `audit`: aligned faces, regions of faces, filtered annotations; flaws of a dataset."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cyclopts import App, Parameter
from PIL import Image
from rich.text import Text

from ..data.audit import audit as run_audit
from ..data.audit import clean_protocol, open_splits
from ..data.audit.report import page
from ..data.datasets import open_dataset
from ..data.datasets.listing import images_below
from ..data.preparation import Align, Regions, Work, contact_sheet, curate
from ..data.preparation import prepare as run
from ..errors import ConfigError
from ..io.files import atomic_write, check_output, write_file
from ..io.images import read_image
from ..runtime.devices import cores
from .options import Place, Source, pairs
from .terminal import Json, counting, for_programs, note, plain_table, print_rows, split_table, table_console, write_json

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def audit(
    *,
    dataset: str,
    place: Source = Source(),  # noqa: B008 - frozen
    against: tuple[str, ...] = (),
    near: Annotated[bool, Parameter(negative="--no-near")] = True,
    faces: int | None = None,
    json: Json = False,
    html: Path | None = None,
    show_images: bool = False,
    write_clean: Path | None = None,
    overwrite: bool = False,
    workers: int = 0,
) -> int:
    """Find duplicates across splits, conflicting labels, subject overlap, preprocessed and corrupt images.

    The exit status is 1 if a finding invalidates a reported metric.

    Examples:
        mien audit --dataset fer2013 --root data/fer2013
        mien audit --dataset rafdb --root data/rafdb --against affectnet7=data/affectnet --html report.html
        mien audit --dataset fer2013 --root data/fer2013 --write-clean fer2013.clean.json

    Args:
        dataset: Name of the dataset (see: mien datasets).
        place: The dataset; by default the parts named by its files are audited.
        against: NAME=DIR, another dataset to compare with.
        near: Find near duplicates too; the time grows with the square of the number of images.
        faces: Run face detection on this many images, evenly spread; 0 for all.
        html: Also write a page to this file.
        show_images: Show some of the duplicates on that page, which then contains images of the dataset.
        write_clean: Also write a protocol without the duplicates to this file, for --protocol clean:FILE.
        overwrite: Replace existing files that mien did not write.
        workers: Threads that decode images; 0 for one per core.
    """
    if html:
        check_output(html, "--html", (".html", ".htm"), b"Audit of ", inputs=(), overwrite=overwrite)
    if write_clean:
        check_output(write_clean, "--write-clean", (".json",), b'"digests"', inputs=(), overwrite=overwrite)
    splits = open_splits(dataset, place.root, place.protocol, options=place.options)
    others = {name: open_dataset(name, place, "all", damaged="skip") for name, place in pairs(against, "--against").items()}
    threads = workers or os.cpu_count() or 1
    with counting("reading images", sum(len(data) for data in (*splits.values(), *others.values()))) as progress:
        report = run_audit(splits, others, near=near, search=faces, workers=threads, progress=progress)
    if for_programs(json):
        write_json(report.to_dict())
    else:
        console = table_console()
        console.print(f"{report.dataset}, {report.layout}, protocol {report.protocol}\n")
        for finding in report.findings:
            console.print(Text.assemble((f"{finding.level:<8}", STYLES[finding.level]), finding.text))
        console.print()
        console.print(split_table({name: (part.classes, part.images, part.digest) for name, part in report.splits.items()}))
    if html:
        write_file(html, page(report, splits if show_images else None), errors="backslashreplace")
        note(f"wrote {html}")
    if write_clean:
        clean = clean_protocol(splits, workers=threads)
        clean.write(write_clean)
        left = ", ".join(f"{name} {len(data) - len(clean.drop[name]):,}" for name, data in splits.items())
        note(f"wrote {write_clean}; images left: {left}; use it as protocol clean:{write_clean}")
    return int(any(finding.level == "error" for finding in report.findings))


EXAMPLES = """Examples:
    mien prepare align --dataset folder --root photos --out aligned --crop arcface112
    mien prepare regions --dataset rafdb --root data/rafdb --option images=original --out data/rafdb-roi
    mien prepare annotations --root data/affwild2 --out data/affwild2
"""

app = App("prepare", help="Align faces, crop regions of faces, filter annotations.", help_epilogue=EXAMPLES)

MARK = b"mien contact sheet"  # metadata of contact sheets, by which they are recognized when they are written again

Format = Annotated[Literal["png", "jpg"], Parameter(help="Image format.")]

SHEET = 60  # images on a contact sheet


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Job(Place):
    """Dataset and output of the commands that write images. By default the parts named by the files are prepared."""

    dataset: str
    """Name of the dataset (see: mien datasets)."""
    out: Path
    """Output folder; an interrupted preparation resumes."""
    limit: int | None = None
    """At most this many images of each split, evenly spread."""
    sheet: Path | None = None
    """Also write a contact sheet of some of the results to this file."""
    overwrite: bool = False
    """Replace an existing --sheet that mien did not write."""
    workers: int | None = None
    """Processes; by default one per core."""
    json: Json = False


@app.command
def align(job: Job, *, work: Annotated[Align, Parameter(name="*")] = Align(), format: Format = "png") -> None:  # noqa: A002, B008
    """Crop aligned faces from the images of a dataset."""
    _prepare(job, work, format)


@app.command
def regions(job: Job, *, work: Annotated[Regions, Parameter(name="*")] = Regions(), format: Format = "jpg") -> None:  # noqa: A002, B008
    """Crop eyes, nose and mouth from the images of a dataset, with the formulas of Global-ROI Net."""
    _prepare(job, work, format)


@app.command
def annotations(
    *,
    root: Path,
    out: Path,
    filter: Literal["strict", "valence-arousal", "expression", "action-units", "none"] = "strict",  # noqa: A002 - as above
    json: Json = False,
) -> None:
    """Filter the annotation files of s-Aff-Wild2, and report why rows were dropped.

    Args:
        root: Folder of the annotation files.
        out: Output folder.
        filter: Rows to keep: annotated for every task (strict), for one task, or all (none).
    """
    tables = curate(root, out, filter)
    if for_programs(json):
        for table in tables:
            write_json(dataclasses.asdict(table))
        return
    shown = plain_table("part", "rows", "of them", text=("part", "of them"))
    for table in tables:
        shown.add_row(table.part, f"{table.rows:,}", "read")
        for lacking, number in table.dropped.items():
            shown.add_row("", f"{number:,}", f"without {lacking}")
        remark = ", the published number" if table.published else ""
        shown.add_row("", f"{table.kept:,}", f"kept in {table.file}{remark}", style="bold")
        if table.unreadable:
            shown.add_row("", f"{table.unreadable:,}", "invalid lines")
    table_console().print(shown)


def _prepare(job: Job, work: Work, suffix: Literal["png", "jpg"]) -> None:
    if job.sheet:
        check_output(job.sheet, "--sheet", tuple(Image.registered_extensions()), MARK, inputs=(), overwrite=job.overwrite)
    splits = open_splits(job.dataset, job.root, job.protocol, damaged=job.damaged, options=job.options)
    for flag, number in (("--limit", job.limit), ("--workers", job.workers)):
        if number is not None and number < 1:
            raise ConfigError(f"{flag} must be 1 or more, got {number}", value=number)
    if job.limit is not None:
        splits = {name: data.evenly(job.limit) for name, data in splits.items()}
    workers = cores() if job.workers is None else job.workers
    with counting("preparing", sum(map(len, splits.values()))) as progress:
        summary = run(splits, work, job.out, format=suffix, workers=workers, progress=progress)
    if job.sheet:
        files = images_below(job.out)
        chosen = np.linspace(0, len(files) - 1, min(SHEET, len(files))).astype(int).tolist()
        drawn, exif = contact_sheet((files[row], read_image(job.out / files[row]).pixels) for row in chosen), Image.Exif()
        exif[0x0131] = MARK.decode()  # Software
        with atomic_write(job.sheet) as part:
            drawn.save(part, Image.registered_extensions()[job.sheet.suffix.lower()], exif=exif)
        note(f"wrote {job.sheet}")
    if for_programs(job.json):
        write_json(dataclasses.asdict(summary))
    else:
        kinds = list(dict.fromkeys(kind for counts in summary.status.values() for kind in counts))
        rows = [(name, *(f"{counts.get(kind, 0):,}" for kind in kinds)) for name, counts in summary.status.items()]
        print_rows(("split", *kinds), rows, text=("split",))
        said = f"{summary.new:,} prepared by this run in {job.out}; digest of all files {summary.digest[:16]}"
        note(said, "dim")
