"""A comparison as tables: Markdown, a self-contained page, LaTeX (booktabs) and csv; the rows of `results/*.csv`."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, DatasetError
from ...io.files import csv_text, locked, write_file
from ...visualization.pages import html_page, html_table, markdown_table, percent
from ..report import Report
from ..tta import TEN_CROP, views

if TYPE_CHECKING:
    from . import Cell, Comparison, Value

TITLES = {
    "accuracy": "Accuracy", "uar": "UAR", "macro_f1": "Macro-F1", "kappa": "Kappa",
    "ccc_valence": "CCC valence", "ccc_arousal": "CCC arousal", "ccc": "CCC", "unit_f1": "AU F1", "p": "P",
}  # fmt: skip
COMPARED = ["data", "metric", "difference", "95 %", "p (Holm)", "test"]
NOTES = (
    "Intervals: 95 % bootstrap over images, or over persons (videos) where they are known, and over seeds. Stars: different "
    "from the first row on the common images (McNemar's exact test or the paired bootstrap, Holm's correction over the table): "
    "* p < .05, ** p < .01, *** p < .001. Images without a prediction count as wrong. † whole images instead of detected faces."
)


def title_of(metric: str) -> str:
    """Return a metric's name in headings."""
    return TITLES.get(metric, metric)


def tables(comparison: Comparison) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, header and rows of each table."""
    found, cells, columns = [], comparison.cells, comparison.datasets
    for metric in comparison.metrics:
        rows = [
            [model, *(_cell(cells[model, column], metric) + "†" * ((model, column) in comparison.unlike) for column in columns)]
            for model in comparison.models
        ]
        found.append((title_of(metric), ["model", *comparison.datasets], rows))
    if rows := _difference_rows(comparison, comparison.models, comparison.cells):
        found.append(("Differences", ["models", *COMPARED], rows))
    if comparison.recipes:
        rows = []
        for (recipe, column), cell in comparison.recipes.items():
            for metric, one in cell.values.items():
                spread = percent(one.deviation)
                rows.append([recipe, column, title_of(metric), _cell(cell, metric), spread, str(one.seeds), str(one.folds)])
        found.append(("Recipes", ["recipe", "data", "metric", "mean (95 %)", "sd over seeds", "seeds", "folds"], rows))
        if rows := _difference_rows(comparison, tuple(comparison.members), comparison.recipes):
            found.append(("Recipe against recipe", ["recipes", *COMPARED], rows))
    rows = [[model, *_costs(comparison, model)] for model in comparison.models]
    found.append(("Cost", ["model", "parameters", "GMAC", "images/s", "memory, MB"], rows))
    rows = []
    for (model, column), cell in cells.items():
        about, stored = cell.report.about, "as given to the other package"
        rows.append([model, column, about["mapping"]["says"], stored if cell.report.stored else about["identity"]["faces"]])
    found.append(("Class mapping", ["model", "data", "classes", "faces"], rows))
    rows = [[model, comparison.trained_on(model) or "not stated"] for model in comparison.models]
    found.append(("Training data", ["model", "trained on"], rows))
    return found


def markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown."""
    parts = ["# Comparison", *(f"**Warning.** {text}." for text in comparison.warnings), NOTES]
    for title, header, rows in tables(comparison):
        parts += [f"## {title}", markdown_table(header, rows)]
    return "\n\n".join([*parts, *_flaws(comparison)]) + "\n"


def html(comparison: Comparison) -> str:
    """Return the comparison as a page."""
    parts = ["<h1>Comparison</h1>", *(f"<p><strong>Warning.</strong> {escape(text)}.</p>" for text in comparison.warnings)]
    parts.append(f"<p>{escape(NOTES)}</p>")
    for title, header, rows in tables(comparison):
        parts.append(f"<h2>{escape(title)}</h2>{html_table(header, rows)}")
    return html_page("Comparison", [*parts, *(f"<p>{escape(text)}</p>" for text in _flaws(comparison))])


