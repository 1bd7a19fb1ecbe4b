"""Load a real server and write `docs/benchmarks/<date>-<commit>-serving.md`: throughput against one process, and latency.

    python -m benchmarks.serving                  # 64 clients for 60 seconds
    python -m benchmarks.serving --seconds 6      # a quick run

Everything runs on the same cores, the clients too. Inference in one process is measured before, between and after the rounds of
load, so that both see the same neighbors.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import datetime
import http.client
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

import mien

from .run import ROOT, machine, table

ROUNDS = 3
CLIENTS = (1, 8, 64, 300)
"""Numbers of concurrent clients of the latency table."""


def photo() -> bytes:
    """The bundled photograph, one face, as a JPEG of 512 × 512."""
    file = io.BytesIO()
    Image.open(mien.sample()).convert("RGB").save(file, "JPEG", quality=90)
    return file.getvalue()


def in_process(seconds: float, threads: int) -> float:
    """Images per second from encoded bytes in batches of 16, by `threads` threads with one recognizer."""
    read, data = mien.load(), photo()
    list(read.many([data] * 16))
    end = time.perf_counter() + seconds

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < end:
            done += sum(1 for _ in read.many([data] * 16, batch=16))
        return done

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        count = sum(pool.map(work, range(threads)))
    return count / (time.perf_counter() - started)


async def client(host: str, port: int, request: bytes, until: float, times: list[float], statuses: collections.Counter) -> None:
    """One keep-alive connection: the next request follows the response at once, or after its Retry-After."""
    reader, writer = await asyncio.open_connection(host, port)
    while time.perf_counter() < until:
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        status = int(head[9:12])
        statuses[status] += 1
        if status == 200:
            times.append(time.perf_counter() - started)
        elif wait := re.search(rb"retry-after: (\d+)", head, re.IGNORECASE):
            await asyncio.sleep(int(wait[1]))
    writer.close()


async def load(port: int, clients: int, seconds: float) -> dict:
    """Run all clients and return their latencies and statuses."""
    data = photo()
    body = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n' + data + b"\r\n--b--\r\n"
    head = f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    request = head.encode() + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + body
    times: list[float] = []
    statuses: collections.Counter[int] = collections.Counter()
    started = time.perf_counter()
    asked = (client("127.0.0.1", port, request, started + seconds, times, statuses) for _ in range(clients))
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    spent = time.perf_counter() - started
    broken = [repr(outcome) for outcome in outcomes if outcome is not None]
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "times": times,
        "statuses": dict(statuses),
        "seconds": spent,
        "broken": broken,
        "cpu": used.ru_utime + used.ru_stime,
    }


def child(*arguments: str) -> dict:
    """Run a part of this file in a process of its own."""
    line = [sys.executable, "-m", "benchmarks.serving", *arguments]
    return json.loads(subprocess.run(line, capture_output=True, text=True, check=True, cwd=ROOT).stdout)


class Watch(threading.Thread):
    """Samples the memory of a process."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.path, self.samples = Path(f"/proc/{process}/statm"), []

    def run(self) -> None:
        while True:
            try:
                self.samples.append(int(self.path.read_text().split()[1]) * resource.getpagesize() / 2**20)
            except (OSError, IndexError, ProcessLookupError):
                return
            time.sleep(0.5)


def processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2, help="cores that read, in the server and in one process")
    parser.add_argument("--out", type=Path, help="file to write instead of docs/benchmarks/<date>-<commit>-serving.md")
    parser.add_argument("--part", choices=["load", "in-process"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part == "load":
        print(json.dumps(asyncio.run(load(args.port, args.clients, args.seconds))))
        return
    if args.part == "in-process":
        print(json.dumps({"rate": in_process(args.seconds, args.threads)}))
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    today = datetime.date.today().isoformat()
    parts = [
        f"# {today}, {commit}: serving\n\n{machine()}\n",
        latencies(args.seconds / 4, args.threads),
        measure(args.seconds, args.clients, args.threads),
    ]
    path = args.out or ROOT / "docs" / "benchmarks" / f"{today}-{commit}-serving.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts), encoding="utf-8")
    print(path)


def start(threads: int) -> tuple[subprocess.Popen, str]:
    """Return a warm server and its port."""
    line = [sys.executable, "-m", "mien", "serve", "--port", "0", "--threads", str(threads)]
    server = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert server.stderr is not None
    port = server.stderr.readline().strip().rpartition(":")[2]
    child("--part", "load", "--port", port, "--clients", "8", "--seconds", "2")
    return server, port


def latencies(seconds: float, threads: int) -> str:
    """Return the latency table: GET /healthz from one client, then images from 1 to 300 clients."""
    server, port = start(threads)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", int(port))) as connection:
        times = []
        for _ in range(300):
            began = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            times.append((time.perf_counter() - began) * 1000)
    rows = [["1, GET /healthz", *(f"{value:.2f} ms" for value in np.percentile(times, (50, 99))), "", ""]]
    for clients in CLIENTS:
        one = child("--part", "load", "--port", port, "--clients", str(clients), "--seconds", str(seconds))
        p50, p99 = np.percentile(np.array(one["times"]) * 1000, (50, 99)) if one["times"] else (np.nan, np.nan)
        refused = sum(count for status, count in one["statuses"].items() if str(status) != "200")
        rows.append([str(clients), f"{p50:.0f} ms", f"{p99:.0f} ms", f"{len(one['times']) / one['seconds']:.1f}", str(refused)])
    server.send_signal(signal.SIGTERM)
    server.wait(60)
    note = "Time from a request to its response over keep-alive connections. Beyond the queue of 128 images requests get 429."
    return table("Latency", ["clients", "p50", "p99", "images per second", "other statuses"], rows, note)


def measure(seconds: float, clients: int, threads: int) -> str:
    """Return the throughput table."""
    server, port = start(threads)
    watch, used = Watch(server.pid), processor_seconds(server.pid)
    watch.start()
    alone, rounds = [], []
    for _ in range(ROUNDS):
        alone.append(child("--part", "in-process", "--threads", str(threads), "--seconds", str(seconds / ROUNDS / 2))["rate"])
        rounds.append(child("--part", "load", "--port", port, "--clients", str(clients), "--seconds", str(seconds / ROUNDS)))
    alone.append(child("--part", "in-process", "--threads", str(threads), "--seconds", str(seconds / ROUNDS / 2))["rate"])
    used = processor_seconds(server.pid) - used
    server.send_signal(signal.SIGTERM)
    status = server.wait(60)
    times = np.array([each for one in rounds for each in one["times"]]) * 1000
    statuses: collections.Counter[str] = collections.Counter()
    for one in rounds:
        statuses.update(one["statuses"])
    spent = sum(one["seconds"] for one in rounds)
    rates = [len(one["times"]) / one["seconds"] for one in rounds]
    ratios = [rate / ((alone[i] + alone[i + 1]) / 2) for i, rate in enumerate(rates)]
    answered = ", ".join(f"{count:,} × {status}" for status, count in sorted(statuses.items()))
    broken = sum(len(one["broken"]) for one in rounds)
    memory = np.array_split(np.array(watch.samples), 4)
    rows = [
        ["clients, seconds of load", f"{clients}, {spent:.0f}"],
        ["answers", answered],
        ["broken connections", str(broken)],
        [
            "latency p50, p90, p99, worst",
            ", ".join(f"{value:.0f} ms" for value in (*np.percentile(times, (50, 90, 99)), times.max())),
        ],
        ["images per second, each round", ", ".join(f"{rate:.1f}" for rate in rates)],
        ["in one process, batches of 16, before, between and after", ", ".join(f"{rate:.1f}" for rate in alone)],
        ["served against in one process, each round", ", ".join(f"{ratio:.2f}" for ratio in ratios)],
        ["**served against in one process, all**", f"**{np.mean(ratios):.2f}**"],
        ["processor time of the server per image", f"{used / len(times) * 1000:.1f} ms"],
        ["processor time of the clients per image", f"{sum(one['cpu'] for one in rounds) / len(times) * 1000:.1f} ms"],
        ["resident memory, mean of each quarter of the run", ", ".join(f"{part.mean():.0f} MB" for part in memory)],
        ["exit status after SIGTERM", str(status)],
    ]
    note = (
        f"One JPEG of 512 × 512 pixels with one face per request, {threads} inference threads; the clients use the same cores. "
        "Each client sends its next request as soon as the last is answered, so the latency is that at full load."
    )
    return table(f"{clients} clients at once", ["what", "figure"], rows, note)


if __name__ == "__main__":
    main()
