"""Measure the reading of faces and write `docs/benchmarks/<date>-<commit>.md`: every figure from one run, read as ratios.

    python -m benchmarks.run
    python -m benchmarks.run --fer-python v-fer/bin/python --node-dir node-peers      # beside two other packages
    python -m benchmarks.run --cold before/bin/mien after/bin/mien     # the start of installed versions alone, in turns

The runners of the other packages are in `../shared/peers`, whose README says how they are installed.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import mien
from mien.faces.landmarks import Landmarker
from mien.runtime.open_model import open_model

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
PHOTO = mien.sample()
NOTE = (
    "Decoded image in, faces out. The others give boxes and seven scores (human also its mesh, and of one face only, its "
    "default); the best of repeated passes of five, theirs and ours, ours before and after theirs."
)


def median_ms(call: Callable[[], object], seconds: float = 3.0) -> float:
    """Return the median time of a call in milliseconds over at least 15 calls and `seconds`."""
    call()
    times, start = [], time.perf_counter()
    while len(times) < 15 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    return float(np.median(times)) * 1000


def best_rate(call: Callable[[], object], repeats: int = 5, seconds: float = 3.0) -> float:
    """Return calls a second in the best of many passes of `repeats` calls: how the other packages' runners count."""
    call()
    best, start = np.inf, time.perf_counter()
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        for _ in range(repeats):
            call()
        best = min(best, time.perf_counter() - before)
    return float(repeats / best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fer-python", help="Python of the environment in which the package fer is installed")
    parser.add_argument("--node-dir", help="folder whose node_modules hold @vladmandic/human")
    parser.add_argument("--cold", type=Path, nargs="+", help="commands mien of installations whose start alone is measured")
    parser.add_argument("--out", type=Path, help="file to write instead of docs/benchmarks/<date>-<commit>.md")
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    today = datetime.date.today().isoformat()
    parts = [f"# {today}, {commit}\n\n{machine()}\n"]
    parts += [cold(args.cold)] if args.cold else [startup(), stages(), meshes(), batching(), memory()]
    if args.fer_python or args.node_dir:
        parts.append(peers(args.fer_python, args.node_dir))
    path = args.out or ROOT / "docs" / "benchmarks" / f"{today}-{commit}{'-cold' if args.cold else ''}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts), encoding="utf-8")
    print(path)


def machine() -> str:
    import onnxruntime

    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
    )
    return (
        f"{model or platform.processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start; Python "
        f"{platform.python_version()}, onnxruntime {onnxruntime.__version__}, numpy {np.__version__}. One thread unless said."
    )


