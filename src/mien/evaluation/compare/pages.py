"""A comparison as Markdown, and as a page that needs nothing else."""

from __future__ import annotations

import html as escape
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import Comparison

FIGURES = (("accuracy", "Accuracy"), ("uar", "UAR"), ("macro_f1", "Macro-F1"))

STYLE = """
:root{--ink:#1c2024;--soft:#626b75;--line:#dde2e7;--ground:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#9aa5b0;--line:#333a42;--ground:#14171a}}
body{font:15px/1.5 system-ui,"DejaVu Sans",sans-serif;max-width:66rem;margin:0 auto;padding:1.5rem 1rem}
body{color:var(--ink);background:var(--ground)}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.3rem 1rem .3rem 0;text-align:left;border-bottom:1px solid var(--line)}th{color:var(--soft);font-size:.85rem}
"""

SAYS = (
    "Intervals: 95 % bootstrap. Stars: the accuracy differs from that of the first row on the same images (McNemar's exact "
    "test, or the paired bootstrap over subjects where these are known; Holm's correction over the whole table): * p < .05, "
    "** p < .01, *** p < .001. Images without an answer count as wrong."
)


def tables(comparison: Comparison) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, header and rows of each table."""
    found = []
    for key, title in FIGURES:
        rows = []
        for model in comparison.models:
            cells = [model, comparison.trained_on(model) or "not stated"]
            for column in comparison.datasets:
                cell = comparison.cells[model, column]
                one = cell.report.figures.get("official", {}).get(key)
                stars = cell.stars if key == "accuracy" else ""
                cells.append(
                    "–" if one is None else f"{_number(one['value'])}{stars} ({_number(one['low'])} … {_number(one['high'])})"
                )
            rows.append(cells)
        found.append((title, ["model", "trained on", *comparison.datasets], rows))
    rows = []
    for column in comparison.datasets:
        for model in comparison.models[1:]:
            cell = comparison.cells[model, column]
            between = f"{_signed(cell.low)} … {_signed(cell.high)}"
            p = "" if cell.p is None else f"{cell.p:.2g}"
            rows.append([f"{model} − {comparison.models[0]}", column, _signed(cell.difference), between, p, cell.test])
    if rows:
        found.append(("Differences in accuracy", ["models", "data", "difference", "95 %", "p (Holm)", "test"], rows))
    spreads = comparison.over_seeds()
    rows = [
        [name, column, f"{_number(one.mean)} ± {_number(one.deviation)}", str(one.seeds)]
        for name, columns in spreads.items()
        for column, one in columns.items()
    ]
    if rows:
        found.append(("Accuracy over seeds, mean ± standard deviation", ["recipe", "data", "accuracy", "seeds"], rows))
    rows = [[model, *_costs(comparison, model)] for model in comparison.models]
    found.append(("Cost", ["model", "parameters", "GMAC", "images a second", "memory, MB"], rows))
    rows = [
        [model, column, comparison.cells[model, column].report.about["mapping"]["says"], _faces(comparison, model, column)]
        for model in comparison.models
        for column in comparison.datasets
    ]
    found.append(("How classes were matched", ["model", "data", "classes", "faces"], rows))
    return found


def markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown."""
    parts = ["# Comparison", SAYS]
    for title, header, rows in tables(comparison):
        parts += [f"## {title}", table(header, rows)]
    return "\n\n".join([*parts, *_flaws(comparison)]) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def html(comparison: Comparison) -> str:
    """Return the comparison as a page."""
    parts = ["<h1>Comparison</h1>", f"<p>{escape.escape(SAYS)}</p>"]
    for title, header, rows in tables(comparison):
        head = "".join(f"<th>{escape.escape(name)}</th>" for name in header)
        body = "".join("<tr>" + "".join(f"<td>{escape.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f'<h2>{title}</h2><div class="scroll"><table><tr>{head}</tr>{body}</table></div>')
    parts += [f"<p>{escape.escape(text)}</p>" for text in _flaws(comparison)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Comparison</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n<body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _flaws(comparison: Comparison) -> list[str]:
    found = []
    for column in comparison.datasets:
        data = comparison.cells[comparison.models[0], column].report.about["dataset"]
        found += [f"{column}: {text}." for text in (*data["flaws"], *data["notes"])]
    return found


def _faces(comparison: Comparison, model: str, column: str) -> str:
    report = comparison.cells[model, column].report
    stored = "card" not in report.about["model"] and report.about["model"].get("sha256")
    return "as the other package was fed" if stored else str(report.about["identity"]["faces"])


def _costs(comparison: Comparison, model: str) -> list[str]:
    cost = comparison.costs(model)
    parameters, macs, rate, memory = (cost[name] for name in ("parameters", "macs", "images_per_second", "memory_mb"))
    return [
        "–" if parameters is None else f"{parameters:,.0f}",
        "–" if macs is None else f"{macs / 1e9:.2f}",
        "–" if rate is None else f"{rate:,.0f}",
        "–" if memory is None else f"{memory:,.0f}",
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f}"
