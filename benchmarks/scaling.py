"""Measure `mien batch` and write `docs/benchmarks/<date>-<commit>-scaling.md`: one worker, two, a cluster, costs by stage.

    python -m benchmarks.scaling                                  # 400 images, three rounds
    python -m benchmarks.scaling --images 96 --repeats 1        # a quick look

The images are copies of those in `../shared/data` (London portraits and a few large photographs), so that every file is read
from its own place. Compared runs take turns. Where other work uses the same cores, the clock says little about a single run;
processor time says what an image costs, and both are told, with the load that was seen.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mien.batch import Options, batch
from mien.batch.job import write_part
from mien.batch.rows import Rows
from mien.batch.storage import Folder
from mien.inference.recognizer import BATCH
from mien.io.decoding import decode
from mien.io.images import MAX_PIXELS, DecodedImage

from .run import ROOT, SHARED, machine, table

TOTAL = 100_000_000
"""Images of the cost table."""
NODES = (10, 100)
CORES = (2, 32)
"""Cores of a node: those of the machine at hand, and of a usual server, by assumption as fast."""
FEW = 16
"""Images of the runs that show what starting costs."""
BUSY = 0.9
"""Share of its core below which a worker had neighbors."""
STAGES = ("read", "decode", "detect", "mesh", "align", "classify", "blendshapes", "write")


@dataclass(frozen=True, slots=True)
class Run:
    """One run over all images."""

    seconds: float
    """By the clock."""
    cpu: float
    """Processor seconds of all its processes; nan where they are not ours to ask."""
    load: float
    """Load of the machine when it ended."""


Runs = dict[int, list[Run]]
"""Workers → runs over all images."""
Starts = dict[int, Run]
"""Workers → a run over `FEW` images."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--ray-repeats", type=int, help="of the cluster, whose actors are slow to start; as --repeats without it"
    )
    parser.add_argument("--seconds", type=float, default=420, help="no further round is begun that would end later than this")
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
        costs, facts = stages(Path(folder, "all"))
        processes: Runs = {workers: [] for workers in (1, 2)}
        starts = {workers: command(few, workers) for workers in processes}
        cluster = ray_runs(Path(folder, "all"), args.ray_repeats or args.repeats)
        took = 0.0
        for number in range(args.repeats):
            if number and time.perf_counter() - began + took > args.seconds:
                break  # on a busy machine
            before = time.perf_counter()
            for workers, runs in processes.items():
                runs.append(command(Path(folder, "all"), workers))
            took = time.perf_counter() - before
    parts = [head, scaling(args.images, processes, starts, cluster), stage_table(costs, facts)]
    parts.append(cost_table(costs, facts, efficiency(args.images, processes, starts)))
    loads = [run.load for runs in (*processes.values(), *cluster.values()) for run in runs]
    parts.append(
        f"Load (mean number of processes that wanted a core, of {os.cpu_count()}) after each run: "
        f"{', '.join(f'{load:.1f}' for load in loads)}. All of it took {time.perf_counter() - began:.0f} s.\n"
    )
    path = args.out or ROOT / "docs" / "benchmarks" / f"{today}-{commit}-scaling.md"
    path.write_text("\n".join(parts), encoding="utf-8")
    print(path)


def plant(folder: Path, count: int) -> None:
    """Copy so many images into a folder."""
    folder.mkdir()
    found = [
        path
        for place in ("london/images", "photos")
        for path in sorted((SHARED / "data" / place).rglob("*"))
        if path.suffix in (".jpg", ".png")
    ]
    random.Random(0).shuffle(found)  # so that the first of them are a fair choice
    for number, path in zip(range(count), itertools.cycle(found), strict=False):
        shutil.copyfile(path, folder / f"{number:05d}{path.suffix}")


