"""`mien evaluate`, `verify` and `robustness`: metrics of a model on a dataset, as it is and degraded, and those of its card."""

import dataclasses
import math
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from ..errors import ConfigError, MissingExtra
from ..evaluation import evaluate as run_evaluation
from ..evaluation.compare import slug
from ..evaluation.compare.tables import write_row
from ..evaluation.report import Report
from ..evaluation.report.metrics import HEADLINE
from ..evaluation.robustness import MARGIN
from ..evaluation.robustness import robustness as run_robustness
from ..evaluation.tta import Views
from ..evaluation.verify import verify as run_verification
from ..visualization.pages import decimal
from ..visualization.plotting import figure_bytes, figure_kind, write_figure
from .options import Batch, Head, Inference, Limit, Model, Replace, Split, add_image, check_suffix, pairs, total
from .terminal import Json, counting, for_programs, note, plain_table, print_rows, table_console, write_json


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
    split = data.open(model)
    options: Any = {"output": output, "tta": tta, "seed": seed, "pose": pose, "metrics": metric, "limit": limit, "batch": batch}
    options |= {"overwrite": overwrite, "page": page, "command": ["mien", *sys.argv[1:]] if len(sys.argv) > 1 else []}
    with counting(f"{model} on {split.name} {split.split}", total(len(split), limit)) as progress:
        try:
            report = run_evaluation(model, split, out=out, progress=progress, **options, **inference.settings)
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
        note(f"! {text}", "yellow")
    note(f"{report.about['mapping']['says']}; faces: {report.about['identity']['faces']}", "dim")
    note(f"wrote {out}" + (f"; report: {out / 'report.html'}" if page else ""))


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


def verify(
    model: Model,
    /,
    *,
    data: Split,
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    claim: tuple[str, ...] = (),
    output: str = "auto",
    hypotheses: int = 1000,
    inference: Inference = Inference(),  # noqa: B008 - frozen
    overwrite: Replace = False,
    json: Json = False,
) -> int:
    """Evaluate a model and compare with the metrics that its card claims.

    Also reports whether the data is the published original, and tests alternative preprocessing (channel order, value range,
    resizing, crop). The exit status is 0 if every claim agrees and no alternative is better, otherwise 1.

    Examples:
        mien verify mien-base --dataset fer2013 --root data/fer2013
        mien verify model.toml --dataset rafdb --root data/rafdb --claim accuracy=88.2

    Args:
        out: Folder for the evaluation; default: out/verify/MODEL/DATASET-SPLIT.
        claim: METRIC=VALUE, in percent (88.2, 0.9%) or as a share (0.882), instead of the card's claims; repeatable.
        output: Output (head) of the model; auto takes the one named after the dataset if the card has claims about it.
        hypotheses: Number of images for the preprocessing hypotheses, evenly spread; 0 for none.
    """
    split = data.open(model)
    claims = {name: _share(name, value) for name, value in pairs(claim, "--claim").items()}
    out = out or Path("out/verify", slug(model) or "model", f"{split.name}-{split.split}")
    options: dict[str, Any] = {"images": hypotheses, "output": output, "overwrite": overwrite, **inference.settings}
    with counting(f"{model} on {split.name} {split.split}", len(split)) as progress:
        found = run_verification(model, split, out=out, claims=claims, progress=progress, **options)
    note(f"wrote {out}", "dim")
    if for_programs(json):
        claims = [{**dataclasses.asdict(each), "agrees": each.agrees} for each in found.claims]
        about = {"agrees": found.agrees, "data": found.data, "claims": claims, "tried_on": found.tried_on}
        tried = [dataclasses.asdict(each) for each in found.hypotheses]
        write_json({**about, "hypotheses": tried, "says": [each.says for each in found.hypotheses if each.better]})
        return int(not found.agrees)
    console = table_console()
    console.print(found.data)
    for one in found.claims:
        console.print(one.says, style="" if one.agrees else "bold red")
    if found.hypotheses:
        console.print(f"\nPreprocessing hypotheses on {found.tried_on:,} images:", style="bold")
        before = found.hypotheses[0].before
        rows = [
            (each.name, f"{100 * each.after:.1f}", f"{100 * (each.after - before):+.1f}", f"{each.p:.2g}")
            for each in found.hypotheses
        ]
        rows.insert(0, ("as on the card", f"{100 * before:.1f}", "", ""))
        print_rows(("preprocessing", "accuracy", "difference", "p (Holm)"), rows, text=("preprocessing",))
        for each in found.hypotheses:
            if each.better:
                console.print(each.says, style="bold red")
    return int(not found.agrees)


