"""Where the time goes: flame images in docs/images, and `docs/benchmarks/<date>-<commit>-profile.md`.

    pip install py-spy
    python -m benchmarks.profiling
    python -m benchmarks.profiling --ratio                                # what the pipeline adds, alone
    PYTHONPATH=OTHER/src python -m benchmarks.profiling --ratio           # the same of another checkout

Two runs of the command are sampled, one photo and a folder. Then what the pipeline adds to its networks is measured: images
are read, and the very calls that the networks got are made again without anything between them, in turns, in processor time.
"""

from __future__ import annotations

import argparse
import datetime
import html
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mien
from mien.inference.recognizer import Recognizer
from mien.io.images import DecodedImage, read_image
from mien.runtime.onnx import OnnxRuntime

from .run import ROOT, SHARED, machine, table

IMAGES = ROOT / "docs" / "images"
RATE = 250
"""Samples a second."""
WIDTH, ROW, LEAST = 1200, 17, 1 / 400
"""Pixels of a flame image and of a row; share below which a call is not drawn."""
KINDS = {
    "networks run": "#e4572e",
    "networks loaded": "#f3a712",
    "Pillow": "#a8c686",
    "mien, with numpy": "#669bbc",
    "imports": "#b8b8d1",
    "others": "#d9d9d9",
}


