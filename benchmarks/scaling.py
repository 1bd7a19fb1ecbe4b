"""Measure `mien batch` and write `docs/benchmarks/<date>-<commit>-scaling.md`: one worker, two workers, a Ray cluster.

    python -m benchmarks.scaling                                  # 1,000 images, three rounds
    python -m benchmarks.scaling --images 96 --repeats 1          # a quick look

The images are copies of those in `../shared/data` (London portraits and a few large photographs). Compared runs alternate.
Where other processes use the same cores, wall-clock time says little about a single run; both it and processor time are
reported, with the load of the machine.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mien.batch import batch
from mien.inference.recognizer import BATCH

from .run import ROOT, SHARED, machine, table

FEW = 16
"""Images of the runs that measure the start."""
BUSY = 0.9
"""Share of its core below which a worker competed with other processes."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run over all images."""

    seconds: float
    """Wall-clock time."""
    cpu: float
    """Processor seconds of all its processes; NaN where not measured."""
    load: float
    """Load average of the machine at its end."""


Runs = dict[int, list[Run]]
"""Workers → runs over all images."""
Starts = dict[int, Run]
"""Workers → a run over `FEW` images."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ray-repeats", type=int, default=0, help="rounds on a Ray cluster of two local nodes")
    parser.add_argument("--seconds", type=float, default=600, help="start no round that would end later than this")
    parser.add_argument("--out", type=Path, help="file to write instead of docs/benchmarks/<date>-<commit>-scaling.md")
    parser.add_argument("--ray", nargs=2, metavar=("FOLDER", "REPEATS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ray:
        print(json.dumps(on_two_nodes(args.ray[0], int(args.ray[1]))))
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    today, began = datetime.date.today().isoformat(), time.perf_counter()
    head = f"# {today}, {commit}: `mien batch`\n\n{machine()}\n"
    with tempfile.TemporaryDirectory() as folder:
        plant(Path(folder, "all"), args.images)
        few = Path(folder, "few")
        plant(few, FEW)
        processes: Runs = {workers: [] for workers in (1, 2)}
        starts = {workers: command(few, workers) for workers in processes}
        cluster = ray_runs(Path(folder, "all"), args.ray_repeats) if args.ray_repeats else {}
        took = 0.0
        for number in range(args.repeats):
            if number and time.perf_counter() - began + took > args.seconds:
                break  # on a busy machine
            before = time.perf_counter()
            for workers, runs in processes.items():
                runs.append(command(Path(folder, "all"), workers))
            took = time.perf_counter() - before
    parts = [head, scaling(args.images, processes, starts, cluster)]
    loads = [run.load for runs in (*processes.values(), *cluster.values()) for run in runs]
    parts.append(
        f"Load average after each run, on {os.cpu_count()} cores: {', '.join(f'{load:.1f}' for load in loads)}. "
        f"Total time: {time.perf_counter() - began:.0f} s.\n"
    )
    path = args.out or ROOT / "docs" / "benchmarks" / f"{today}-{commit}-scaling.md"
    path.write_text("\n".join(parts), encoding="utf-8")
    print(path)


def plant(folder: Path, count: int) -> None:
    """Copy `count` images into a folder."""
    folder.mkdir()
    found = [
        path
        for place in ("london/images", "photos")
        for path in sorted((SHARED / "data" / place).rglob("*"))
        if path.suffix in (".jpg", ".png")
    ]
    random.Random(0).shuffle(found)  # a smaller number is a representative selection
    for number, path in zip(range(count), itertools.cycle(found), strict=False):
        shutil.copyfile(path, folder / f"{number:05d}{path.suffix}")


def command(folder: Path, workers: int) -> Run:
    """Run the command, including its start."""
    with tempfile.TemporaryDirectory() as out:
        line = [sys.executable, "-m", "mien", "batch", str(folder), "--out", f"{out}/read", "--workers", str(workers)]
        line += ["--shard-size", str(BATCH)]  # the last parts leave no worker idle for long
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(line, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    return Run(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, os.getloadavg()[0])


def ray_runs(folder: Path, repeats: int) -> Runs:
    """Return actors → runs on a cluster of two nodes on this machine; empty if Ray does not start."""
    line = [sys.executable, "-m", "benchmarks.scaling", "--ray", str(folder), str(repeats)]
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **quiet})
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return {}
    found = json.loads(done.stdout.splitlines()[-1])
    return {int(actors): [Run(*run) for run in runs] for actors, runs in found.items()}


def on_two_nodes(folder: str, repeats: int) -> dict[int, list[tuple[float, float, float]]]:
    """Start two nodes of one core, and alternate runs with one actor and with two; the start of the cluster is not measured."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    found: dict[int, list[tuple[float, float, float]]] = {1: [], 2: []}
    for _ in range(repeats):
        for actors, runs in found.items():
            with tempfile.TemporaryDirectory() as out:
                began = time.perf_counter()
                batch([folder], f"{out}/read", workers=actors, shard_size=BATCH, ray=cluster.address)
                runs.append((time.perf_counter() - began, float("nan"), os.getloadavg()[0]))
    ray.shutdown()
    cluster.shutdown()
    return found


def scaling(count: int, processes: Runs, starts: Starts, cluster: Runs) -> str:
    """Return the table of one worker and two."""
    rows = []
    for name, runs in (("process", processes), ("actor on a Ray cluster of two nodes", cluster)):
        if not runs:
            continue
        ratios = [one.seconds / two.seconds for one, two in zip(runs[1], runs[2], strict=True)]
        for workers, same in runs.items():
            cpu = statistics.median(run.cpu for run in same)
            known = cpu == cpu  # nan: not measured
            rows.append([
                name if workers == 1 else "two of them",
                f"{count / statistics.median(run.seconds for run in same):.1f}",
                f"{cpu:.1f} s" if known else "–",
                f"{starts[workers].cpu:.1f} s" if known else "–",
                f"{statistics.median(run.cpu / run.seconds / workers for run in same):.0%}" if known else "–",
                "" if workers == 1 else f"**{statistics.median(ratios):.2f}** ({', '.join(f'{each:.2f}' for each in ratios)})",
            ])  # fmt: skip
    header = [
        "workers",
        "images/s",
        "processor time",
        f"of {FEW} images",
        "share of its cores",
        "two workers / one, wall clock",
    ]
    kept = efficiency(count, processes, starts)
    shares = [statistics.median(run.cpu / run.seconds / workers for run in runs) for workers, runs in processes.items()]
    note = [
        "Medians; runs alternate, and ratios are of adjacent runs. The start of the command and the loading of networks are",
        "included; for Ray the start of actors, not that of the cluster.",
        f"Each further image costs {marginal(1, count, processes, starts) * 1000:.1f} ms of processor time with one worker and",
        f"{marginal(2, count, processes, starts) * 1000:.1f} ms with two: **efficiency {kept:.2f}**, without the start.",
        f"One worker got {shares[0]:.0%} of a core, two got {shares[1]:.0%} of two: other processes took the rest."
        if min(shares) < BUSY
        else "",
    ]
    return table(f"One worker and two: {count} images", header, rows, " ".join(filter(None, note)))


def marginal(workers: int, count: int, runs: Runs, starts: Starts) -> float:
    """Return the processor seconds of each further image."""
    return (statistics.median(run.cpu for run in runs[workers]) - starts[workers].cpu) / (count - FEW)


def efficiency(count: int, runs: Runs, starts: Starts) -> float:
    """Return the processor time of an image with one worker, divided by that with two."""
    return marginal(1, count, runs, starts) / marginal(2, count, runs, starts)


if __name__ == "__main__":
    main()