def command(folder: Path, workers: int) -> Run:
    """Run the command as a user does, its start included."""
    with tempfile.TemporaryDirectory() as out:
        line = [sys.executable, "-m", "mien", "batch", str(folder), "--out", f"{out}/read", "--workers", str(workers)]
        line += ["--shard-size", str(BATCH)]  # so that the last parts do not leave a worker idle for long
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(line, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        after, seconds = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    return Run(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, os.getloadavg()[0])


def ray_runs(folder: Path, repeats: int) -> Runs:
    """Return actors → runs on a cluster of two nodes on this machine; nothing where Ray is not installed."""
    line = [sys.executable, "-m", "benchmarks.scaling", "--ray", str(folder), str(repeats)]
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **quiet})
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return {}
    found = json.loads(done.stdout.splitlines()[-1])
    return {int(actors): [Run(*run) for run in runs] for actors, runs in found.items()}


def on_two_nodes(folder: str, repeats: int) -> dict[int, list[tuple[float, float, float]]]:
    """Start two nodes of one core, and read with one actor and with two, in turns; their start is not measured."""
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


def stages(folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return the milliseconds that each stage of an image costs in one worker, and facts about the images.

    Processor time of this thread, so that neighbors count little; reading by the clock, as it is waiting, with each file put
    out of the machine's memory before, where the system lets us.
    """
    options = Options()
    read, spent = options.open(), dict.fromkeys(STAGES, 0.0)
    # Each image once: rows that are equal would be compressed to nothing.
    paths = sorted({hashlib.sha256(path.read_bytes()).digest(): path for path in sorted(folder.iterdir())}.values())

    def empty() -> Rows:
        return Rows(read.card.labels, unsmoothed=False, points=options.points, blendshapes=options.blendshapes, units=False)

    rows, bytes_read, pixels, faces = empty(), 0, 0, 0

    def clock() -> Callable[[str], None]:
        last = time.thread_time()

        def tick(stage: str) -> None:
            nonlocal last
            now = time.thread_time()
            spent[stage] += now - last
            last = now

        return tick

    for number, group in enumerate(_groups([paths[0]] * BATCH + paths)):
        for path in group:
            forget(path)
        began = time.perf_counter()
        contents = [path.read_bytes() for path in group]
        spent["read"] += time.perf_counter() - began
        tick = clock()
        decoded = [decode(data, path.name, MAX_PIXELS) for data, path in zip(contents, group, strict=True)]
        tick("decode")
        images = [DecodedImage(pixel, path.name, notes) for (pixel, notes), path in zip(decoded, group, strict=True)]
        results = read.read_all(images, tick)
        for result in results:
            rows.add(result)
        tick("write")
        if not number:  # that was to warm up
            spent, rows = dict.fromkeys(STAGES, 0.0), empty()
            continue
        bytes_read += sum(map(len, contents))
        pixels += sum(image.width * image.height for image in images)
        faces += sum(len(result.faces) for result in results)
    with tempfile.TemporaryDirectory() as out:
        tick = clock()
        write_part(Folder(out), 0, rows.table())
        tick("write")
        size = sum(path.stat().st_size for path in Path(out).rglob("*.parquet"))
    count = len(paths)
    facts = {"bytes": bytes_read / count, "pixels": pixels / count, "faces": faces / count, "row bytes": size / count}
    return {stage: 1000 * seconds / count for stage, seconds in spent.items()}, facts


def forget(path: Path) -> None:
    """Have the system drop a file from its memory, so that it must be read from where it lies."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _groups(paths: list[Path]) -> Iterator[list[Path]]:
    return (paths[first : first + BATCH] for first in range(0, len(paths), BATCH))


def scaling(count: int, processes: Runs, starts: Starts, cluster: Runs) -> str:
    """Return the table of one worker beside two."""
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
        "two against one, by the clock",
    ]
    kept = efficiency(count, processes, starts)
    shares = [statistics.median(run.cpu / run.seconds / workers for run in runs) for workers, runs in processes.items()]
    note = [
        "Medians; runs take turns, and ratios are of neighbors. The start of the command and the loading of networks are in",
        "it; for Ray the start of actors, not that of the cluster.",
        f"An image more costs {marginal(1, count, processes, starts) * 1000:.1f} ms of processor time with one worker and",
        f"{marginal(2, count, processes, starts) * 1000:.1f} ms with two: **efficiency {kept:.2f} from one worker to two**,",
        "start aside. That is processor time: waiting is not in it.",
        f"Here one worker got {shares[0]:.0%} of a core, two got {shares[1]:.0%} of theirs: the rest went to other work or to"
        " waiting, so the clock's ratios say little of the software."
        if min(shares) < BUSY
        else "",
        "" if cluster else "Ray is not installed here, or could not be started.",
    ]
    return table(f"One worker and two: {count} images", header, rows, " ".join(filter(None, note)))


