"""`mien evaluate`: metrics of a model on a dataset."""

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from ..errors import ConfigError, MissingExtra
from ..evaluation import evaluate as run
from ..evaluation.compare.rows import write_row
from ..evaluation.report import Report
from ..evaluation.report.metrics import HEADLINE
from ..evaluation.tta import Views
from ..visualization.pages import decimal
from .options import Batch, Head, Inference, Limit, Model, Replace, Split, total
from .terminal import Json, counting, for_programs, plain_table, side_console, table_console, write_json


def evaluate(
    model: Model,
    /,
    *,
    data: Split,
    out: Annotated[Path, Parameter(alias="-o", required=True)],
    output: Head = "auto",
    tta: Views = 1,
    seed: int = 0,
    pose: bool = False,
    metric: tuple[str, ...] = (),
    limit: Limit = 0,
    batch: Batch = 64,
    inference: Inference = Inference(),  # noqa: B008 - frozen
    overwrite: Replace = False,
    page: Annotated[bool, Parameter(negative="--no-page")] = True,
    results: Path | None = None,
    json: Json = False,
) -> None:
    """Evaluate a model on a dataset, and write predictions.csv, metrics.json and report.html.

    Images without a detected face and unreadable images count as wrong; metrics without them are reported beside. A finished
    evaluation in the output folder is not repeated.

    Examples:
        mien evaluate mien-base --dataset fer2013 --root data/fer2013 --out out/fer2013
        mien evaluate runs/fer2013-dan-small/1 --dataset ferplus --root data/fer2013 --tta 2 --out out/dan
        mien evaluate runs/ckplus-global/fold-3 --dataset ckplus --root data/ckplus --folds 10 --fold 3 --out out/fold-3
        mien evaluate my_package:classify --dataset folder --root photos --protocol cross-dataset --out out/mine

    Args:
        out: Output folder.
        tta: Number of test-time augmentation views (original, mirrored, then small rotations), or ten-crop: four corners and
            center, each mirrored too.
        seed: Seed of the rotations.
        pose: Find the face mesh of whole images too, for metrics by head pose.
        metric: MODULE:ATTRIBUTE, a metric of your own: a function of the predictions table; repeatable.
        page: Write report.html and figures (needs the extra eval).
        results: Also write the row of this evaluation to this csv, replacing an older row of the same key.
    """
    split, side = data.open(model), side_console()
    options: Any = {"output": output, "tta": tta, "seed": seed, "pose": pose, "metrics": metric, "limit": limit, "batch": batch}
    options |= {"overwrite": overwrite, "page": page, "command": ["mien", *sys.argv[1:]] if len(sys.argv) > 1 else []}
    with counting(f"{model} on {split.name} {split.split}", total(len(split), limit)) as progress:
        try:
            report = run(model, split, out=out, progress=progress, **options, **inference.settings)
        except MissingExtra as error:
            if page and error.extra == "eval":
                raise ConfigError(f"{error}; or skip the page: --no-page", value="page") from error
            raise
    if results:
        write_row(results, report)
    if for_programs(json):
        write_json({"title": report.title, "out": str(out), **short(report)})
    else:
        show(report, table_console())
    for text in (*report.about["dataset"]["flaws"], *report.about["dataset"]["notes"]):
        side.print(f"! {text}", style="yellow")
    side.print(f"{report.about['mapping']['says']}; faces: {report.about['identity']['faces']}", style="dim")
    side.print(f"wrote {out}" + (f"; report: {out / 'report.html'}" if page else ""))


def short(report: Report) -> dict[str, Any]:
    """Return the metrics that fit one line of JSON."""
    keys = ("counts", "official", "answered", "per_class", "abstention", "affect", "unit_f1", "abaw_p", "own")
    found = {key: report.figures[key] for key in keys if key in report.figures}
    if "abstention" in found:
        found["abstention"] = {key: value for key, value in found["abstention"].items() if key != "curve"}
    return found


def show(report: Report, console: Console) -> None:
    """Print the main metrics as a table."""
    figures, counts = report.figures, report.figures["counts"]
    console.print(f"{report.title}, protocol {report.about['dataset']['protocol']}\n", style="bold")
    table = plain_table("", text=("",))
    same = counts["answered"] == counts["official"]
    for name, number in (("all", counts["official"]), ("answered", counts["answered"])):
        if name == "all" or not same:
            table.add_column(f"{name} {number:,}", justify="right")
            table.add_column("95 %", style="dim")
    official, answered = figures.get("official", {}), figures.get("answered", {})
    for key, name, _ in HEADLINE:
        first, second = official.get(key), answered.get(key)
        if same:
            first, second = first or second, None
        if first or second:
            table.add_row(name, *_cells(first), *_cells(second))
    others = {f"CCC of {name}": one["ccc"] for name, one in figures.get("affect", {}).items()}
    others |= {"F1 of action units": figures["unit_f1"]} if "unit_f1" in figures else {}
    others |= {"P (ABAW)": figures["abaw_p"]} if "abaw_p" in figures else {}
    for name, one in (others | figures.get("own", {})).items():
        table.add_row(name, *_cells(one))
    console.print(table)
    if "per_class" in figures:
        console.print()
        classes = plain_table("class", "n", "precision", "recall", "F1", text=("class",))
        for name, row in figures["per_class"].items():
            classes.add_row(name, f"{row['n']:,}", *map(decimal, (row["precision"], row["recall"]["value"], row["f1"])))
        console.print(classes)


def _cells(one: dict[str, Any] | None) -> tuple[str, str]:
    return ("", "") if one is None else (decimal(one["value"]), f"{decimal(one['low'])} … {decimal(one['high'])}")