def _share(name: str, text: str) -> float:
    """Return a claim as a share: "88.2%", "88.2" and "0.882" are equal; values up to 1 are shares unless they end in "%"."""
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"--claim: expected METRIC=NUMBER, got {name}={text}", value=text, expected="a number")
    return value / 100 if percent or value > 1 else value


def robustness(
    model: Model,
    /,
    *,
    data: Split,
    output: Head = "auto",
    limit: Limit = 0,
    seed: int = 0,
    inference: Inference = Inference(),  # noqa: B008 - frozen
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    plot_to: Annotated[Path | None, Parameter(name="--plot")] = None,
    report: Path | None = None,
    json: Json = False,
) -> None:
    """Measure the cost of blur, JPEG, poor light, occlusion, rotation and other crops, each at a stated strength.

    The same faces are classified with and without each degradation. Reported are the accuracy, its change in points with a
    95 % interval, the share of unchanged predictions, and the mean shift of the probabilities (total variation, 0 … 1).

    Examples:
        mien robustness mien-base --dataset fer2013 --root data/fer2013
        mien robustness runs/fer2013-dan-small/1 --dataset fer2013 --root data/fer2013 --limit 500 --plot dan.png
        mien robustness mien-nano --dataset london --root data/london --out london.csv --report out/london

    Args:
        seed: Seed of the noise, the occluded place and the side of the light.
        out: Output file of the table (.csv).
        plot_to: Output file of the plot: .png, .svg or .pdf.
        report: Folder of an evaluation; the plot is added to its report.
    """
    check_suffix(out, "--out", (".csv",))
    if plot_to is not None:
        figure_kind(plot_to)
    evaluated = Report.read(report) if report else None
    split = data.open(model)
    with counting(f"{model} on {split.name} {split.split}", total(len(split), limit)) as progress:
        found = run_robustness(model, split, output=output, limit=limit, seed=seed, **inference.settings, progress=progress)
    if out:
        found.save(out)
        note(f"wrote {out}", "dim")
    if plot_to:
        note(f"wrote {write_figure(found.figure(), plot_to)}", "dim")
    if evaluated:
        caption = f"Gray: changes of up to {100 * MARGIN:.0f} points. Intervals are 95 %, paired; seed {seed}."
        add_image(evaluated, "Degraded faces", f"{found.model} on {found.data}", figure_bytes(found.figure(), "png"), caption)
    if for_programs(json):
        write_json(dataclasses.asdict(found))
        return
    console = table_console()
    console.print(f"{found.model} on {found.data}: {100 * found.accuracy:.1f} % of {found.faces:,} faces\n", style="bold")
    text = ("degradation", "strength")
    table = plain_table(*text, "accuracy", "change", "95 %", "unchanged", "shift", text=text)
    for row in found.rows:
        change, low, high = (f"{100 * value:+.1f}" for value in (row.change, row.low, row.high))
        cells = (f"{100 * row.accuracy:.1f}", change, f"{low} … {high}", f"{row.same:.0%}", f"{row.moved:.3f}")
        table.add_row(row.name, row.strength, *cells, style="bold red" if row.change < -MARGIN else "")
    console.print(table)
    if found.tight_to_loose is not None:
        console.print(f"\nMean shift of the probabilities from a tight to a loose crop: {found.tight_to_loose:.3f}")
    if found.tight_to_loose_photograph is not None:
        moved = found.tight_to_loose_photograph
        console.print(f"The same from a tight to a loose photograph, with the face detected in each: {moved:.3f}")
