"""Counters, gauges and histograms in the text format of Prometheus (version 0.0.4), and nothing more.

A server of several processes adds theirs up: each writes its numbers to a file in their common folder when it is asked for
metrics, and after every few seconds.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Upper bounds of the buckets of times."""

IMAGES = (1, 2, 4, 8, 12, 16, 24, 32, 64)
"""Upper bounds of the buckets of batch sizes."""

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

NAMES: dict[str, tuple[Literal["counter", "gauge", "histogram"], str, tuple[float, ...]]] = {
    "mien_requests_total": ("counter", "Requests answered, by route, method and status.", ()),
    "mien_request_seconds": ("histogram", "Time from the head of a request to its answer, by route.", SECONDS),
    "mien_images_total": ("counter", "Images read, by status: ok, no face, unreadable.", ()),
    "mien_faces_total": ("counter", "Faces read, by whether the model was certain.", ()),
    "mien_rejected_total": ("counter", "Requests refused or given up, by the name of their problem.", ()),
    "mien_batch_images": ("histogram", "Images that were read together.", IMAGES),
    "mien_queue_seconds": ("histogram", "Time that an image waited to be read.", SECONDS),
    "mien_queue_images": ("gauge", "Images waiting to be read.", ()),
    "mien_jobs_total": ("counter", "Videos that came to an end, by how: done, failed, canceled.", ()),
    "mien_jobs_active": ("gauge", "Videos waiting or being read.", ()),
    "mien_streams_open": ("gauge", "Streams that are open.", ()),
    "mien_stream_frames_total": ("counter", "Frames of streams, by what became of them: read, dropped, unreadable.", ()),
    "process_resident_memory_bytes": ("gauge", "Memory in use.", ()),
    "process_cpu_seconds_total": ("counter", "Processor time used.", ()),
    "process_start_time_seconds": ("gauge", "When the process began, in seconds since 1970; of several, the first.", ()),
}
"""Name → kind, help, bounds of buckets."""

Key = tuple[str, tuple[tuple[str, str], ...]]


class Metrics:
    """The numbers of one process. Safe to call from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[Key, float] = {}
        self._buckets: dict[Key, list[float]] = {}
        self._gauges: dict[str, Callable[[], float]] = {"process_resident_memory_bytes": resident_bytes}
        self._started = time.time()

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        key = (name, tuple(sorted(labels.items())))
        with self._lock:
            self._values[key] = self._values.get(key, 0) + amount

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add a value to a histogram: one number more in its bucket, and to the sum that stands last."""
        bounds, key = NAMES[name][2], (name, tuple(sorted(labels.items())))
        with self._lock:
            row = self._buckets.setdefault(key, [0.0] * (len(bounds) + 2))
            row[bisect_left(bounds, value)] += 1
            row[-1] += value

    def gauge(self, name: str, ask: Callable[[], float]) -> None:
        """Name what tells the present value of a gauge."""
        self._gauges[name] = ask

    def to_dict(self) -> dict[str, list]:
        """Return all numbers as JSON values."""
        with self._lock:
            values, buckets = list(self._values.items()), [(key, list(row)) for key, row in self._buckets.items()]
        values += [((name, ()), ask()) for name, ask in self._gauges.items()]
        values.append((("process_cpu_seconds_total", ()), time.process_time()))
        values.append((("process_start_time_seconds", ()), self._started))
        return {"values": [[*key, value] for key, value in values], "buckets": [[*key, row] for key, row in buckets]}


class Shared:
    """The numbers of all processes of a server, through files in a folder that only they use."""

    def __init__(self, folder: Path, metrics: Metrics) -> None:
        self.folder, self.metrics = folder, metrics
        self.path = folder / f"metrics-{os.getpid()}.json"

        self._lock = threading.Lock()  # between those who ask for metrics and the writing every few seconds

    def write(self) -> None:
        """Write this process's numbers for the others. Safe to call from several threads."""
        part = self.path.with_suffix(".part")
        with self._lock:
            part.write_text(json.dumps(self.metrics.to_dict()), encoding="utf-8")
            part.replace(self.path)

    def render(self) -> str:
        """Return the text of all processes together; of one that has ended its counts stay, and its gauges go."""
        self.write()
        tables = []
        for path in sorted(self.folder.glob("metrics-*.json")):
            try:
                table = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):  # a process that ends just now
                continue
            if not lives(int(path.stem.rpartition("-")[2])):
                table["values"] = [row for row in table["values"] if NAMES[row[0]][0] != "gauge"]
            tables.append(table)
        return render(tables)


def render(tables: list[Mapping[str, list]]) -> str:
    """Return the sum of what several `Metrics.to_dict` gave, as Prometheus reads it."""
    values: dict[Key, float] = {}
    buckets: dict[Key, list[float]] = {}
    for table in tables:
        for name, labels, value in table["values"]:
            key = (name, tuple(tuple(pair) for pair in labels))
            join = min if name == "process_start_time_seconds" else sum
            values[key] = join([values[key], value]) if key in values else value
        for name, labels, row in table["buckets"]:
            key = (name, tuple(tuple(pair) for pair in labels))
            buckets[key] = [a + b for a, b in zip(buckets.get(key, [0.0] * len(row)), row, strict=True)]
    lines = []
    for name, (kind, text, bounds) in NAMES.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        for key in sorted(key for key in values if key[0] == name):
            lines.append(f"{name}{_labels(key[1])} {_number(values[key])}")
        for key in sorted(key for key in buckets if key[0] == name):
            row, below = buckets[key], 0.0
            for bound, count in zip((*bounds, float("inf")), row[:-1], strict=True):
                below += count
                lines.append(f"{name}_bucket{_labels((*key[1], ('le', _number(bound))))} {_number(below)}")
            lines.append(f"{name}_sum{_labels(key[1])} {_number(row[-1])}")
            lines.append(f"{name}_count{_labels(key[1])} {_number(below)}")
    return "\n".join(lines) + "\n"


def lives(process: int) -> bool:
    """Return whether there is a process of this number."""
    if sys.platform == "win32":
        return _lives_on_windows(process)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _lives_on_windows(process: int) -> bool:  # pragma: no cover
    """Ask the kernel: `os.kill` with 0, which only asks elsewhere, ends the process there."""
    import ctypes

    kernel: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # pyrefly: ignore
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(0x0010_0000, False, process)  # SYNCHRONIZE: only to wait for its end
    if not handle:
        return ctypes.get_last_error() == 5  # pyrefly: ignore  # there is one, and it is somebody else's
    ended = kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == 0
    kernel.CloseHandle(ctypes.c_void_p(handle))
    return not ended


def resident_bytes() -> float:
    """Return the memory that this process has in use; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):  # AttributeError: Windows has no sysconf
        return 0


def _labels(pairs: tuple[tuple[str, str], ...]) -> str:
    if not pairs:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in pairs) + "}"


def _escape(text: str) -> str:
    return re.sub(r'[\\"\n]', lambda found: {"\\": r"\\", '"': r"\"", "\n": r"\n"}[found[0]], text)


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
