"""Reading what a run wrote, and what is needed to disturb it."""

from __future__ import annotations

import csv
import io
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image


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


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it has 3.6 thousand million pixels."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def children(parent: int, matching: str = "mien.scaling.worker") -> list[int]:
    """Return the processes that a process has started, those only whose command line has a text in it."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [int(row[0]) for row in rows if len(row) == 3 and int(row[1]) == parent and matching in row[2]]
