"""The figures of a report in one style, for the page and, as PNG, SVG and PDF, for papers.

Colors are Okabe and Ito's, which color-blind readers tell apart. Files are the same to the byte for the same predictions.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import MissingExtra
from ...io.files import atomic_write

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise MissingExtra("matplotlib", "eval") from error

if TYPE_CHECKING:
    from . import Report

BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
COLORS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)
FOLDER = "figures"
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "png": {"dpi": 200, "metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "pdf.fonttype": 42,
    "svg.hashsalt": "mien",
    "path.simplify": True,
}


def confusion(report: Report) -> Figure:
    """The confusion matrix: shares of each true class, with counts."""
    figures = report.figures
    classes, counts = figures["classes"], np.array(figures["confusion"])
    answers = [*classes, "no answer"] if counts[:, -1].any() else list(classes)
    counts = counts[:, : len(answers)]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 1.6 + 0.55 * len(classes)
    figure, axes = _figure(side + 0.55 * (len(answers) - len(classes)), side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(*counts.shape):
        color = "white" if shares[row, column] > 0.55 else "#222222"
        axes.text(column, row - 0.12, f"{shares[row, column]:.0%}", ha="center", va="center", color=color, fontsize=8)
        axes.text(column, row + 0.24, f"{counts[row, column]:,}", ha="center", va="center", color=color, fontsize=6)
    axes.set_xticks(range(len(answers)), answers, rotation=40, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="answered", ylabel="true")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def per_class(report: Report) -> Figure:
    """Recall with its interval, precision and F1 of each class."""
    rows = report.figures["per_class"]
    figure, axes = _figure(6.4, 0.9 + 0.42 * len(rows))
    place = np.arange(len(rows))[::-1]
    recall = [
        [row["recall"][key] if row["recall"][key] is not None else np.nan for key in ("value", "low", "high")]
        for row in rows.values()
    ]
    value, low, high = np.array(recall, float).T
    axes.barh(place, np.nan_to_num(value), 0.62, color=BLUE, alpha=0.85, label="recall, 95 %")
    axes.hlines(place, low, high, color="#000000", linewidth=1)
    axes.plot([_number(row["precision"]) for row in rows.values()], place, "o", color=RED, markersize=5, label="precision")
    axes.plot([_number(row["f1"]) for row in rows.values()], place, "D", color=ORANGE, markersize=4, label="F1")
    axes.set_yticks(place, [f"{name}  ({row['n']:,})" for name, row in rows.items()])
    axes.set_xlim(0, 1)
    axes.grid(axis="x", alpha=0.25)
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def reliability(report: Report) -> Figure:
    """Confidence against accuracy, and how many answers each confidence has."""
    bins = [row for row in report.figures["reliability"] if row["n"]]
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    confidence, accuracy = [row["confidence"] for row in bins], [row["accuracy"] for row in bins]
    sizes = [row["n"] for row in bins]
    centers, width = [(row["low"] + row["high"]) / 2 for row in bins], 0.9 / len(report.figures["reliability"])
    upper.bar(centers, accuracy, width, color=BLUE, alpha=0.85, label="accuracy")
    upper.plot([0, 1], [0, 1], "--", color="#000000", linewidth=1, alpha=0.6, label="as confident as right")
    upper.plot(confidence, accuracy, "o", color=RED, markersize=4, label="mean confidence")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), handlelength=1.5)
    lower.bar(centers, sizes, width, color=ORANGE)
    lower.set(xlabel="confidence", ylabel="answers")
    for axes in (upper, lower):
        axes.grid(axis="y", alpha=0.25)
    return figure


def risk_coverage(report: Report) -> Figure:
    """Share of errors among the surest answers."""
    abstention = report.figures["abstention"]
    curve = abstention["curve"]
    figure, axes = _figure(4.6, 3.4)
    axes.plot(curve["coverage"], curve["risk"], color=BLUE, linewidth=1.8, label=f"AURC {_number(abstention['aurc']):.3f}")
    coverage, certain = abstention["coverage"]["value"], abstention["accuracy_when_certain"]["value"]
    threshold = report.about["model"].get("threshold", 0)
    if threshold and certain is not None:
        label = f"threshold {threshold:.2f}: {coverage:.0%} answered, {certain:.1%} right"
        axes.plot([coverage], [1 - certain], "o", color=RED, markersize=7, label=label)
    axes.set(xlim=(0, 1), xlabel="share of images answered, the surest first", ylabel="share of errors")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), handlelength=1.5)
    return figure


def learning_curves(report: Report) -> Figure:
    """Losses and validation figures over the epochs of the run."""
    rows = report.about["run"]["rows"]
    epochs = [row.get("epoch", number) for number, row in enumerate(rows, 1)]
    losses = [key for key in rows[0] if key == "loss" or key.startswith("loss ")]
    wanted = ("accuracy", "uar", "macro_f1", "fer2013", "ferplus", "ccc_valence", "ccc_arousal", "au_f1")
    shown = [key for key in rows[0] if key.rpartition(".")[2] in wanted][: len(COLORS)]
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, keys, title in ((left, losses, "training loss"), (right, shown, "validation")):
        for color, key in zip(COLORS, keys, strict=False):
            values = [_number(row.get(key)) for row in rows]
            axes.plot(
                epochs,
                values,
                color=color,
                marker="." if len(rows) < 60 else "",
                linewidth=1.4,
                label=key.removeprefix("loss "),
            )
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.25)
        if keys:
            axes.legend()
    return figure


def groups(report: Report) -> Figure:
    """Accuracy of every value of the group columns, with intervals."""
    rows = [
        (f"{value}  ({row['n']:,})", name, row["accuracy"])
        for name, group in report.figures["groups"].items()
        for value, row in group["values"].items()
    ]
    figure, axes = _figure(6.4, 0.9 + 0.34 * len(rows))
    names = list(dict.fromkeys(name for _, name, _ in rows))
    for place, (_, name, figure_of) in enumerate(rows):
        color = COLORS[names.index(name) % len(COLORS)]
        axes.hlines(-place, _number(figure_of["low"]), _number(figure_of["high"]), color=color, linewidth=2.5, alpha=0.6)
        first = place == [row[1] for row in rows].index(name)
        axes.plot([_number(figure_of["value"])], [-place], "o", color=color, markersize=6, label=name if first else None)
    overall = report.figures["official"]["accuracy"]["value"]
    axes.axvline(overall, color="#000000", linewidth=1, linestyle="--", alpha=0.6)
    axes.set_yticks([-place for place in range(len(rows))], [label for label, _, _ in rows])
    axes.set(xlabel="accuracy, 95 % interval; dashed: all images")
    axes.grid(axis="x", alpha=0.25)
    axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


DRAWN: Mapping[str, tuple[Callable[[Report], Figure], Callable[[Report], bool]]] = {
    "confusion": (confusion, lambda report: "confusion" in report.figures),
    "per_class": (per_class, lambda report: "per_class" in report.figures),
    "reliability": (reliability, lambda report: any(row["n"] for row in report.figures.get("reliability", ()))),
    "risk_coverage": (risk_coverage, lambda report: bool(report.figures.get("abstention", {}).get("curve", {}).get("risk"))),
    "groups": (groups, lambda report: any(group["values"] for group in report.figures.get("groups", {}).values())),
    "learning_curves": (learning_curves, lambda report: bool((report.about.get("run") or {}).get("rows"))),
}
"""Name → what draws it, and whether the report has it."""


def draw(report: Report, name: str) -> Figure | None:
    """Return one figure, or None where the report has nothing to show in it."""
    function, there = DRAWN[name]
    if not there(report):
        return None
    with matplotlib.rc_context(STYLE):
        return function(report)


def write_figures(report: Report) -> None:
    """Write every figure as PNG, SVG and PDF into `figures/`."""
    folder = report.folder / FOLDER
    for name in DRAWN:
        figure = draw(report, name)
        for form, options in FORMATS.items():
            path = folder / f"{name}.{form}"
            if figure is None:
                path.unlink(missing_ok=True)
                continue
            with atomic_write(path) as part:
                part.write_bytes(_bytes(figure, form, options))


def inline_svg(report: Report, name: str, says: str) -> str:
    """Return a figure as SVG for the page: its text is text, black follows the page's color, and it grows with the page.

    Args:
        report: the report.
        name: entry of `DRAWN`.
        says: what it shows, for those who do not see it.
    """
    figure = draw(report, name)
    if figure is None:
        return ""
    text = _bytes(figure, "svg", FORMATS["svg"], {"svg.fonttype": "none", "savefig.transparent": True}).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1)
    text = text.replace("#000000", "currentColor").replace("#262626", "currentColor")
    text = re.sub(r'(<text style=")(?![^"]*fill)', r"\1fill: currentColor; ", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # identifiers are shared by all images of the page
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    return text.replace(
        "<svg", f'<svg role="img" aria-label="{says}" style="max-width:{figure.get_figwidth() * 1.25:.0f}in"', 1
    )


def _bytes(figure: Figure, form: str, options: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> bytes:
    file = io.BytesIO()
    with matplotlib.rc_context({**STYLE, **(more or {})}):
        FigureCanvasAgg(figure)
        figure.savefig(file, format=form, **options)
    return file.getvalue()


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
