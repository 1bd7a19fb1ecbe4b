"""`mien robustness`: accuracy of a model on degraded faces."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..evaluation.report import Report
from ..evaluation.robustness import MARGIN
from ..evaluation.robustness import robustness as run
from ..visualization.plotting import figure_bytes, figure_kind, write_figure
from .options import Head, Inference, Limit, Model, Split, add_image, check_suffix, total
from .terminal import Json, counting, for_programs, plain_table, side_console, table_console, write_json

SECTION = "Degraded faces"  # heading in a report


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
    split, side = data.open(model), side_console()
    with counting(f"{model} on {split.name} {split.split}", total(len(split), limit)) as progress:
        found = run(model, split, output=output, limit=limit, seed=seed, **inference.settings, progress=progress)
    if out:
        side.print(f"wrote {found.save(out)}", style="dim")
    if plot_to:
        side.print(f"wrote {write_figure(found.figure(), plot_to)}", style="dim")
    if evaluated:
        note = f"Gray: changes of up to {100 * MARGIN:.0f} points. Intervals are 95 %, paired; seed {seed}."
        add_image(evaluated, SECTION, f"{found.model} on {found.data}", figure_bytes(found.figure(), "png"), note)
    if for_programs(json):
        write_json(found.to_dict())
        return
    console = table_console()
    console.print(f"{found.model} on {found.data}: {100 * found.accuracy:.1f} % of {found.faces:,} faces\n", style="bold")
    text = ("degradation", "strength")
    table = plain_table(*text, "accuracy", "change", "95 %", "unchanged", "shift", text=text)
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
        console.print(f"\nMean shift of the probabilities from a tight to a loose crop: {found.tight_to_loose:.3f}")
    if found.tight_to_loose_photograph is not None:
        moved = found.tight_to_loose_photograph
        console.print(f"The same from a tight to a loose photograph, with the face detected in each: {moved:.3f}")
