"""A comparison as tables: Markdown, a self-contained page, LaTeX (booktabs) and csv."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any

from ...visualization.pages import html_page, html_table, markdown_table, percent

if TYPE_CHECKING:
    from . import Cell, Comparison
    from .statistics import Value

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
    found = []
    for metric in comparison.metrics:
        rows = []
        for model in comparison.models:
            cells = [model]
            for column in comparison.datasets:
                mark = "†" if (model, column) in comparison.unlike else ""
                cells.append(_cell(comparison.cells[model, column], metric) + mark)
            rows.append(cells)
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
    rows = [
        [model, column, comparison.cells[model, column].report.about["mapping"]["says"], _faces(comparison, model, column)]
        for model in comparison.models
        for column in comparison.datasets
    ]
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


def _faces(comparison: Comparison, model: str, column: str) -> str:
    report = comparison.cells[model, column].report
    return "as given to the other package" if report.stored else str(report.about["identity"]["faces"])


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
