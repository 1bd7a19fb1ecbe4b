"""Summary of a run: `summary.json` and `failures.csv`, aggregated from the parts."""

import csv
import io
import json
import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from ..io.files import LineFeeds
from ..io.provenance import package_version
from .job import FAILURES, SUMMARY, Job, part
from .storage import Folder, scratch

PACKAGES = ("numpy", "pillow", "onnxruntime", "pyarrow", "av", "fsspec", "ray")
"""Packages whose versions the summary records, if installed."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals of a run, including the parts of earlier, interrupted runs."""

    items: int  # images and videos
    images: int  # images, including unreadable ones
    frames: int  # frames of videos
    faces: int  # faces
    status: Mapping[str, int]  # status → images and frames
    labels: Mapping[str, int]  # label → faces
    parts: int  # number of parts
    new: int  # number of parts written by this run
    reason: str = ""  # reason of the first failure

    @property
    def failures(self) -> int:
        """Images and videos that are unreadable or truncated."""
        return self.status.get("unreadable", 0)

    @property
    def readable(self) -> int:
        """Readable images and frames."""
        return sum(self.status.values()) - self.failures


def finish(folder: Folder, job: Job, tallies: Mapping[int, Mapping[str, Any]], new: int, run: Mapping[str, Any]) -> Summary:
    """Add up the tallies of all parts, and write `failures.csv`, then `summary.json`, which marks the run as complete.

    `new` is the number of parts written by this run, `run` other facts about it. Only parts with failures are opened.
    """
    counts, status, labels = Counter[str](), Counter[str](), Counter[str]()
    for tally in tallies.values():
        counts.update({name: tally[name] for name in ("items", "images", "frames", "faces")})
        status.update(tally["status"])
        labels.update(tally["labels"])
    reason = ""
    # Failures are spooled to a file: those of a hundred million images may not fit into memory.
    with scratch() as file, io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="") as text:
        writer = csv.writer(LineFeeds(text))
        writer.writerow(["source", "time", "message"])
        for number in (number for number, tally in sorted(tallies.items()) if tally["status"].get("unreadable")):
            for row in _failures(folder, number):
                reason = reason or row[2]
                writer.writerow(row)
        text.flush()
        file.seek(0)
        folder.write(FAILURES, file)
    numbers: dict[str, Any] = {name: counts[name] for name in ("items", "images", "frames", "faces")}
    by_status = dict(sorted(status.items()))
    versions = {name: package_version(name) for name in ("mien", *PACKAGES)}
    record = {
        **numbers,
        "failures": status["unreadable"],
        "status": by_status,
        "labels": {label: labels[label] for label in job.labels},
        "parts": len(tallies),
        "shard_size": job.shard_size,
        "inputs": job.digest,
        "model": job.model,
        "options": job.options,
        "versions": {"python": platform.python_version(), **{name: number for name, number in versions.items() if number}},
        "run": {**run, "new_parts": new},
    }
    folder.write(SUMMARY, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    return Summary(**numbers, status=by_status, labels=dict(sorted(labels.items())), parts=len(tallies), new=new, reason=reason)


def _failures(folder: Folder, number: int) -> Iterator[tuple[str, str, str]]:
    # Without threads and `read_table(filters=…)`: pyarrow's datasets sometimes abort the process when it exits.
    columns = ["source", "status", "time", "message"]
    with folder.open(part(number)) as file:
        for batch in pq.ParquetFile(file).iter_batches(columns=columns, use_threads=False):
            for row in batch.to_pylist():
                if row["status"] == "unreadable":
                    message = " ".join((row["message"] or "").split())
                    yield row["source"], "" if row["time"] is None else f"{row['time']:.6f}", message
