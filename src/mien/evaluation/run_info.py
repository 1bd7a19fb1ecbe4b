"""`evaluation.json`: model, dataset, environment and identity of an evaluation."""

import contextlib
import datetime
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import differences
from ..data.datasets import Dataset, reader
from ..errors import ConfigError, UnknownName
from ..io.provenance import software
from .report import EVALUATION, PREDICTIONS

PACKAGES = ("numpy", "pillow", "onnxruntime", "torch")


def about_dataset(data: Dataset) -> dict[str, Any]:
    """Return the description of the data in a report, including its digest (which reads every image once)."""
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
    """Return versions, machine, commit and date."""
    return {
        **software(PACKAGES),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def memory_mb() -> float | None:
    """Return the peak resident memory of this process in MB; None where the system does not report it.

    On Linux `ru_maxrss` includes the parent's memory before exec, so a small program started by a large one would be reported
    as large; `VmHWM` starts with the program.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024, 1)
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if platform.system() != "Darwin" else 1024**2), 1)


def is_finished(out: Path, identity: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Return whether a folder holds this evaluation; with `overwrite`, or if it does not, its files are removed.

    Python functions have no digest that would reveal a change, hence `overwrite`. Raises ConfigError for a folder with another
    evaluation, or a corrupt one.
    """
    path = out / EVALUATION
    if path.is_file() and not overwrite:
        try:
            there = json.loads(path.read_text(encoding="utf-8"))["identity"]
            other = differences(there, json.loads(json.dumps(identity)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} is corrupt; give --overwrite to evaluate again", path=path) from error
        if other:
            key, before, now = other[0]
            message = f"{out} holds another evaluation ({key}: {before!r}, now {now!r})"
            raise ConfigError(f"{message}; give another --out, or --overwrite", path=out, value=now, expected=before)
        if (out / PREDICTIONS).is_file():
            return True
    for name in (EVALUATION, PREDICTIONS):
        (out / name).unlink(missing_ok=True)
    return False
