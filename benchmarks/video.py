"""Measure the reading of videos and write `docs/benchmarks/<date>-<commit>-video.md`.

    python -m benchmarks.video [speed] [tracking] [memory]
    python -m benchmarks.video earlier --earlier ../mien-0.1        # a checkout of another version, in turns with this one

Times are processor time of this process, so that the load beside it counts little; frames a second on the wall stand beside
them. Needs `../shared` (portraits of the London set, the reference tracker) and PyAV.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import mien
from mien.inference import following, smoothing, tracking
from mien.inference.results import JsonLines
from mien.visualization.timeline import Timeline

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
sys.path.insert(0, str(ROOT / "tests"))

import scripted  # noqa: E402
from clips import frames, write_clip  # noqa: E402

ROUNDS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="speed, tracking, memory, earlier; all but the last if none is named")
    parser.add_argument("--earlier", type=Path, help="root of a checkout of an earlier version, for the part earlier")
    parser.add_argument("--model", default="mien-base", help="model for the part earlier, in this version")
    parser.add_argument("--out", type=Path, help="file to write instead of docs/benchmarks/<date>-<commit>-video.md")
    args = parser.parse_args()
    commit = commit_of(ROOT)
    today = datetime.date.today().isoformat()
    known: dict[str, Callable[[Path], Iterator[str]]] = {"speed": speed, "tracking": track, "memory": memory}
    chosen = args.parts or list(known)
    if args.earlier:
        known["earlier"] = lambda folder: versions(folder, args.earlier.resolve(), args.model)
    path = args.out or ROOT / "docs" / "benchmarks" / f"{today}-{commit}-video.md"
    parts = [f"# Videos, {today}, {commit}\n\n{machine()}\n"]
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            parts += known[name](Path(folder))
            path.write_text("\n".join(parts), encoding="utf-8")  # each part when it is done: the next may take long
    print(path)


def commit_of(root: Path) -> str:
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True).stdout.strip()


def machine() -> str:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    kinds = [kind for kind in ("avx2", "avx512f", "avx512_vnni", "avx_vnni") if f" {kind} " in flags]
    load = os.getloadavg()[0]
    return (
        f"{platform.machine()} with {', '.join(kinds) or 'unknown'} instructions, {os.cpu_count()} cores, load {load:.0f} with "
        f"this run, Python {platform.python_version()}, one thread."
    )


def one_face(folder: Path, count: int = 120) -> Path:
    """640 × 480, 25 frames a second: one portrait that wanders, in the noise of a camera; H.264."""
    (head,) = scripted.cutouts(SHARED, 200, ("003",))
    shown = []
    for number in range(count):
        place = (320 + 60 * np.sin(number / 25), 240 + 20 * np.cos(number / 18))
        shown.append(scripted.paint([head], [place], (640, 480), seed=number).pixels)
    return write_clip(folder / "face.mp4", shown)


def speed(folder: Path) -> Iterator[str]:
    clip = one_face(folder)
    yield "## One face, 640 × 480, from file to result\n"
    yield "| | processor ms a frame | frames per processor second | frames/s on the wall |\n|---|---|---|---|"
    costs = {}
    for what, options, stream in (
        ("followed and smoothed: `read.stream(clip)`", {}, {}),
        ("the same with `mien-nano`", {"model": "mien-nano"}, {}),
        ("expressions only: `mien.load(points=False, blendshapes=False)`", {"points": False, "blendshapes": False}, {}),
        ("expressions only, `mien-nano`", {"model": "mien-nano", "points": False, "blendshapes": False}, {}),
        ("searched in each frame: `detect_every=1`", {}, {"detect_every": 1}),
    ):
        read = mien.load(**options)
        costs[what] = best(lambda read=read, stream=stream: sum(1 for _ in read.stream(clip, **stream)))
    read = mien.load()
    costs["frame by frame: `read(frame.pixels)`"] = best(lambda: sum(read(frame.pixels) is not None for frame in frames(clip)))
    for what, (processor, wall) in costs.items():
        yield f"| {what} | {processor * 1e3:.1f} | {1 / processor:.0f} | {1 / wall:.0f} |"
    first, *_, last = (processor for processor, _ in costs.values())
    yield f"\nBest of {ROUNDS} rounds of 120 frames. Following costs {first / last:.2f} of reading frame by frame.\n"
    yield "## Stages of `read.stream(clip)`, processor ms a frame\n\n| | |\n|---|---|"
    for stage, spent in stages(clip).items():
        yield f"| {stage} | {spent * 1e3:.2f} |"
    yield ""


CHILD = """
import json, os, sys, time
os.sched_setaffinity(0, json.loads(sys.argv[3]))
import mien
read = mien.load(sys.argv[2])
for line in sys.stdin:
    wall, processor = time.perf_counter(), time.process_time()
    count = sum(1 for _ in read.stream(sys.argv[1]))
    print(json.dumps([(time.perf_counter() - wall) / count, (time.process_time() - processor) / count]), flush=True)