def latex(comparison: Comparison) -> str:
    """Return a LaTeX table for a paper (package booktabs): recipes, or models without them, by dataset and metric.

    The best value of each column is bold; smaller numbers are the 95 % interval, or the standard deviation over seeds.
    """
    cells = comparison.recipes or comparison.cells
    names = tuple(comparison.members) if comparison.recipes else comparison.models
    columns = [(column, metric) for column in comparison.datasets for metric in comparison.metrics]
    values = {(column, metric): [cells[name, column].values.get(metric) for name in names] for column, metric in columns}
    best = {key: max((one.value for one in found if one is not None), default=None) for key, found in values.items()}
    lines = [f"% {text}" for text in (*comparison.warnings, "needs \\usepackage{booktabs}; " + NOTES)]
    lines += [f"\\begin{{tabular}}{{l{'c' * len(columns)}}}", "\\toprule"]
    spans = [f"\\multicolumn{{{len(comparison.metrics)}}}{{c}}{{{_tex(column)}}}" for column in comparison.datasets]
    lines.append(" & ".join(["", *spans]) + r" \\")
    width = len(comparison.metrics)
    lines.append("".join(f"\\cmidrule(lr){{{2 + k * width}-{1 + (k + 1) * width}}}" for k in range(len(comparison.datasets))))
    lines.append(" & ".join(["", *(_tex(title_of(metric)) for _, metric in columns)]) + r" \\")
    lines.append("\\midrule")
    for name in names:
        texts = [_tex(name)]
        for column, metric in columns:
            cell = cells[name, column]
            one = cell.values.get(metric)
            if one is None:
                texts.append("--")
                continue
            number = percent(one.value)
            number = f"\\textbf{{{number}}}" if one.value == best[column, metric] else number
            stars = f"$^{{{stars}}}$" if (stars := _stars(cell, metric)) else ""
            spread = f"$\\pm${percent(one.deviation)}" if one.deviation is not None else _between(one)
            dagger = "$^\\dagger$" if (name, column) in comparison.unlike else ""
            texts.append(f"{number}{stars}{dagger} {{\\scriptsize {spread}}}")
        lines.append(" & ".join(texts) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


RECIPE_COLUMNS = (
    "name", "dataset", "metric", "value", "low", "high", "deviation", "seeds", "folds", "difference", "difference_low",
    "difference_high", "p", "test",
)  # fmt: skip


def recipe_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return one row, with `RECIPE_COLUMNS`, for each recipe (or model), dataset and metric."""
    found = []
    for (name, column), cell in (comparison.recipes or comparison.cells).items():
        for metric, one in cell.values.items():
            row = {"name": name, "dataset": column, "metric": metric, **asdict(one)}
            if (test := cell.differences.get(metric)) is not None:
                row |= {"difference": test.value, "difference_low": test.low, "difference_high": test.high}
                row |= {"p": test.p, "test": test.test}
            found.append(row)
    return found


def _difference_rows(comparison: Comparison, names: tuple[str, ...], cells: Mapping[tuple[str, str], Cell]) -> list[list[str]]:
    rows = []
    for column in comparison.datasets:
        for name in names[1:]:
            for metric, one in cells[name, column].differences.items():
                between = f"{_signed(one.low)} … {_signed(one.high)}"
                p = "" if one.p is None else f"{one.p:.2g}"
                rows.append([f"{name} − {names[0]}", column, title_of(metric), _signed(one.value), between, p, one.test])
    return rows


def _flaws(comparison: Comparison) -> list[str]:
    found: dict[str, None] = {}
    for (model, column), cell in comparison.cells.items():
        data = cell.report.about["dataset"]
        own = [f"{column}: {text}." for text in data["flaws"]] + [f"{model} on {column}: {text}." for text in data["notes"]]
        found |= dict.fromkeys(own)
    return list(found)


def _costs(comparison: Comparison, model: str) -> list[str]:
    cost = comparison.costs(model)
    units = {"parameters": (1, 0), "macs": (1e9, 2), "images_per_second": (1, 0), "memory_mb": (1, 0)}
    return ["–" if (value := cost[name]) is None else f"{value / unit:,.{digits}f}" for name, (unit, digits) in units.items()]


def _cell(cell: Cell, metric: str) -> str:
    one = cell.values.get(metric)
    return "–" if one is None else f"{percent(one.value)}{_stars(cell, metric)} {_between(one)}"


def _stars(cell: Cell, metric: str) -> str:
    return cell.differences[metric].stars if metric in cell.differences else ""


def _between(one: Value) -> str:
    return f"({percent(one.low)} … {percent(one.high)})"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f}"


def _tex(text: str) -> str:
    """Return text with LaTeX's special characters escaped."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text).replace("…", "--")


KEY = ("model", "version", "output", "dataset", "split", "protocol", "faces", "views")  # columns that identify a row
ORDER = ("dataset", "split", "protocol", "model", "version", "output", "faces", "views")  # columns by which rows are sorted

FIGURES = ("accuracy", "uar", "macro_f1", "kappa", "nll", "brier", "ece")
"""Metrics with an interval: columns NAME, NAME_low, NAME_high. The first four count images without a prediction as wrong, the
others exclude them."""

# Column → its place in the metrics of a report.
OTHERS: Mapping[str, tuple[str, ...]] = {
    "answered_accuracy": ("answered", "accuracy", "value"),
    "coverage": ("abstention", "coverage", "value"),
    "accuracy_when_certain": ("abstention", "accuracy_when_certain", "value"),
    "aurc": ("abstention", "aurc"),
    "ccc_valence": ("affect", "valence", "ccc", "value"),
    "ccc_arousal": ("affect", "arousal", "ccc", "value"),
    "au_f1": ("unit_f1", "value"),
    "abaw_p": ("abaw_p", "value"),
}
COSTS = ("parameters", "macs", "images_per_second", "memory_mb")
# Reference model, difference in accuracy on the common images, and p value after Holm's correction.
AGAINST = ("against", "difference", "difference_low", "difference_high", "p")

COLUMNS = (
    *KEY, "sha256", "digest", "n", "n_answered",
    *(column for name in FIGURES for column in (name, f"{name}_low", f"{name}_high")),
    *OTHERS, *COSTS, *AGAINST, "date", "commit",
)  # fmt: skip


def row_of(report: Report) -> dict[str, str]:
    """Return the row of an evaluation; raises ConfigError if it covers only a part of the split."""
    about, figures = report.about, report.figures
    if limit := about["identity"]["limit"]:
        message = "an evaluation of a subset (--limit) cannot be a row of the results"
        raise ConfigError(f"{message}; evaluate all images, or omit --results", value=limit)
    model, data = about["model"], about["dataset"]
    row: dict[str, Any] = {
        "model": model["name"],
        **{key: model.get(key) for key in ("version", "output")},
        "dataset": data["name"],
        **{key: data[key] for key in ("split", "protocol")},
        "faces": about["identity"]["faces"],
        "views": TEN_CROP if about["identity"]["views"] == list(map(str, views(TEN_CROP))) else len(about["identity"]["views"]),
        "sha256": (model.get("sha256") or "")[:12],
        "digest": data["digest"][:12],
        "n": figures["counts"]["official"],
        "n_answered": figures["counts"]["answered"],
        **{key: about["environment"][key] for key in ("date", "commit")},
    }
    for name in FIGURES:
        one = figures.get("official", {}).get(name) or figures.get("answered", {}).get(name) or {}
        row |= {name: one.get("value"), f"{name}_low": one.get("low"), f"{name}_high": one.get("high")}
    for name, keys in OTHERS.items():
        value: Any = figures
        for key in keys:
            value = value.get(key, {})
        row[name] = None if value == {} else value
    return {name: _text(value) for name, value in (dict.fromkeys(COLUMNS) | row | costs(report)).items()}


def costs(report: Report) -> dict[str, float | None]:
    """Return parameters, MACs of a face, images per second of the network, and memory in MB, as far as they are known."""
    model, speed = report.about["model"], report.about.get("speed", {})
    seconds, rows = speed.get("model_seconds"), speed.get("rows")
    ours = "card" in model  # A stored table can only state its own costs.
    rate = rows / seconds if ours and seconds and rows else model.get("speed")
    return {
        "parameters": model.get("parameters"),
        "macs": model.get("macs"),
        "images_per_second": None if rate is None else round(rate, 1),
        "memory_mb": speed.get("memory_mb") if ours else model.get("memory_mb"),
    }


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Return the rows of a results file, none if it does not exist; raises DatasetError for another table."""
    path = Path(path)
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in KEY if name not in (reader.fieldnames or ())]:
            message = f"{path}: missing columns {', '.join(missing)} of a results table; name another file"
            raise DatasetError(message, path=path, value=missing, expected=KEY)
        return [dict(row) for row in reader]


def write_row(path: str | Path, report: Report, **more: Any) -> None:
    """Write the row of an evaluation to a results file, replacing an older row of the same key."""
    write_rows(path, [row_of(report) | {name: _text(value) for name, value in more.items()}])


def write_rows(path: str | Path, rows: list[dict[str, str]]) -> None:
    """Write rows to a results file, sorted by key; older rows of the same keys are replaced."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, wait=True):  # Another process may add rows meanwhile.
        table = {tuple(row.get(name, "") for name in KEY): row for row in [*read_rows(path), *rows]}
        ordered = sorted(table.values(), key=lambda row: tuple(row.get(name, "") for name in ORDER))
        write_table(path, ordered, COLUMNS)


def write_table(path: str | Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write columns of rows as csv, atomically; missing cells are empty."""
    write_file(path, csv_text([columns, *([_text(row.get(name)) for name in columns] for row in rows)]))


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return "" if value is None else str(value)
    if value.is_integer() and abs(value) >= 2:
        return f"{value:.0f}"
    return f"{value:.4g}" if abs(value) >= 1000 else f"{value:.4f}"
