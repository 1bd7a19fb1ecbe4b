"""Measure the reading, auditing and preparing of datasets and write `docs/benchmarks/<date>-<commit>-datasets.md`.

    python -m benchmarks.datasets

Needs `../shared/data`. FER2013's csv is rebuilt from its arrays in a temporary folder, as the original would be read.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mien.data.audit import audit, open_splits
from mien.data.datasets import Dataset, open_dataset
from mien.data.preparation import Align, Regions

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"

OPEN_CSV = """
import json, sys, time
from mien.data.datasets import open_dataset
from mien.evaluation import memory_mb
import numpy
start, cpu = time.perf_counter(), time.process_time()
data = open_dataset("fer2013", sys.argv[1], "all")
total = int(data.pixels.sum(dtype=numpy.int64))
peak = memory_mb()
print(json.dumps([time.perf_counter() - start, time.process_time() - cpu, peak, len(data)]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file to write instead of docs/benchmarks/<date>-<commit>-datasets.md")
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    today = datetime.date.today().isoformat()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MIEN_CACHE"] = str(Path(folder) / "cache")
        parts = [
            f"# Datasets, {today}, {commit}\n\n{machine()}\n",
            *reading(Path(folder)),
            *decoding(Path(folder)),
            *working(),
        ]
    path = args.out or ROOT / "docs" / "benchmarks" / f"{today}-{commit}-datasets.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts), encoding="utf-8")
    print(path)


def machine() -> str:
    name, load = platform.processor() or platform.machine(), os.getloadavg()[0]
    return f"{name}, {os.cpu_count()} cores, load beside this run {load:.0f}, Python {platform.python_version()}."


def reading(folder: Path) -> Iterator[str]:
    path = folder / "fer2013.csv"
    write_fer2013(path)
    yield f"## FER2013 from its csv ({path.stat().st_size / 1e6:.0f} MB), every pixel touched\n"
    yield "| | seconds | processor seconds | peak memory, MB |\n|---|---|---|---|"
    for what in ("first time (parsed)", "second time (mapped)", "third time"):
        run = subprocess.run([sys.executable, "-c", OPEN_CSV, str(path)], capture_output=True, text=True, check=True, cwd=ROOT)
        wall, cpu, peak, _ = json.loads(run.stdout)
        yield f"| {what} | {wall:.2f} | {cpu:.2f} | {peak:.0f} |"
    data = open_dataset("fer2013", path, "all")
    assert data.pixels is not None
    pickled, pixels = len(pickle.dumps(data)) / 1e6, data.pixels.nbytes / 1e6
    yield f"\nPickled for a worker process: {pickled:.1f} MB, for {pixels:.0f} MB of pixels that stay in the file.\n"


def write_fer2013(path: Path) -> None:
    data = open_dataset("fer2013", SHARED / "fer2013", "all")
    usage = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
    assert data.pixels is not None
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        for pixels, label, part in zip(data.pixels, data.label, data.part, strict=True):
            writer.writerow([label, " ".join(map(str, pixels.ravel().tolist())), usage[part]])


def decoding(folder: Path) -> Iterator[str]:
    london = open_dataset("csv", SHARED / "london", "all")
    for row, sample in enumerate(london):
        for side, name in ((100, "small"), (224, "middle")):
            place = folder / name / (sample.label or "none")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(sample.read()).resize((side, side)).save(place / f"{row}.jpg", quality=90)
    sets = {
        "FER2013, mapped rows, 48 × 48": open_dataset("fer2013", folder / "fer2013.csv", "test"),
        "JPEG files, 100 × 100": open_dataset("folder", folder / "small", "all"),
        "JPEG files, 224 × 224": open_dataset("folder", folder / "middle", "all"),
        "JPEG files, 512 × 512": london,
    }
    yield "## Samples read (`Sample.read`) per worker and processor second\n\n| | |\n|---|---|"
    for name, data in sets.items():
        yield f"| {name} | {rate(data):,.0f} |"
    yield ""


def rate(data: Dataset, seconds: float = 2.0) -> float:
    """Return samples read per second that this process had a processor for, so that the load beside it does not count."""
    data[0].read()
    start, number = time.process_time(), 0
    while (spent := time.process_time() - start) < seconds:
        data[number % len(data)].read()
        number += 1
    return number / spent


def working() -> Iterator[str]:
    splits = open_splits("fer2013", SHARED / "fer2013")
    yield "## Audit of FER2013\n\n| | seconds | processor seconds |\n|---|---|---|"
    for what, near in (("exact copies, quality", False), ("similar images too", True)):
        wall, cpu = time.perf_counter(), time.process_time()
        audit(splits, near=near)
        yield f"| {what} | {time.perf_counter() - wall:.1f} | {time.process_time() - cpu:.1f} |"
    yield "\n## Preparation, 512 × 512 portraits per worker and processor second\n\n| | |\n|---|---|"
    portraits = [sample.read() for sample in open_dataset("csv", SHARED / "london", "all")[:12]]
    works = {
        "arcface112": Align("arcface112"),
        "arcface112 --author (MTCNN)": Align("arcface112", author=True),
        "ddamfn5": Align("ddamfn5"),
        "dlib-chip": Align("dlib-chip"),
        "fer2013-like": Align("fer2013-like"),
        "regions": Regions(),
    }
    for name, work in works.items():
        make = work.open()
        make(portraits[0])
        times = []
        for pixels in portraits:
            start = time.process_time()
            make(pixels)
            times.append(time.process_time() - start)
        yield f"| {name} | {1 / float(np.median(times)):.0f} |"
    yield ""


if __name__ == "__main__":
    main()