"""
"""Reads the clip for each line of its input, on the given cores; prints the seconds of wall and processor time a frame."""


def versions(folder: Path, earlier: Path, model: str, rounds: int = 9) -> Iterator[str]:
    """Compare with an earlier version, in turns, each in a process of its own, with all measures; one thread a network call.

    On one core, and on all: version 0.1 uses one, and threads that share caches add to each other's processor time.
    """
    clip, cores = one_face(folder), sorted(os.sched_getaffinity(0))
    yield f"## This version (`{model}`) and {commit_of(earlier)} in turns, one face, 640 × 480, all measures, ms a frame\n"
    yield "| | earlier, median | this, median | ratio | earlier, least | this, least | ratio | median of the ratios of a turn |"
    yield "|---|---|---|---|---|---|---|---|"
    for where, chosen in (("one core", cores[-1:]), ("all cores", cores)):
        told = in_turns(clip, {"earlier": (earlier, "mien-base"), "this": (ROOT, model)}, chosen, rounds)
        for index, kind in enumerate(("wall", "processor")):
            before, now = ([1e3 * each[index] for each in told[name]] for name in ("earlier", "this"))
            cells = []
            for a, b in ((statistics.median(before), statistics.median(now)), (min(before), min(now))):
                cells += [f"{a:.1f}", f"{b:.1f}", f"{a / b:.2f}"]
            turns = statistics.median(a / b for a, b in zip(before, now, strict=True))
            yield f"| {where}, {kind} | {' | '.join(cells)} | {turns:.2f} |"
    yield f"\n{rounds} rounds of 120 frames, after one that is not counted; load {os.getloadavg()[0]:.1f} at the end.\n"


def in_turns(
    clip: Path, versions: dict[str, tuple[Path, str]], cores: list[int], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Return seconds of wall and processor time a frame of each round, for checkouts and their models by name."""
    told: dict[str, list[tuple[float, float]]] = {name: [] for name in versions}
    with contextlib.ExitStack() as stack:
        children: dict[str, subprocess.Popen[str]] = {}
        for name, (root, model) in versions.items():
            command = [sys.executable, "-c", CHILD, str(clip), model, json.dumps(cores)]
            environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
            children[name] = stack.enter_context(
                subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
        for number, (name, child) in itertools.product(range(1 + rounds), children.items()):
            assert child.stdin and child.stdout
            print(file=child.stdin, flush=True)
            found = json.loads(child.stdout.readline())
            told[name] += [found] if number else []
    return told


def best(work: Callable[[], int]) -> tuple[float, float]:
    """Return the least processor and wall seconds a frame."""
    work()
    found = []
    for _ in range(ROUNDS):
        wall, processor = time.perf_counter(), time.process_time()
        count = work()
        found.append(((time.process_time() - processor) / count, (time.perf_counter() - wall) / count))
    return min(found)[0], min(wall for _, wall in found)


def stages(clip: Path) -> dict[str, float]:
    """Clock what `Stream` calls, by wrapping the real parts."""
    read, spent = mien.load(), {}
    list(read.stream(clip))

    def clocked(stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            start = time.thread_time()
            try:
                return work(*arguments, **options)
            finally:
                spent[stage] = spent.get(stage, 0.0) + time.thread_time() - start

        return run

    landmarker = read.finder.landmarker
    assert landmarker is not None
    with contextlib.ExitStack() as stack:
        for holder, name, stage in (
            (type(read.finder.detector), "_faces", "searching for faces (every 10th frame)"),
            (landmarker, "locate", "mesh"),
            (read, "describe_with", "crop, expressions, blendshapes"),
            (following, "appearance", "appearance of faces"),
            (following, "shrink", "cuts"),
            (tracking.Tracker, "update", "numbers"),
            (smoothing.Exponential, "push", "smoothing"),
        ):
            before = getattr(holder, name)
            stack.callback(setattr, holder, name, before)
            setattr(holder, name, clocked(stage, before))
        start, count = time.process_time(), sum(1 for _ in read.stream(clip))
        total = time.process_time() - start
    decode, _ = best(lambda: sum(frame.pixels.size > 0 for frame in frames(clip)))
    told = {"decoding, conversion to RGB": decode} | {stage: seconds / count for stage, seconds in spent.items()}
    return told | {"all else": total / count - sum(told.values()), "**together**": total / count}


def track(folder: Path) -> Iterator[str]:
    del folder
    sys.path.insert(0, str(SHARED / "tools"))
    from track import FaceTracker

    read = mien.load(blendshapes=False)
    yield "## Numbers of faces, scripted scene: 4 faces cross and pass behind a pillar, 500 frames of 1280 × 720\n"
    yield "| scene | tracker | switches | numbers (true 4) | coverage |\n|---|---|---|---|---|"
    for variant in (0, 1):
        truths: list[list[scripted.Truth]] = []
        ours, theirs, reference = [], [], FaceTracker()
        for _, result in read.stream(scripted.as_frames(scripted.crossing(SHARED, variant=variant), truths), smooth=None):
            ours.append(scripted.numbered(result))
            boxes = np.array([box for _, box in ours[-1]]).reshape(-1, 4)
            known = reference.update(boxes, np.ones(len(boxes)))
            theirs.append([(one.id, one.box.tolist()) for one in known])
        for name, found in (("mien", ours), ("reference, same faces", theirs)):
            score = scripted.score(truths, found)
            yield f"| {variant} | {name} | {score.switches} | {score.numbers} | {score.coverage:.3f} |"
    truths = []
    found = [scripted.numbered(r) for _, r in read.stream(scripted.as_frames(scripted.cuts(SHARED), truths), smooth=None)]
    score = scripted.score(truths, found)
    yield f"| cuts there and back | mien | {score.switches} | {score.numbers} | {score.coverage:.3f} |"
    for name in ("pyfeat_single_face", "london_crossfade_neutral_happy"):
        told = [r.faces[0].track if r.faces else None for _, r in read.stream(SHARED / "data" / "video" / f"{name}.mp4")]
        switches = sum(a != b for a, b in itertools.pairwise(told))
        yield f"| {name} | mien | {switches}{' (its 3 cuts to another person)' if switches else ''} | {len(set(told))} | |"
    yield "\nA switch: a face that is at least half visible has another number than when it was last seen. The tracker's"
    yield "constants were chosen by hand while looking at both scenes, so neither is held out; they say little about crowds.\n"


def memory(folder: Path) -> Iterator[str]:
    """One hour of video, every fiftieth frame read, with rows and a timeline."""
    (head,) = scripted.cutouts(SHARED, 80, ("003",))
    cycle = [scripted.paint([head], [(60 + number % 20, 60)], (128, 128), seed=number).pixels for number in range(50)]
    shown = _Repeated(cycle, 90_000)
    clip = write_clip(folder / "hour.mp4", shown, options={"movflags": "faststart"}, encoder={"preset": "ultrafast"})
    read, timeline, sizes = mien.load(), Timeline(), []
    start = time.process_time()
    with JsonLines(folder / "rows.jsonl") as rows:
        for number, (_, result) in enumerate(read.stream(clip, fps=0.5)):
            rows.write(result)
            timeline.add(result)
            if number % 100 == 99:
                sizes.append((result.time, resident()))
    yield "## Memory: one hour of video (90,000 frames decoded, 1,800 read, rows and timeline kept)\n"
    yield "| minute | resident MB |\n|---|---|"
    for moment, size in sizes:
        yield f"| {moment / 60:.0f} | {size:.0f} |"
    spread = max(size for _, size in sizes) - min(size for _, size in sizes)
    yield f"\nSpread after the first 100 results: {spread:.1f} MB. {time.process_time() - start:.0f} s of processor time.\n"


class _Repeated:
    """A few images as a long sequence."""

    def __init__(self, images: list[np.ndarray], length: int) -> None:
        self.images, self.length = images, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> np.ndarray:
        if index >= self.length:
            raise IndexError
        return self.images[index % len(self.images)]


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