@dataclass(slots=True)
class Call:
    """A function as it was called from its parent."""

    samples: int = 0
    calls: dict[str, Call] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=200, help="images of the folder")
    parser.add_argument("--ratio", action="store_true", help="print what the pipeline adds to its networks, and write nothing")
    parser.add_argument("--out", type=Path, help="file to write instead of docs/benchmarks/<date>-<commit>-profile.md")
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    today, shares = datetime.date.today().isoformat(), {}
    portraits = sorted((SHARED / "data" / "london" / "images").rglob("*.jpg"))[: args.photos]
    if args.ratio:
        print(mien.__file__, overhead(portraits), sep="\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        for path in portraits:
            shutil.copyfile(path, f"{folder}/{path.name}")
        for name, source, title in (
            ("photo", str(mien.sample()), "mien predict sample.png"),
            ("folder", folder, f"mien predict FOLDER --jsonl ({len(portraits)} portraits)"),
        ):
            stacks = sample("predict", source, "--jsonl", f"{folder}/{name}.jsonl")
            shares[title] = Counter()
            for stack, count in stacks.items():
                shares[title][kind(stack)] += count
            (IMAGES / f"profile-{name}.svg").write_text(draw(stacks, f"{title}, {today}, {commit}"), encoding="utf-8")
    parts = [f"# {today}, {commit}: where the time goes\n\n{machine()}\n", kinds(shares), overhead(portraits)]
    path = args.out or ROOT / "docs" / "benchmarks" / f"{today}-{commit}-profile.md"
    path.write_text("\n".join(parts), encoding="utf-8")
    print(path)


def sample(*command: str) -> Counter[tuple[str, ...]]:
    """Return the stacks, outermost call first, in which a run of the command was seen, with the number of times."""
    spy = Path(sys.executable).with_name("py-spy")
    with tempfile.TemporaryDirectory() as folder:
        line = [str(spy), "record", "--format", "raw", "--function", "--rate", str(RATE), "--output", f"{folder}/stacks"]
        line += ["--", sys.executable, "-m", "mien", *command]
        subprocess.run(line, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        found: Counter[tuple[str, ...]] = Counter()
        for each in Path(folder, "stacks").read_text(encoding="utf-8").splitlines():
            stack, count = each.rsplit(" ", 1)
            found[tuple(short(frame) for frame in stack.split(";"))] += int(count)
    return found


def short(frame: str) -> str:
    """Return a frame with no more of its path than package and file."""
    name, _, place = frame.rstrip(")").rpartition(" (")
    parts = re.split(r"[/\\]", re.sub(r":\d+$", "", place))
    return f"{name} ({'/'.join(parts[-2:])})"


def kind(stack: tuple[str, ...]) -> str:
    """Return which of `KINDS` the innermost call of a stack is."""
    if any("importlib" in frame for frame in stack):
        return "imports"
    for frame in reversed(stack):
        if "onnxruntime" in frame:
            return "networks run" if ".run" in frame or frame.startswith("run ") else "networks loaded"
        if "(PIL/" in frame:
            return "Pillow"
        if re.search(r"\((mien|detection|cli|sinks)/", frame):
            return "mien, with numpy"
    return "others"


def kinds(shares: dict[str, Counter[str]]) -> str:
    rows = [[name, *(f"{seen[name] / seen.total():.0%}" for seen in shares.values())] for name in KINDS]
    note = (
        "Shares of samples, by the innermost call that belongs to one of these. numpy's own loops count for who calls them. "
        "Flame images: [photo](../images/profile-photo.svg), [folder](../images/profile-folder.svg)."
    )
    return table("Where a run of the command is", ["what", *(f"`{title}`" for title in shares)], rows, note)


def draw(stacks: Counter[tuple[str, ...]], title: str) -> str:
    """Return a flame image, outermost calls on top, as SVG; the machinery of imports is left out of the stacks."""
    root = Call()
    colors: dict[str, str] = {}
    for stack, count in stacks.items():
        root.samples += count
        here = root
        for frame in (frame for frame in stack if "importlib" not in frame):
            here = here.calls.setdefault(frame, Call())
            here.samples += count
            colors.setdefault(frame, KINDS[kind((frame,))])
    boxes: list[str] = []
    depth = _boxes(root, 0.0, 0, root.samples, colors, boxes)
    legend = "".join(
        f'<rect x="{8 + 190 * i}" y="26" width="12" height="12" fill="{color}"/><text x="{24 + 190 * i}" y="36">{name}</text>'
        for i, (name, color) in enumerate(KINDS.items())
        if name != "imports"
    )
    size = f'viewBox="0 0 {WIDTH} {52 + ROW * depth}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="monospace" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/><text x="8" y="17" font-size="13">{html.escape(title)}, '
        f"{root.samples:,} samples</text>{legend}{''.join(boxes)}</svg>\n"
    )


def _boxes(call: Call, left: float, depth: int, total: int, colors: dict[str, str], boxes: list[str]) -> int:
    """Append the boxes of what a call calls, and return the depth below it."""
    deepest = depth
    for name, below in sorted(call.calls.items(), key=lambda each: -each[1].samples):
        share = below.samples / total
        if share < LEAST:
            continue
        x, wide, y = WIDTH * left, WIDTH * share, 48 + ROW * depth
        shown = html.escape(name[: max(int(wide / 6.7) - 1, 0)]) if wide > 30 else ""
        text = f'<text x="{x + 2:.1f}" y="{y + 12}">{shown}</text>' if shown else ""
        boxes.append(
            f'<g><title>{html.escape(name)}: {share:.1%}</title><rect x="{x:.1f}" y="{y}" width="{max(wide - 0.5, 0.2):.1f}" '
            f'height="{ROW - 1}" fill="{colors[name]}"/>{text}</g>'
        )
        deepest = max(deepest, _boxes(below, left, depth + 1, total, colors, boxes))
        left += share
    return max(deepest, depth + bool(call.calls))


class Listening:
    """A session that keeps what it is asked."""

    def __init__(self, session: Any, heard: list[tuple[Any, tuple[Any, ...]]]) -> None:
        self.session, self.heard = session, heard

    def run(self, *asked: Any) -> Any:
        """Answer, and keep the question."""
        self.heard.append((self.session, asked))
        return self.session.run(*asked)


def networks(part: Any, seen: set[int]) -> list[OnnxRuntime]:
    """Return the networks inside an object of this package, each once."""
    if id(part) in seen:
        return []
    seen.add(id(part))
    if isinstance(part, OnnxRuntime):
        return [part]
    names = [*getattr(part, "__dict__", {}), *getattr(type(part), "__slots__", ())]
    inside = [getattr(part, name) for name in names if type(getattr(part, name)).__module__.startswith("mien.")]
    return [found for one in inside for found in networks(one, seen)]


def added(read: Recognizer, images: list[DecodedImage], seconds: float) -> tuple[float, float, float]:
    """Return milliseconds of reading, of its bare calls of networks, and the median of their ratios."""
    heard: list[tuple[Any, tuple[Any, ...]]] = []
    read.read_all(images)  # opens networks that are opened when they are needed
    parts = networks(read, set())
    for part in parts:
        part.session = Listening(part.session, heard)  # pyrefly: ignore
    read.read_all(images)
    for part in parts:
        part.session = part.session.session  # pyrefly: ignore
    whole, bare, end = [], [], time.perf_counter() + seconds
    while len(whole) < 5 or time.perf_counter() < end:
        first = time.thread_time()
        read.read_all(images)
        second = time.thread_time()
        for session, asked in heard:
            session.run(*asked)
        whole.append(second - first)
        bare.append(time.thread_time() - second)
    ratio = statistics.median(a / b for a, b in zip(whole, bare, strict=True))
    return 1000 * statistics.median(whole), 1000 * statistics.median(bare), ratio


def overhead(portraits: list[Path]) -> str:
    read, rows = mien.load(), []
    crowd = SHARED / "data" / "photos" / "solvay_conference_1927.jpg"
    for name, paths in (
        ("one photo, one face", [mien.sample()]),
        ("8 portraits at once", portraits[:8]),
        ("one photo, 29 faces", [crowd]),
    ):
        whole, bare, ratio = added(read, [read_image(path) for path in paths], 12)
        rows.append([name, f"{whole:.1f}", f"{bare:.1f}", f"{ratio - 1:+.0%}"])
    note = (
        "Milliseconds of processor time on one thread, medians, decoding not counted; the ratio is of neighbors. What is "
        "added holds the pixels' own work (bringing the image to the detector's size, cutting crops), checks and results."
    )
    return table("What the pipeline adds to its networks", ["what is read", "whole", "networks alone", "added"], rows, note)


if __name__ == "__main__":
    main()
