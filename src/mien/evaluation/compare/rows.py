"""`results/*.csv`: one row per evaluation, replaced by key; written by commands only."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import ConfigError, DatasetError
from ...io.files import csv_text, locked, write_file
from ..report import Report
from ..tta import TEN_CROP, views

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
    return {name: _cell(value) for name, value in (dict.fromkeys(COLUMNS) | row | costs(report)).items()}


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
    write_rows(path, [row_of(report) | {name: _cell(value) for name, value in more.items()}])


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
    write_file(path, csv_text([columns, *([_cell(row.get(name)) for name in columns] for row in rows)]))


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return "" if value is None else str(value)
    if value.is_integer() and abs(value) >= 2:
        return f"{value:.0f}"
    return f"{value:.4g}" if abs(value) >= 1000 else f"{value:.4f}"
