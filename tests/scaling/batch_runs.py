"""Reading what a run wrote, and what is needed to disturb it."""

from __future__ import annotations

import contextlib
import csv
import functools
import http.server
import io
import os
import signal
import subprocess
import threading
import zlib
from collections.abc import Iterator
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
    """A PNG of a few hundred bytes that claims 3.6 billion pixels."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def children(parent: int, matching: str = "mien.batch.worker") -> list[int]:
    """Return the processes that a process has started, those only whose command line has a text in it."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    return [int(row[0]) for row in rows if len(row) == 3 and int(row[1]) == parent and matching in row[2]]


@contextlib.contextmanager
def trapping(album: Path, word: str, number: signal.Signals) -> Iterator[str]:
    """Serve one image under every name; a request for a name with `word` first sends that signal to all workers."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if word in self.path:
                for worker in children(os.getpid()):
                    os.kill(worker, number)
            self.path = "/face%201.jpg"
            with contextlib.suppress(ConnectionError):  # of a worker that is gone
                super().do_GET()

        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(album))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
