"""Reading what a run wrote."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def rows(out: Path) -> list[dict[str, Any]]:
    """All rows, in the order of the parts."""
    return [row for path in sorted((out / "rows").iterdir()) for row in pq.read_table(path).to_pylist()]


def bytes_of(out: Path) -> dict[str, bytes]:
    """The files that must not depend on who read what and when."""
    paths = [*sorted((out / "rows").iterdir()), out / "failures.csv"]
    return {path.name: path.read_bytes() for path in paths}


def failures(out: Path) -> dict[str, str]:
    """Source → message."""
    with (out / "failures.csv").open(newline="", encoding="utf-8") as file:
        return {row["source"]: row["message"] for row in csv.DictReader(file)}