def table(title: str, header: list[str], rows: list[list[str]], note: str = "") -> str:
    lines = [f"## {title}\n", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    print("\n".join(lines))
    return "\n".join(lines) + (f"\n\n{note}\n" if note else "\n")


def startup() -> str:
    def run(*command: str) -> str:
        return f"{median_ms(lambda: subprocess.run([sys.executable, *command], capture_output=True, check=True), 1):.0f} ms"

    bare = run("-c", "pass")
    rows = [
        ["python, nothing imported", bare],
        ["`import mien`", run("-c", "import mien")],
        ["`mien --help`", run("-m", "mien", "--help")],
        ["`mien predict` on one photo, cold", run("-m", "mien", "predict", str(PHOTO), "--json")],
    ]
    return table("Start", ["command", "median"], rows)


def cold(commands: list[Path], rounds: int = 20) -> str:
    """Measure `mien predict` on one photo in new processes, of installations in turns, with bytecode as users have it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    silent: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    found: dict[Path, list[tuple[float, float]]] = {command: [] for command in commands}
    for number, command in itertools.product(range(1 + rounds), commands):
        start = time.perf_counter()
        process = subprocess.Popen([command, "predict", PHOTO, "--json"], env=environment, **silent)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = status
        assert status == 0, command
        found[command] += [(time.perf_counter() - start, used.ru_utime + used.ru_stime)] if number else []
    rows = []
    for command, times in found.items():
        wall, processor = zip(*times, strict=True)
        figures = (np.median(wall), min(wall), np.median(processor), min(processor))
        rows.append([command.absolute().parts[-3], *(f"{1000 * each:.0f} ms" for each in figures)])
    normal = os.sched_getscheduler(0) == os.SCHED_OTHER
    note = f"{rounds} rounds after one that is not counted, at {'normal' if normal else 'real-time'} priority."
    header = ["installation", "wall, median", "wall, least", "processor, median", "processor, least"]
    return table("`mien predict` on one photo, cold, in turns", header, rows, note)


def stages() -> str:
    read = mien.load()
    runs: dict[str, list[float]] = {}
    read(PHOTO)
    for _ in range(60):
        for stage, seconds in read.timed(PHOTO)[1].items():
            runs.setdefault(stage, []).append(seconds * 1000)
    medians = {stage: float(np.median(values)) for stage, values in runs.items()}
    total = sum(medians.values())
    rows = [[stage, f"{value:.2f}", f"{value / total:.0%}"] for stage, value in medians.items()]
    rows.append(["all", f"{total:.2f}", f"{1000 / total:.0f} images/s"])
    return table(f"Stages, one {mien.load()(PHOTO).width} px photo with one face", ["stage", "ms (median)", "share"], rows)


def meshes() -> str:
    image = np.asarray(Image.open(PHOTO).convert("RGB"))
    box = mien.load()(PHOTO).faces[0].box
    face = (image, (box.left, box.top, box.right, box.bottom), 0.0)
    reading = {"points and blendshapes": mien.load(), "expressions alone": mien.load(points=False, blendshapes=False)}
    forms = {f"as read for {name}": read.finder.landmarker for name, read in reading.items()}
    forms |= {f"{mesh}, one look": Landmarker(mesh, refine=0) for mesh in ("mesh478", "mesh468")}
    times = {name: median_ms(lambda find=find: find([face])) for name, find in forms.items()}
    first = next(iter(times.values()))
    rows = [[name, f"{value:.2f}", f"{first / value:.1f} ×"] for name, value in times.items()]
    return table("Points of one face", ["mesh", "ms a face", "against the first"], rows)


def batching() -> str:
    photos = [np.asarray(Image.open(PHOTO).convert("RGB"))] * 64
    rows, first = [], 0.0
    for threads in (1, 2):
        read = mien.load(threads=threads)
        for batch in (1, 4, 16, 64):
            value = median_ms(lambda batch=batch, read=read: list(read.many(photos, batch=batch)), 2) / len(photos)
            first = first or value
            rows.append([str(threads), str(batch), f"{value:.2f}", f"{1000 / value:.0f}", f"{first / value:.2f} ×"])
    return table(
        "Batches across images (decoded photos)",
        ["threads", "batch", "ms an image", "images/s", "against one by one"],
        rows,
    )


def memory() -> str:
    code = (
        "import mien, resource\n"
        "from mien.evaluation import memory_mb\n"
        "read = mien.load()\n"
        f"names = ({str(PHOTO)!r} for _ in range(1000))\n"
        "for i, _ in enumerate(read.many(names)):\n"
        "    if i + 1 in (50, 250, 500, 1000):\n"
        "        print(i + 1, int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize() / 2**20)\n"
        "print('peak', memory_mb())\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    rows = [[when, f"{float(value):.0f}"] for when, value in (line.split() for line in out.splitlines())]
    return table("Memory while 1,000 photos are read", ["after images", "resident MB"], rows)


def network_rate(name: str) -> float:
    """Return faces a second of a bundled network alone."""
    runtime = open_model(name)[1]
    faces = np.random.default_rng(0).uniform(-1, 1, (64, 1, 48, 48)).astype(np.float32)
    return 64 * best_rate(lambda: runtime(faces))


def sheet(folder: Path) -> Path:
    """Write an image of eight portraits, 1024 × 512."""
    portraits = sorted((SHARED / "data/london").rglob("*_03.jpg"))[:8]
    whole = Image.new("RGB", (1024, 512))
    for index, path in enumerate(portraits):
        with Image.open(path) as portrait:
            side = min(portrait.size)
            left, top = (portrait.width - side) // 2, (portrait.height - side) // 2
            face = portrait.convert("RGB").resize((256, 256), box=(left, top, left + side, top + side))
        whole.paste(face, (index % 4 * 256, index // 4 * 256))
    whole.save(folder / "sheet.png")
    return folder / "sheet.png"


def peers(fer_python: str | None, node_dir: str | None) -> str:
    """Run the other packages' runners and ours on the same photos, one after the other."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    data = str(SHARED / "data" / "fer2013" / "fer2013.npz")
    commands = {}
    if fer_python:
        commands["fer (tflite, Haar)"] = [fer_python, str(SHARED / "peers/fer/run.py"), data, "--variant", "tflite"]
    if node_dir:
        env["NODE_DIR"] = str(Path(node_dir).resolve())
        commands["@vladmandic/human (wasm)"] = [fer_python or sys.executable, str(SHARED / "peers/human/run.py"), data]
    ours = {
        "mien-base, points and 52 blendshapes": mien.load(),
        "mien-nano, points and 52 blendshapes": mien.load("mien-nano"),
        "mien-base, expressions alone": mien.load(points=False, blendshapes=False),
        "mien-nano, expressions alone": mien.load("mien-nano", points=False, blendshapes=False),
    }
    networks = {name: network_rate(name) for name in ("mien-base", "mien-nano")}
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        photos = {"one 512 × 512 photo": Path(PHOTO), "eight portraits on one image of 1024 × 512": sheet(Path(folder))}
        for what, photo in photos.items():
            image = np.asarray(Image.open(photo).convert("RGB"))
            rates = {
                name: (best_rate(lambda read=read, image=image: read(image)), len(read(image).faces))
                for name, read in ours.items()
            }
            for name, command in commands.items():
                out = f"{folder}/peer"
                call = [*command, "--limit", "512", "--photo", str(photo), "--out", out]
                subprocess.run(call, env=env, check=True, capture_output=True)
                found = json.loads(Path(f"{out}.json").read_text())
                rates[name] = found["img_s_photo"], len(ast.literal_eval(found["photo"].replace("null", "None")))
                network = found.get("img_s_model_only") or found["img_s_model_batch"]  # as each runner calls it
                networks[name] = max(networks.get(name, 0), network)
            for name, read in ours.items():
                rates[name] = max(rates[name][0], best_rate(lambda read=read, image=image: read(image))), rates[name][1]
            best = max(rate * faces for name, (rate, faces) in rates.items() if not name.startswith("mien"))
            rows = [
                [name, f"{rate:.1f}", str(faces), f"{rate * faces:.1f}", f"{rate * faces / best:.1f} ×"]
                for name, (rate, faces) in rates.items()
            ]
            head = ["package", "images/s", "faces found", "faces/s", "against the fastest peer"]
            tables.append(table(f"Beside other packages: {what}, one thread", head, rows, NOTE))
    for name in ("mien-base", "mien-nano"):
        networks[name] = max(networks[name], network_rate(name))
    fastest = max(rate for name, rate in networks.items() if not name.startswith("mien"))
    lines = [[name, f"{rate:,.0f}", f"{rate / fastest:.2f} ×"] for name, rate in networks.items()]
    title = "Networks alone, 48 × 48 crops in batches of 64, one thread"
    return "\n".join([table(title, ["network", "faces/s", "against the fastest peer"], lines), *tables])


if __name__ == "__main__":
    main()
