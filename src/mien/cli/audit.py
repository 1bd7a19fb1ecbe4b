"""`mien audit`: find duplicates, conflicting labels, subject overlap and unusable images of a dataset."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from ..data.audit import audit as run
from ..data.audit import clean_protocol, open_splits
from ..data.audit.report import page
from ..data.datasets import open_dataset
from ..io.files import check_output, write_file
from .options import Source, pairs
from .terminal import Json, counting, for_programs, side_console, split_table, table_console, write_json

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
    side = side_console()
    with counting("reading images", sum(len(data) for data in (*splits.values(), *others.values()))) as progress:
        report = run(splits, others, near=near, search=faces, workers=threads, progress=progress)
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
        side.print(f"wrote {html}")
    if write_clean:
        clean = clean_protocol(splits, workers=threads)
        clean.write(write_clean)
        left = ", ".join(f"{name} {len(data) - len(clean.drop[name]):,}" for name, data in splits.items())
        side.print(f"wrote {write_clean}; images left: {left}; use it as protocol clean:{write_clean}")
    return int(any(finding.level == "error" for finding in report.findings))
