"""The report as one self-contained HTML page, without scripts or network access."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from ...cards import ASSETS
from ...errors import MissingExtra
from .metrics import CUTS
from .plots import inline_svg

try:
    import jinja2
except ModuleNotFoundError as error:
    raise MissingExtra("jinja2", "eval") from error

if TYPE_CHECKING:
    from . import Report

TEMPLATES = ASSETS / "templates"

# Key, name and definition of the main metrics, in order.
HEADLINE = (
    ("accuracy", "accuracy", "share of correct predictions"),
    ("uar", "UAR", "mean recall over classes (balanced accuracy)"),
    ("macro_f1", "macro-F1", "mean F1 over classes"),
    ("kappa", "kappa", "Cohen's kappa: agreement beyond chance"),
    ("nll", "NLL", "mean negative log-likelihood"),
    ("brier", "Brier", "squared error of the probabilities, 0 to 2"),
    ("ece", "ECE", "expected calibration error, 15 bins"),
)

FIGURES = {
    "reliability": "Accuracy and number of predictions by confidence",
    "risk_coverage": "Share of errors among the most confident predictions",
    "learning_curves": "Loss and validation metrics over the epochs",
}


def page(report: Report) -> str:
    """Return the whole page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"figure": _figure, "percent": _percent, "plain": _plain}
    figures, about = report.figures, report.about
    return environment.get_template("report.html").render(
        title=report.title,
        figures=figures,
        about=about,
        headline=HEADLINE,
        confusion=_confusion(figures),
        drawings={name: inline_svg(report, name, says) for name, says in FIGURES.items()},
        mistakes=_mistakes(report),
        extra=_extra(report),
        units_of=CUTS,
        command=" ".join(shlex.quote(word) for word in about["command"]),
        facts=_facts,
    )


def _confusion(figures: Mapping[str, Any]) -> dict[str, Any] | None:
    if "confusion" not in figures:
        return None
    counts = np.array(figures["confusion"])
    columns = [*figures["classes"], "no prediction"] if counts[:, -1].any() else figures["classes"]
    total = counts.sum(1)
    rows = [
        {
            "name": name,
            "n": int(total[k]),
            "cells": [
                {"n": int(n), "share": n / total[k] if total[k] else 0.0, "right": column == k}
                for column, n in enumerate(counts[k, : len(columns)].tolist())
            ],
        }
        for k, name in enumerate(figures["classes"])
    ]
    return {"columns": columns, "rows": rows}


def _mistakes(report: Report) -> list[dict[str, str]]:
    table = report.predictions
    row_of = {name: row for row, name in enumerate(table.sample.tolist())}
    found = []
    for each in report.about.get("mistakes", ()):
        path, row = report.folder / each["file"], row_of.get(each["sample"])
        if row is None or not path.is_file():
            continue
        found.append(
            {
                "source": _data(path.read_bytes(), "image/jpeg"),
                "sample": each["sample"],
                "label": str(table.label[row]),
                "predicted": table.classes[table.predicted[row]],
                "confidence": f"{table.confidence[row]:.0%}",
            }
        )
    return found


def _extra(report: Report) -> list[tuple[str, list[dict[str, str]]]]:
    order = {section: place for place, section in enumerate(dict.fromkeys(e.section for e in report.extra))}
    images = sorted(report.extra, key=lambda each: order[each.section])
    return [
        (section, [{"title": e.title, "note": e.note, "source": _data(e.png, "image/png")} for e in group])
        for section, group in groupby(images, key=lambda each: each.section)
    ]


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _facts(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return a nested table as lines of name and text, without empty ones."""
    lines: list[tuple[str, str]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            lines += _facts(value, f"{name}, ")
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            lines.append((name, f"{len(value)} entries"))
        elif value not in (None, "", [], ()):
            lines.append((name, _plain(value)))
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else str(value)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
