"""`evaluation.json`: what was evaluated on what, and with what; and how a stopped evaluation goes on."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.datasets import Dataset, reader
from ..errors import ConfigError, UnknownName
from ..io.files import atomic_write
from ..io.provenance import software
from .report import EVALUATION, PREDICTIONS

PART = ".part"
PACKAGES = ("numpy", "pillow", "onnxruntime", "torch")


def about_dataset(data: Dataset) -> dict[str, Any]:
    """Return what a report says about the data, its digest included, which reads every image once."""
    try:
        known = reader(data.name)
    except UnknownName:  # made in memory
        known = None
    original = known.fingerprints.get(data.split) if known and data.variant == next(iter(known.protocols)) else None
    return {
        "name": data.name,
        "title": known.title if known else data.name,
        "split": data.split,
        "protocol": data.variant,
        "digest": data.digest,
        "original": None if original is None else data.digest == original,
        "images": len(data),
        "classes": data.counts,
        "layout": data.layout,
        "flaws": list(data.flaws),
        "notes": list(data.notes),
    }


def environment() -> dict[str, Any]:
    """Return versions, commit, machine and date."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return {**software(PACKAGES), "machine": machine, "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")}


def memory_mb() -> float | None:
    """Return the largest memory that this process has held, in MB; None where the system does not tell.

    Linux counts what a process had before it became another program: a small one, started by a large one, is said to have been
    as large. There the number that starts anew with the program is read.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024, 1)
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if platform.system() != "Darwin" else 1024**2), 1)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all.

    Raises:
        ConfigError: the disk is full, or the folder may not be written.
    """
    with atomic_write(path, "free some space and start the command again") as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", errors="surrogateescape")


def state_of(out: Path, identity: Mapping[str, Any], *, overwrite: bool) -> str:
    """Return whether an evaluation is `"done"`, `"begun"` or `"new"`.

    With `overwrite` it is always new: a Python function has no digest that would tell that it has changed.

    Raises:
        ConfigError: the folder holds another evaluation.
    """
    for path, state in ((out / EVALUATION, "done"), (out / (EVALUATION + PART), "begun")):
        if overwrite or not path.is_file():
            continue
        try:
            there = json.loads(path.read_text(encoding="utf-8"))["identity"]
        except (ValueError, KeyError, TypeError) as error:
            if state == "begun":  # stopped while its first line was written
                continue
            raise ConfigError(f"{path} is damaged; give --overwrite to evaluate anew") from error
        if there == json.loads(json.dumps(identity)):
            if state == "begun" or (out / PREDICTIONS).is_file():
                return state
        else:
            raise ConfigError(f"{out} holds another evaluation ({_other(there, identity)}); give another --out, or --overwrite")
    for name in (EVALUATION, PREDICTIONS, EVALUATION + PART, PREDICTIONS + PART):
        (out / name).unlink(missing_ok=True)
    return "new"


def _other(there: Mapping[str, Any], now: Mapping[str, Any], of: str = "") -> str:
    """Return the first entry in which two identities differ, and its two values."""
    key = next(key for key in {**there, **now} if there.get(key) != now.get(key))
    before, after = there.get(key), now.get(key)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return _other(before, after, f"{of}{key}.")
    return f"{of}{key}: {before!r}, now {after!r}"


def whole_rows(path: Path, names: Sequence[str]) -> int:
    """Return how many rows of a begun table are whole, and cut off the rest; of one without rows the header too.

    A row ends with a line, but not every line ends a row: names of files may hold line breaks, which stand in quotes.

    Raises:
        ConfigError: the rows are about other images.
    """
    if not path.is_file():
        return 0
    content = path.read_bytes()
    letters = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero((letters == ord("\n")) & (np.cumsum(letters == ord('"')) % 2 == 0)) + 1
    whole = int(ends[-1]) if len(ends) else 0
    rows = list(csv.reader(io.StringIO(content[:whole].decode("utf-8", "surrogateescape"), newline="")))[1:]
    with path.open("r+b") as file:
        file.truncate(whole if rows else 0)
    if [row[:1] for row in rows] != [[name] for name in names[: len(rows)]]:
        raise ConfigError(f"{path} has rows about other images; give --overwrite to evaluate anew")
    return len(rows)