def marginal(workers: int, count: int, runs: Runs, starts: Starts) -> float:
    """Return the processor seconds that one image more costs."""
    return (statistics.median(run.cpu for run in runs[workers]) - starts[workers].cpu) / (count - FEW)


def efficiency(count: int, runs: Runs, starts: Starts) -> float:
    """Return the processor time that an image costs with one worker over that with two."""
    return marginal(1, count, runs, starts) / marginal(2, count, runs, starts)


def stage_table(costs: dict[str, float], facts: dict[str, float]) -> str:
    """Return the table of what an image costs, by stage."""
    total = sum(costs.values())
    rows = [[stage, f"{cost:.2f}", f"{cost / total:.0%}"] for stage, cost in costs.items()]
    rows.append(["all", f"{total:.2f}", f"{1000 / total:.0f} images/s on a core"])
    note = [
        f"Means over the different images, one process and one thread, in groups of {BATCH}: {facts['bytes'] / 1000:.0f} kB,",
        f"{facts['pixels'] / 1e6:.2f} megapixels, {facts['faces']:.2f} faces; {facts['row bytes']:.0f} bytes of parquet come",
        "out. Processor time, but reading by the clock, from the disk at hand, each file dropped from memory before.",
        "Writing: rows made, compressed and written.",
    ]
    return table("What an image costs", ["stage", "ms an image", "share"], rows, " ".join(note))


def cost_table(costs: dict[str, float], facts: dict[str, float], kept: float) -> str:
    """Return what `TOTAL` images need, reckoned from the costs of the stages and the efficiency of two workers."""
    compute, rows = (sum(costs.values()) - costs["read"]) / 1000, []
    kept, measured = min(kept, 1.0), kept
    for cores, nodes in itertools.product(CORES, NODES):
        rate = nodes * cores * kept / compute
        reading, writing = (rate * facts[name] / 1e6 for name in ("bytes", "row bytes"))
        rows.append([
            f"{nodes} of {cores} cores", f"{rate:,.0f}", f"{TOTAL / rate / 3600:,.1f} h", f"{reading / nodes:,.1f} MB/s",
            f"{reading:,.0f} MB/s", f"{writing:,.1f} MB/s",
        ])  # fmt: skip
    worst = max((stage for stage in costs if stage != "read"), key=costs.__getitem__)
    million = f"{TOTAL // 1_000_000} million"
    note = [
        f"Reckoned, not run: {compute * 1000:.1f} ms of a core an image without reading, {compute * TOTAL / 3600:,.0f} hours",
        f"of one core in all; efficiency {kept:.2f}"
        + (f" (measured {measured:.2f})," if measured > 1 else ",")
        + " that of two workers.",
        f"{CORES[1]} cores assume that a core is as fast as here, and that memory keeps up.",
        f"**The bottleneck is computing, above all {worst}** ({costs[worst]:.1f} ms), as long as storage gives all nodes",
        "together what stands under “read by all”; below that, reading is.",
        f"The disk at hand gave one reader {facts['bytes'] / 1000 / costs['read']:,.0f} MB/s, file by file.",
        f"{million} images are {TOTAL * facts['bytes'] / 1e12:.1f} TB,",
        f"and {TOTAL * facts['row bytes'] / 1e9:,.0f} GB of rows.",
    ]
    header = ["nodes", "images/s", "time", "read by a node", "read by all", "written by all"]
    return table(f"What {million} such images need", header, rows, " ".join(note))


if __name__ == "__main__":
    main()
