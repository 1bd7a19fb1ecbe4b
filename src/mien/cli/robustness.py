"""`mien stress`: what is left of a model's accuracy when faces are degraded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from ..data.datasets import open_dataset
from ..errors import ConfigError
from ..evaluation.embeddings import figure_kind, write_figure
from ..evaluation.report import Report
from ..evaluation.robustness import MARGIN
from ..evaluation.robustness import stress as run
from .splits import pairs
from .terminal import counting, for_programs, side_console, table_console, write_json

SECTION = "Degraded faces"
"""Heading in a report."""


def stress(
    model: str,
    /,
    *,
    dataset: Annotated[str, Parameter(required=True)],
    root: Path = Path(),
    split: str = "test",
    protocol: str = "",
    option: tuple[str, ...] = (),
    output: str = "auto",
    faces: Literal["auto", "whole", "detect"] = "auto",
    detector: str = "blazeface",
    limit: int = 0,
    seed: int = 0,
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    plot_to: Annotated[Path | None, Parameter(name="--plot")] = None,
    report: Path | None = None,
    threads: int = 1,
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Measure what blur, JPEG, poor light, covered faces, turns and other crops cost a model, each at a stated strength.

    The same faces are read as they are and degraded. Shown are the accuracy, its change in points with a 95 % interval, the
    share of faces that get the same answer, and how far the probabilities move (total variation, 0 … 1).

    Examples:
        mien stress mien-base --dataset fer2013 --root data/fer2013

        mien stress runs/fer2013-dan-small/1 --dataset fer2013 --root data/fer2013 --limit 500 --plot dan.png

        mien stress mien-nano --dataset london --root data/london --out london.csv --report out/london

    Args:
        model: Name of a bundled model, a card, a weight file, the folder of a run, or MODULE:FUNCTION.
        dataset: Name of the dataset (see: mien datasets).
        root: Folder that holds it.
        split: train, validation, test or all.
        protocol: How to split it; by default the first that the dataset offers.
        option: NAME=VALUE, one of the options of the dataset.
        output: Which head of the model; auto takes the one named after the dataset, or else the scores.
        faces: whole: each image is one face; detect: find faces in photographs; auto: by the size of the images.
        detector: For detect.
        limit: Only this many images, evenly spread; 0 for all.
        seed: Of the noise, of what is covered, and of the side of the light.
        out: File for the table (.csv).
        plot_to: File for the image: .png, .svg or .pdf.
        report: Folder of an evaluation; the image is added to its report.
        threads: Threads inside one call of the network.
        device: Where networks run: cpu, cuda (cuda:1 is the second GPU), mps, or auto for the best that starts.
        json: Write JSON, also on a terminal.

    Raises:
        ConfigError: the table is not to be a csv.
    """
    if out is not None and out.suffix.lower() != ".csv":
        raise ConfigError(f"--out {out}: the table is written as .csv")
    if plot_to is not None:
        figure_kind(plot_to)
    judged = Report.read(report) if report else None
    data = open_dataset(dataset, root, split, protocol, **pairs(option, "--option"))  # pyrefly: ignore
    side = side_console()
    total = min(limit, len(data)) if limit else len(data)
    with counting(side, f"{model} on {data.name} {data.split}", total) as progress:
        found = run(
            model,
            data,
            output=output,
            faces=faces,
            detector=detector,
            limit=limit,
            seed=seed,
            threads=threads,
            device=device,
            progress=progress,
        )
    if out:
        side.print(f"wrote {found.save(out)}", style="dim")
    if plot_to:
        side.print(f"wrote {write_figure(found.figure(), plot_to)}", style="dim")
    if judged:
        drawn = io.BytesIO()
        found.figure().savefig(drawn, format="png", dpi=160, metadata={"Software": None})
        note = f"Gray: changes of up to {100 * MARGIN:.0f} points. Intervals are 95 %, paired; seed {seed}."
        judged.add_image(SECTION, f"{found.model} on {found.data}", drawn.getvalue(), note)
        judged.write()
        side.print(f"added {SECTION.lower()} to {judged.folder}", style="dim")
    if for_programs(json):
        write_json(found.to_dict())
        return
    console = table_console()
    console.print(f"{found.model} on {found.data}: {100 * found.accuracy:.1f} % of {found.faces:,} faces\n", style="bold")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("degraded by", "strength", "accuracy", "change", "95 %", "same answer", "moved"):
        table.add_column(name, justify="left" if name in ("degraded by", "strength") else "right")
    for row in found.rows:
        table.add_row(
            row.name,
            row.strength,
            f"{100 * row.accuracy:.1f}",
            f"{100 * row.change:+.1f}",
            f"{100 * row.low:+.1f} … {100 * row.high:+.1f}",
            f"{row.same:.0%}",
            f"{row.moved:.3f}",
            style="bold red" if row.change < -MARGIN else "",
        )
    console.print(table)
    if found.tight_to_loose is not None:
        console.print(f"\nFrom a tight to a loose crop the probabilities move by {found.tight_to_loose:.3f} on average.")
    if found.tight_to_loose_photograph is not None:
        moved = found.tight_to_loose_photograph
        console.print(f"From a tight to a loose photograph, the face found in each, they move by {moved:.3f}.")
