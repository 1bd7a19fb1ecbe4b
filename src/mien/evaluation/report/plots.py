"""The figures of a report, for its page and, as PNG, SVG and PDF, for papers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...io.files import write_file
from ...visualization.plotting import BLUE, COLORS, FORMATS, ORANGE, RED, Figure, figure_bytes, new_figure, styled

if TYPE_CHECKING:
    from . import Report

FOLDER = "figures"


def confusion(report: Report) -> Figure:
    """The confusion matrix: shares of each true class, with counts."""
    return confusion_matrix(report.figures["classes"], np.array(report.figures["confusion"]))


def confusion_matrix(classes: Sequence[str], counts: np.ndarray) -> Figure:
    """Return the plot of a confusion matrix, (K, K + 1) counts with a last column for no prediction."""
    columns, counts = shown_columns(classes, counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 1.6 + 0.55 * len(classes)
    figure, axes = new_figure(side + 0.55 * (len(columns) - len(classes)), side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(*counts.shape):
        color = "white" if shares[row, column] > 0.55 else "#222222"
        axes.text(column, row - 0.12, f"{shares[row, column]:.0%}", ha="center", va="center", color=color, fontsize=8)
        axes.text(column, row + 0.24, f"{counts[row, column]:,}", ha="center", va="center", color=color, fontsize=6)
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def shown_columns(classes: Sequence[str], counts: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Return the columns of a confusion matrix (K, K + 1) and their counts; "no prediction" is left out if there is none."""
    columns = [*classes, "no prediction"] if counts[:, -1].any() else list(classes)
    return columns, counts[:, : len(columns)]


def per_class(report: Report) -> Figure:
    """Recall with its interval, precision and F1 of each class."""
    rows = report.figures["per_class"]
    figure, axes = new_figure(6.4, 0.9 + 0.42 * len(rows))
    place = np.arange(len(rows))[::-1]
    recall = [[_number(row["recall"][key]) for key in ("value", "low", "high")] for row in rows.values()]
    value, low, high = np.array(recall).T
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
    """Reliability diagram, and the number of predictions in each bin of confidence."""
    bins = [row for row in report.figures["reliability"] if row["n"]]
    figure, (upper, lower) = new_figure(4.2, 4.2, 2, 1, sharex=True, height_ratios=(3, 1))
    confidence, accuracy = [row["confidence"] for row in bins], [row["accuracy"] for row in bins]
    sizes = [row["n"] for row in bins]
    centers, width = [(row["low"] + row["high"]) / 2 for row in bins], 0.9 / len(report.figures["reliability"])
    upper.bar(centers, accuracy, width, color=BLUE, alpha=0.85, label="accuracy")
    upper.plot([0, 1], [0, 1], "--", color="#000000", linewidth=1, alpha=0.6, label="perfect calibration")
    upper.plot(confidence, accuracy, "o", color=RED, markersize=4, label="mean confidence")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), handlelength=1.5)
    lower.bar(centers, sizes, width, color=ORANGE)
    lower.set(xlabel="confidence", ylabel="predictions")
    for axes in (upper, lower):
        axes.grid(axis="y", alpha=0.25)
    return figure


def risk_coverage(report: Report) -> Figure:
    """Risk-coverage curve: share of errors among the most confident predictions."""
    abstention = report.figures["abstention"]
    curve = abstention["curve"]
    figure, axes = new_figure(4.6, 3.4)
    axes.plot(curve["coverage"], curve["risk"], color=BLUE, linewidth=1.8, label=f"AURC {_number(abstention['aurc']):.3f}")
    coverage, certain = abstention["coverage"]["value"], abstention["accuracy_when_certain"]["value"]
    threshold = report.about["model"].get("threshold", 0)
    if threshold and certain is not None:
        label = f"threshold {threshold:.2f}: coverage {coverage:.0%}, accuracy {certain:.1%}"
        axes.plot([coverage], [1 - certain], "o", color=RED, markersize=7, label=label)
    axes.set(xlim=(0, 1), xlabel="coverage, most confident first", ylabel="risk (share of errors)")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), handlelength=1.5)
    return figure


# Last words of the metrics that learning curves show.
VALIDATED = ("accuracy", "uar", "macro_f1", "fer2013", "ferplus", "ccc_valence", "ccc_arousal", "au_f1")


def learning_curves(report: Report) -> Figure:
    """Losses and validation metrics over the epochs of the run."""
    run = report.about["run"]
    return curves({run["name"]: run["rows"]})


def curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Return learning curves of runs (rows of `metrics.jsonl`): losses on the left, accuracies and other metrics on the right.

    One run shows all its losses and metrics; several are distinguished by color, and show the total loss and the first metric,
    training as dashed and validation as solid lines.
    """
    figure, (left, right) = new_figure(7.2, 2.8, 1, 2)
    single = len(runs) == 1
    for number, (name, rows) in enumerate(runs.items()):
        if not rows:
            continue
        short = name if len(name) <= 32 else "…" + name[-31:]
        keys = list(dict.fromkeys(key for row in rows for key in row))
        losses = [key for key in keys if key == "loss" or key.startswith("loss ") or key.endswith(("validation_loss", "nll"))]
        metrics = [key for key in keys if key.rpartition(".")[2] in VALIDATED or key.endswith("train_accuracy")]
        if not single:
            losses = [key for key in losses if key == "loss" or key.endswith(("validation_loss", "nll"))][:2]
            metrics = [*[key for key in metrics if key.endswith("train_accuracy")], *metrics[:1]]
        epochs = [row.get("epoch", place) for place, row in enumerate(rows, 1)]
        look: dict[str, Any] = {"marker": "." if len(rows) < 60 else "", "linewidth": 1.4}
        for axes, shown in ((left, losses[: len(COLORS)]), (right, metrics[: len(COLORS)])):
            for place, key in enumerate(shown):
                training = key == "loss" or key.startswith("loss ") or key.endswith("train_accuracy")
                style, color = "--" if training and not single else "-", COLORS[(place if single else number) % len(COLORS)]
                label = key.removeprefix("loss ") if single else short if key == shown[-1] else None
                axes.plot(epochs, [_number(row.get(key)) for row in rows], style, color=color, label=label, **look)
    for axes, title, place in ((left, "loss", "upper right"), (right, "accuracy and other metrics", "lower right")):
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.25)
        if axes.lines:
            axes.legend(loc=place)  # The best place takes seconds to find.
    return figure


def groups(report: Report) -> Figure:
    """Accuracy of each value of the group columns, with intervals."""
    rows = [
        (f"{value}  ({row['n']:,})", name, row["accuracy"])
        for name, group in report.figures["groups"].items()
        for value, row in group["values"].items()
    ]
    figure, axes = new_figure(6.4, 0.9 + 0.34 * len(rows))
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


# Name → function that draws it, and whether the report has the data.
DRAWN: Mapping[str, tuple[Callable[[Report], Figure], Callable[[Report], bool]]] = {
    "confusion": (confusion, lambda report: "confusion" in report.figures),
    "per_class": (per_class, lambda report: "per_class" in report.figures),
    "reliability": (reliability, lambda report: any(row["n"] for row in report.figures.get("reliability", ()))),
    "risk_coverage": (risk_coverage, lambda report: bool(report.figures.get("abstention", {}).get("curve", {}).get("risk"))),
    "groups": (groups, lambda report: any(group["values"] for group in report.figures.get("groups", {}).values())),
    "learning_curves": (learning_curves, lambda report: bool((report.about.get("run") or {}).get("rows"))),
}


def draw(report: Report, name: str) -> Figure | None:
    """Return one figure, or None if the report lacks the data."""
    function, available = DRAWN[name]
    if not available(report):
        return None
    with styled():
        return function(report)


def write_figures(report: Report) -> None:
    """Write every figure as PNG, SVG and PDF into `figures/`."""
    folder = report.folder / FOLDER
    for name in DRAWN:
        figure = draw(report, name)
        for form in FORMATS:
            path = folder / f"{name}.{form}"
            if figure is None:
                path.unlink(missing_ok=True)
                continue
            write_file(path, figure_bytes(figure, form))


def inline_svg(report: Report, name: str, says: str) -> str:
    """Return a figure as SVG for the page, with real text in its color; `says` is the description for screen readers."""
    figure = draw(report, name)
    if figure is None:
        return ""
    text = figure_bytes(figure, "svg", **{"svg.fonttype": "none", "savefig.transparent": True}).decode()
    text = text[text.index("<svg") :]
    for side in ("height", "width"):
        text = re.sub(rf'(<svg[^>]*?) {side}="[^"]*"', r"\1", text, count=1)
    text = text.replace("#000000", "currentColor").replace("#262626", "currentColor")
    text = re.sub(r'(<text style=")(?![^"]*fill)', r"\1fill: currentColor; ", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Identifiers are shared by all images of a page, so they get the name of the figure.
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    width = f"max-width:{figure.get_figwidth() * 1.25:.0f}in"
    return text.replace("<svg", f'<svg role="img" aria-label="{says}" style="{width}"', 1)


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
