"""Write the tables of results into the pages that ask for them, from results/*.csv.

A page asks with `<!-- results: FILE.csv DATASET… -->` and `<!-- end of results -->`, the table goes between; `DATASET`
chooses rows.
`<!-- side by side: FILE.csv -->` gives the accuracies alone, a row for each model and a column for each dataset and protocol.
`<!-- degraded: FILE.csv FILE.csv -->` gives what `mien stress` wrote, a column for each file.
`<!-- tasks: FILE.csv -->` gives the figures of networks that answer with valence, arousal and action units too.
`<!-- groups: FILE.csv -->` gives the accuracy for groups of people, and the gaps between them.

python tools/make_results_tables.py [--check]
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mien.evaluation.compare.pages import table
from mien.evaluation.compare.rows import read_rows
from pages import rewrite_or_check

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md", "docs/concepts/cross-dataset.md", "docs/concepts/responsible-use.md", "docs/evaluation.md", "docs/results.md",
    "docs/training.md",
)  # fmt: skip
PLACE = re.compile(
    r"(<!-- (results|side by side|degraded|tasks|groups): (\S+\.csv)((?: \S+)*) -->\n).*?(<!-- end of results -->)", re.DOTALL
)


def results(name: str, datasets: Sequence[str]) -> str:
    """Return the rows of a results file as a Markdown table."""
    rows = [row for row in read_rows(ROOT / "results" / name) if not datasets or row["dataset"] in datasets]
    several = any(int(row["views"]) > 1 for row in rows)
    header = ["data", "protocol", "model", "accuracy", "UAR", "macro-F1", "NLL", "ECE", "n"]
    tested = any(row["p"] for row in rows)
    lines = []
    for row in sorted(rows, key=lambda row: (row["dataset"], row["split"], _protocol(row), -float(row["accuracy"]))):
        model = _model(row) + (f", {row['views']} views" if several and int(row["views"]) > 1 else "")
        cells = [f"{row['dataset']} {row['split']}", _protocol(row), model]
        cells += [_percent(row, "accuracy") + (_stars(row["p"]) if row["p"] else "")]
        cells += [_percent(row, "uar"), _percent(row, "macro_f1"), _plain(row["nll"]), _plain(row["ece"]), f"{int(row['n']):,}"]
        if tested:
            cells.insert(4, _difference(row))
        lines.append(cells)
    if tested:
        header.insert(4, "against the reference")
    return table(header, lines)


def side_by_side(name: str, datasets: Sequence[str]) -> str:
    """Return a results file as a table of accuracies: models down, datasets and protocols across, the best of each in bold."""
    rows = [row for row in read_rows(ROOT / "results" / name) if not datasets or row["dataset"] in datasets]
    columns = sorted({(row["dataset"], row["split"], _protocol(row)) for row in rows})
    cells, best = {}, {}
    for row in rows:
        column = (row["dataset"], row["split"], _protocol(row))
        cells[_model(row), column] = row
        best[column] = max(best.get(column, 0.0), float(row["accuracy"]))
    order = sorted({model for model, _ in cells}, key=lambda model: -sum(_accuracy(cells.get((model, c))) for c in columns))
    lines = []
    for model in order:
        line = [model]
        for column in columns:
            row = cells.get((model, column))
            text = "–" if row is None else _percent(row, "accuracy") + (_stars(row["p"]) if row["p"] else "")
            line.append(f"**{text}**" if row is not None and float(row["accuracy"]) == best[column] else text)
        lines.append(line)
    return table(["model", *(f"{dataset} {split}, {protocol}" for dataset, split, protocol in columns)], lines)


def _accuracy(row: dict[str, str] | None) -> float:
    return float(row["accuracy"]) if row else 0.0


def degraded(*names: str) -> str:
    """Return what degradations cost, with intervals: degradations down, files of `mien stress` across."""
    files = [{row["name"]: row for row in _records(name)} for name in names]
    header = ["degraded by", "strength", *("{model} on {data}, {faces} faces".format(**rows["as they are"]) for rows in files)]
    lines = []
    for name, first in {name: row for rows in reversed(files) for name, row in rows.items()}.items():
        cells = [rows.get(name) for rows in files]
        said = name.replace("tight to loose", "probabilities, tight to loose")
        lines.append([said, first["strength"], *("–" if row is None else _cost(row) for row in cells)])
    return table(header, lines)


def tasks(name: str, datasets: Sequence[str]) -> str:
    """Return what a results file says of valence and arousal, expressions and action units, the best P first."""
    rows = [row for row in read_rows(ROOT / "results" / name) if not datasets or row["dataset"] in datasets]
    header = ["data", "model", "CCC valence", "CCC arousal", "macro-F1 expressions", "mean F1 action units", "P", "n"]
    lines = []
    for row in sorted(rows, key=lambda row: -float(row["abaw_p"])):
        told = [f"{float(row[key]) + 0:.3f}" for key in ("ccc_valence", "ccc_arousal", "macro_f1", "au_f1", "abaw_p")]
        lines.append([f"{row['dataset']} {row['split']}", row["model"], *told, f"{int(row['n']):,}"])
    return table(header, lines)


def groups(name: str) -> str:
    """Return how often models are right for groups of people, and the gap between the best and the worst of each kind."""
    header, lines = ["group", "model", "accuracy", "largest gap"], []
    rows = [row | {"told": _percent(row, "accuracy", "")} for row in _records(name)]
    for group, model in sorted({(row["group"], row["model"]) for row in rows}):
        those = [row for row in rows if (row["group"], row["model"]) == (group, model)]
        values = [f"{row['value']}: {row['told']} of {row['n']}" for row in those if not row["against"]]
        gaps = [f"{row['told']}, {row['value']} against {row['against']}" for row in those if row["against"]]
        lines.append([group, model, "; ".join(values).replace("_", " "), "; ".join(gaps).replace("_", " ") or "–"])
    return table(header, lines)


def _records(name: str) -> list[dict[str, str]]:
    with (ROOT / "results" / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _cost(row: dict[str, str]) -> str:
    """Return what a row of `mien stress` says."""
    if row["name"] == "as they are":
        return f"{100 * float(row['accuracy']):.1f} %"
    if not row["accuracy"]:
        return f"moved by {float(row['moved']):.3f}"
    return "{:+.1f} ({:+.1f} … {:+.1f})".format(*(100 * float(row[key]) for key in ("change", "low", "high")))


def _model(row: dict[str, str]) -> str:
    return row["model"] + (f", output {row['output']}" if row["output"] not in ("", "scores") else "")


def _protocol(row: dict[str, str]) -> str:
    return "leak-free" if row["protocol"].startswith("clean:") else row["protocol"]


def _percent(row: dict[str, str], name: str, ends: str | None = None) -> str:
    ends = f"{name}_" if ends is None else ends
    return f"{100 * float(row[name]):.1f} ({100 * float(row[f'{ends}low']):.1f} … {100 * float(row[f'{ends}high']):.1f})"


def _difference(row: dict[str, str]) -> str:
    if not row["difference"]:
        return ""
    low, high = (100 * float(row[f"difference_{end}"]) for end in ("low", "high"))
    return f"{100 * float(row['difference']):+.1f} ({low:+.1f} … {high:+.1f})"


def _stars(p: str) -> str:
    return "\\*" * sum(float(p) < level for level in (0.05, 0.01, 0.001))


def _plain(text: str) -> str:
    return f"{float(text):.3f}" if text else "–"


def page(path: Path) -> str:
    """Return a page as it should be."""
    writers = {
        "results": results,
        "side by side": side_by_side,
        "degraded": lambda first, others: degraded(first, *others),
        "tasks": tasks,
        "groups": lambda name, _: groups(name),
    }
    return PLACE.sub(
        lambda found: f"{found[1]}{writers[found[2]](found[3], found[4].split())}\n{found[5]}", path.read_text(encoding="utf-8")
    )


def main() -> int:
    """Bring the pages up to date, or with --check say whether they are."""
    return rewrite_or_check({ROOT / name: page(ROOT / name) for name in PAGES}, __doc__, "results/")


if __name__ == "__main__":
    sys.exit(main())
