"""`results/*.csv`: one row for each evaluation, found again by its key and rewritten in place. Written by commands only."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import ConfigError, DatasetError
from ...io.files import LineFeeds, atomic_write, locked
from ..report import Report

KEY = ("model", "version", "output", "dataset", "split", "protocol", "faces", "views")
"""Columns that tell rows apart."""

FIGURES = ("accuracy", "uar", "macro_f1", "kappa", "nll", "brier", "ece")
"""Figures with an interval: columns NAME, NAME_low, NAME_high. The first four over the official denominator, with images
without an answer counted as wrong, the others over the answered images."""

OTHERS = ("answered_accuracy", "coverage", "accuracy_when_certain", "aurc", "ccc_valence", "ccc_arousal", "au_f1", "abaw_p")
COSTS = ("parameters", "images_per_second", "memory_mb")
AGAINST = ("against", "difference", "difference_low", "difference_high", "p")
"""The model compared with, the difference in accuracy on the same images, and the test's p after Holm's correction."""

COLUMNS = (
    *KEY,
    "sha256",
    "digest",
    "n",
    "n_answered",
    *(column for name in FIGURES for column in (name, f"{name}_low", f"{name}_high")),
    *OTHERS,
    *COSTS,
    *AGAINST,
    "date",
    "commit",
)


def row_of(report: Report) -> dict[str, str]:
    """Return the row of an evaluation.

    Raises:
        ConfigError: it covers only a part of the split.
    """
    about, figures = report.about, report.figures
    if about["identity"]["limit"]:
        raise ConfigError(
            "an evaluation of only some images (--limit) is no row of the results; evaluate all, or leave out --results"
        )
    model, data = about["model"], about["dataset"]
    row: dict[str, Any] = {
        "model": model["name"],
        "version": model.get("version"),
        "output": model.get("output"),
        "dataset": data["name"],
        "split": data["split"],
        "protocol": data["protocol"],
        "faces": about["identity"]["faces"],
        "views": len(about["identity"]["views"]),
        "sha256": (model.get("sha256") or "")[:12],
        "digest": data["digest"][:12],
        "n": figures["counts"]["official"],
        "n_answered": figures["counts"]["answered"],
        "date": about["environment"]["date"],
        "commit": about["environment"]["commit"],
    }
    for name in FIGURES:
        one = figures.get("official", {}).get(name) or figures.get("answered", {}).get(name) or {}
        row |= {name: one.get("value"), f"{name}_low": one.get("low"), f"{name}_high": one.get("high")}
    abstention = figures.get("abstention", {})
    row |= {
        "answered_accuracy": figures.get("answered", {}).get("accuracy", {}).get("value"),
        "coverage": abstention.get("coverage", {}).get("value"),
        "accuracy_when_certain": abstention.get("accuracy_when_certain", {}).get("value"),
        "aurc": abstention.get("aurc"),
        "au_f1": figures.get("unit_f1", {}).get("value"),
        "abaw_p": figures.get("abaw_p"),
    }
    for name in ("valence", "arousal"):
        row[f"ccc_{name}"] = figures.get("affect", {}).get(name, {}).get("ccc", {}).get("value")
    return {name: _cell(row.get(name)) for name in COLUMNS} | {name: _cell(value) for name, value in costs(report).items()}


def costs(report: Report) -> dict[str, float | None]:
    """Return parameters, images a second through the network, and memory, as far as they are known."""
    model, speed = report.about["model"], report.about.get("speed", {})
    seconds, rows = speed.get("model_seconds"), speed.get("rows")
    ours = "card" in model  # of a table only its own statement says what the network cost
    rate = rows / seconds if ours and seconds and rows else model.get("speed")
    return {
        "parameters": model.get("parameters"),
        "images_per_second": None if rate is None else round(rate, 1),
        "memory_mb": speed.get("memory_mb") if ours else model.get("memory_mb"),
    }


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Return the rows of a results file; none if it does not exist.

    Raises:
        DatasetError: it is another kind of file.
    """
    path = Path(path)
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in KEY if name not in (reader.fieldnames or ())]:
            raise DatasetError(f"{path} is no table of results: it lacks the columns {', '.join(missing)}; name another file")
        return [dict(row) for row in reader]


def write_row(path: str | Path, report: Report, **more: Any) -> None:
    """Put the row of an evaluation into a results file, in place of an older one of the same key."""
    write_rows(path, [row_of(report) | {name: _cell(value) for name, value in more.items()}])


def write_rows(path: str | Path, rows: list[dict[str, str]]) -> None:
    """Put rows into a results file, sorted by key.

    Raises:
        ConfigError: the disk is full, or the folder may not be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, wait=True):  # rows that another process adds meanwhile must not be lost
        table = {tuple(row.get(name, "") for name in KEY): row for row in [*read_rows(path), *rows]}
        with atomic_write(path) as part, part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(LineFeeds(file), COLUMNS, extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(sorted(table.values(), key=_order))


def _order(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row.get(name, "") for name in ("dataset", "split", "protocol", "model", "version", "output", "faces", "views"))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return (
            f"{value:.0f}"
            if value.is_integer() and abs(value) >= 2
            else f"{value:.4g}"
            if abs(value) >= 1000
            else f"{value:.4f}"
        )
    return str(value)
