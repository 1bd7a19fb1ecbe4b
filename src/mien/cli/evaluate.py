"""`mien evaluate`: how good is a model on a dataset?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from ..data.datasets import open_dataset
from ..errors import ConfigError, MissingExtra
from ..evaluation import evaluate as run
from ..evaluation.report import Report
from .splits import pairs
from .terminal import counting, for_programs, side_console, table_console, write_json

NAMES = {
    "accuracy": "accuracy",
    "uar": "UAR",
    "macro_f1": "macro-F1",
    "kappa": "kappa",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
}


def evaluate(
    model: str,
    /,
    *,
    dataset: Annotated[str, Parameter(required=True)],
    root: Path = Path(),
    out: Annotated[Path, Parameter(alias="-o", required=True)],
    split: str = "test",
    protocol: str = "",
    option: tuple[str, ...] = (),
    skip_damaged: bool = False,
    output: str = "auto",
    faces: Literal["auto", "whole", "detect"] = "auto",
    detector: str = "blazeface",
    tta: int = 1,
    seed: int = 0,
    pose: bool = False,
    limit: int = 0,
    batch: int = 64,
    threads: int = 1,
    device: str = "cpu",
    overwrite: bool = False,
    page: Annotated[bool, Parameter(negative="--no-page")] = True,
    results: Path | None = None,
    json: bool = False,
) -> None:
    """Measure a model on a dataset, and write predictions.csv, metrics.json and report.html.

    Images in which no face is found, or that cannot be read, count as wrong; the figures without them stand beside. An
    evaluation that was stopped goes on where it was.

    Examples:
        mien evaluate mien-base --dataset fer2013 --root data/fer2013 --out out/fer2013
        mien evaluate runs/fer2013-dan-small/1 --dataset ferplus --root data/fer2013 --tta 2 --out out/dan
        mien evaluate model.onnx --dataset london --root data/london --faces detect --out out/london
        mien evaluate my_package:classify --dataset folder --root photos --protocol cross-dataset --out out/mine

    Args:
        model: Name of a bundled model, a card, a weight file, the folder of a run, MODULE:FUNCTION, or peer:NAME=FILE.npz.
        dataset: Name of the dataset (see: mien datasets).
        root: Folder that holds it.
        out: Folder for the results.
        split: train, validation, test or all.
        protocol: How to split it; by default the first that the dataset offers.
        option: NAME=VALUE, one of the options of the dataset.
        skip_damaged: Leave out damaged rows and missing images instead of refusing to read.
        output: Which head of the model; auto takes the one named after the dataset, or else the scores.
        faces: whole: each image is one face; detect: find faces in photographs; auto: by the size of the images.
        detector: For detect.
        tta: Number of views whose mean is the answer: as it is, mirrored, then small turns.
        seed: Of the turns.
        pose: Find the mesh of whole images too, for figures by pose.
        limit: Only this many images, evenly spread; 0 for all.
        batch: Images in one call of the network.
        threads: Threads inside one call.
        device: Where networks run: cpu, cuda (cuda:1 is the second GPU), mps, or auto for the best that starts.
        overwrite: Begin anew, whatever evaluation the folder holds.
        page: Write report.html and figures (needs the extra eval).
        results: Also write the row of this evaluation to this csv, in place of an older one of the same key.
        json: Write the figures as JSON, also on a terminal.

    Raises:
        ConfigError: the page is asked for without the extra eval.
    """
    data = open_dataset(
        dataset,
        root,
        split,
        protocol,
        damaged="skip" if skip_damaged else "raise",
        **pairs(option, "--option"),  # pyrefly: ignore
    )
    side = side_console()
    total = min(limit, len(data)) if limit else len(data)
    with counting(side, f"{model} on {data.name} {data.split}", total) as progress:
        try:
            report = run(
                model,
                data,
                out=out,
                output=output,
                faces=faces,
                detector=detector,
                tta=tta,
                seed=seed,
                pose=pose,
                limit=limit,
                batch=batch,
                threads=threads,
                device=device,
                overwrite=overwrite,
                page=page,
                command=["mien", *sys.argv[1:]] if len(sys.argv) > 1 else [],
                progress=progress,
            )
        except MissingExtra as error:
            if page and error.extra == "eval":
                raise ConfigError(f"{error}; or do without the page: --no-page") from error
            raise
    if results:
        from ..evaluation.compare.rows import write_row

        write_row(results, report)
    if for_programs(json):
        write_json({"title": report.title, "out": str(out), **short(report)})
    else:
        tell(report, table_console())
    for text in (*report.about["dataset"]["flaws"], *report.about["dataset"]["notes"]):
        side.print(f"! {text}", style="yellow")
    side.print(f"{report.about['mapping']['says']}; faces: {report.about['identity']['faces']}", style="dim")
    side.print(f"wrote {out}" + (f"; read {out / 'report.html'}" if page else ""))


def short(report: Report) -> dict[str, Any]:
    """Return the figures that fit one line of JSON."""
    keys = ("counts", "official", "answered", "per_class", "abstention", "affect", "unit_f1", "abaw_p")
    found = {key: report.figures[key] for key in keys if key in report.figures}
    if "abstention" in found:
        found["abstention"] = {key: value for key, value in found["abstention"].items() if key != "curve"}
    return found


def tell(report: Report, console: Console) -> None:
    """Print the headline as a table."""
    figures = report.figures
    console.print(f"{report.title}, protocol {report.about['dataset']['protocol']}\n", style="bold")
    table = Table(box=None, pad_edge=False, header_style="bold")
    counts = figures["counts"]
    table.add_column("")
    table.add_column(f"all {counts['official']:,}", justify="right")
    table.add_column("95 %", style="dim")
    if counts["answered"] != counts["official"]:
        table.add_column(f"answered {counts['answered']:,}", justify="right")
        table.add_column("95 %", style="dim")
    for key, name in NAMES.items():
        cells = []
        for kind in ("official", "answered"):
            if kind == "answered" and counts["answered"] == counts["official"] and key in figures.get("official", {}):
                continue
            one = figures.get(kind, {}).get(key)
            if one is None and kind == "official" and counts["answered"] == counts["official"]:
                continue
            cells += ["", ""] if one is None else [_number(one["value"]), f"{_number(one['low'])} … {_number(one['high'])}"]
        if any(cells):
            table.add_row(name, *cells)
    for name, one in figures.get("affect", {}).items():
        table.add_row(
            f"CCC of {name}", _number(one["ccc"]["value"]), f"{_number(one['ccc']['low'])} … {_number(one['ccc']['high'])}"
        )
    if "unit_f1" in figures:
        one = figures["unit_f1"]
        table.add_row("F1 of action units", _number(one["value"]), f"{_number(one['low'])} … {_number(one['high'])}")
    console.print(table)
    if "per_class" in figures:
        console.print()
        classes = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("class", "n", "precision", "recall", "F1"):
            classes.add_column(name, justify="left" if name == "class" else "right")
        for name, row in figures["per_class"].items():
            recall, f1 = row["recall"]["value"], row["f1"]
            classes.add_row(name, f"{row['n']:,}", _number(row["precision"]), _number(recall), _number(f1))
        console.print(classes)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
