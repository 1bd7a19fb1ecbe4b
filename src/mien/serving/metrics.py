"""Prometheus metrics of a server.

The processes of a server with several workers share theirs through files (prometheus-client's multiprocess mode): the folder is
named by `PROMETHEUS_MULTIPROC_DIR`, which must be set before prometheus-client is imported.
"""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST as MEDIA_TYPE
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

__all__ = ["MEDIA_TYPE", "SHARED", "Metrics"]

SHARED = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 12, 16, 24, 32, 64)


class Metrics:
    """The metrics of one process. Thread-safe."""

    def __init__(self) -> None:
        self.folder = os.environ.get(SHARED)
        registry = self.registry = CollectorRegistry()

        counter, histogram = partial(Counter, registry=registry), partial(Histogram, registry=registry)
        gauge = partial(Gauge, registry=registry, multiprocess_mode="livesum")
        self.requests = counter("mien_requests", "Responses, by route, method and status.", ("route", "method", "status"))
        self.latency = histogram(
            "mien_request_seconds", "Time from request head to response, by route.", ("route",), buckets=SECONDS
        )
        self.images = counter("mien_images", "Images, by status: ok, no face, unreadable.", ("status",))
        self.faces = counter("mien_faces", "Faces, by whether the model was certain.", ("certain",))
        self.batches = histogram("mien_batch_images", "Images per batch.", buckets=IMAGES)
        self.waited = histogram("mien_queue_seconds", "Time of an image in the queue.", buckets=SECONDS)
        self.queue = gauge("mien_queue_images", "Images in the queue.")
        self.jobs = counter("mien_jobs", "Finished video jobs, by outcome: done, failed, canceled.", ("outcome",))
        self.active = gauge("mien_jobs_active", "Video jobs waiting or running.")
        self.streams = gauge("mien_streams_open", "Open streams.")
        self.frames = counter("mien_stream_frames", "Frames of streams: read, dropped or unreadable.", ("outcome",))
        if self.folder is None:
            ProcessCollector(registry=registry)

    def render(self) -> bytes:
        """Return the metrics of all processes in Prometheus' text format; gauges only of those that still run."""
        if self.folder is None:
            return generate_latest(self.registry)
        for path in Path(self.folder).glob("gauge_live*_*.db"):
            process = int(path.stem.rpartition("_")[2])
            if not process_exists(process):
                mark_process_dead(process, self.folder)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, self.folder)
        return generate_latest(registry)


def process_exists(number: int) -> bool:
    """Return whether a process with this number runs."""
    if sys.platform == "win32":
        return _exists_on_windows(number)
    try:
        os.kill(number, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def _exists_on_windows(number: int) -> bool:  # pragma: no cover
    """Query the kernel: on Windows `os.kill` with signal 0 would end the process."""
    import ctypes

    kernel: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # pyrefly: ignore
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(0x0010_0000, False, number)  # SYNCHRONIZE: the right to wait for its end
    if not handle:
        return ctypes.get_last_error() == 5  # pyrefly: ignore  # access denied: it belongs to another user
    ended = kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == 0
    kernel.CloseHandle(ctypes.c_void_p(handle))
    return not ended
