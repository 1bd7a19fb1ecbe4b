"""Decode randomly mutated images and videos, and count errors, hangs and memory: `python -m fuzz.mutations images 10000`."""

from __future__ import annotations

import argparse
import collections
import io
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

import numpy as np
from PIL import Image

from mien.errors import SourceError
from mien.io.decoding import FORMATS, decode
from mien.io.images import sample
from mien.io.sources import Clip, from_bytes
from mien.io.video import Sampling

LIMIT = 10
"""Seconds for one input."""
CLIPS = {
    "mp4": "libx264", "mkv": "libx264", "webm": "libvpx", "avi": "mpeg4", "ts": "libx264", "flv": "flv1", "asf": "msmpeg4v2",
}  # fmt: skip
"""Container → codec of the videos that are mutated."""


def main() -> int:
    """Run the mutations in a process of their own, which is started again after a crash; exit status 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.mutations", description=__doc__)
    parser.add_argument("kind", choices=("images", "videos"))
    parser.add_argument("count", type=int)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return _inside(options.kind, options.start, options.count)
    tally: collections.Counter[str] = collections.Counter()
    began, start, peak = time.monotonic(), options.start, 0
    while start < options.start + options.count:
        command = [sys.executable, "-m", "fuzz.mutations", options.kind, str(options.start + options.count - start)]
        with subprocess.Popen([*command, "--start", str(start), "--inside"], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                number, outcome, memory = line.rstrip("\n").split("\t")
                start, peak = int(number) + 1, max(peak, int(memory))
                tally[outcome if outcome in ("decoded", "refused") else "FAILED"] += 1
                if outcome not in ("decoded", "refused"):
                    print(f"{options.kind} {number}: {outcome}")
        if process.returncode:
            print(f"{options.kind} {start}: the process ended with status {process.returncode}")
            tally["FAILED"] += 1
            start += 1
    took = time.monotonic() - began
    print(f"{options.count} {options.kind}: {dict(tally)}; largest memory {peak} MB; {took:.0f} s")
    return 1 if tally["FAILED"] else 0


def _inside(kind: str, start: int, count: int) -> int:
    originals = _images() if kind == "images" else _videos()
    signal.signal(signal.SIGALRM, _hang)
    for number in range(start, start + count):
        random = np.random.default_rng(number)
        data = mutate(originals[number % len(originals)], random)
        signal.alarm(LIMIT)
        try:
            outcome = _decode(kind, data, truncated=bool(number % 3 == 0))
        except Exception as error:  # Anything but a SourceError is a fault.
            outcome = f"{type(error).__name__}: {error}"[:200].replace("\n", " ").replace("\t", " ")
        signal.alarm(0)
        print(number, outcome, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, sep="\t", flush=True)
    return 0


def _decode(kind: str, data: bytes, *, truncated: bool) -> str:
    if kind == "images":
        try:
            decode(data, "mutated", 10_000_000, truncated=truncated)
        except SourceError:
            return "refused"
        return "decoded"
    found = from_bytes(data, "mutated", Sampling(), animations=True, max_pixels=10_000_000)
    frames = list(found) if isinstance(found, Clip) else [found]
    return "decoded" if any(frame.image is not None for frame in frames) else "refused"


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    """Return the bytes with one to four changes: bytes replaced, cut, repeated or moved, numbers set to extremes."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 5)):
        size = len(changed)
        if size < 16:
            break
        head = random.random() < 0.5
        at = int(random.integers(0, min(size, 256) if head else size))
        length = int(random.integers(1, max(min(size - at, 1 << int(random.integers(1, 13))), 2)))
        match random.integers(0, 6):
            case 0:
                changed[at] = int(random.integers(0, 256))
            case 1:
                changed[at : at + length] = random.bytes(length)
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at:at] = changed[at : at + length]
            case 4:
                extreme = random.choice([0, 1, 0x7F, 0x80, 0xFF])
                changed[at : at + 4] = bytes([int(extreme)] * 4)
            case _:
                del changed[max(at, 16) :]
    return bytes(changed)


def _hang(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"more than {LIMIT} s")


def _images() -> list[bytes]:
    photo = Image.open(sample()).convert("RGB").resize((96, 96))
    found = []
    for kind in FORMATS:
        for options in ({}, {"save_all": True, "append_images": [photo.rotate(9)]}):
            file = io.BytesIO()
            try:
                photo.save(file, kind, **options)
            except (KeyError, OSError, ValueError, TypeError):  # A plugin that is not installed; a format of one image.
                continue
            found.append(file.getvalue())
    return found


def _videos() -> list[bytes]:
    import av

    photo = Image.open(sample()).convert("RGB").resize((96, 96))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix, codec in CLIPS.items():
            path = os.path.join(folder, f"clip.{suffix}")  # noqa: PTH118
            with av.open(path, "w") as file:
                stream = file.add_stream(codec, rate=25)
                stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"  # pyrefly: ignore
                for number in range(12):
                    frame = av.VideoFrame.from_ndarray(np.asarray(photo.rotate(number)))
                    file.mux(stream.encode(frame))  # pyrefly: ignore
                file.mux(stream.encode(None))  # pyrefly: ignore
            found.append(Path(path).read_bytes())
    animation = io.BytesIO()
    photo.save(animation, "GIF", save_all=True, append_images=[photo.rotate(number) for number in range(1, 6)], duration=40)
    return [*found, animation.getvalue()]


if __name__ == "__main__":
    sys.exit(main())
