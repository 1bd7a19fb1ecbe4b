"""`mien watch`: read a camera and show what is read, as it comes."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from pathlib import Path
from typing import Literal

from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..errors import SourceError
from ..inference.options import USUAL
from ..inference.recognizer import load
from ..inference.results import Csv, JsonLines, json_line
from ..io.sources import iter_images
from ..io.video import Sampling
from ..types import Points, Result
from ..visualization.faces import COLORS, UNKNOWN
from .clips import Copies, seconds
from .terminal import block_bar, counted, for_programs, side_console, table_console, write_line


def watch(
    *,
    camera: str = "0",
    json: bool = False,
    csv: Path | None = None,
    jsonl: Path | None = None,
    save: Path | None = None,
    model: str = USUAL.model,
    detector: str = USUAL.detector,
    max_faces: int | None = USUAL.max_faces,
    points: Points = USUAL.points,
    fps: float | None = USUAL.fps,
    end: str | None = None,
    smooth: Literal["ema", "none"] = "ema",
    window: float = USUAL.window,
    detect_every: int = USUAL.detect_every,
    threads: int = USUAL.threads,
    device: str = USUAL.device,
) -> int:
    """Read the expressions of the faces before a camera.

    A table follows them, one row for each face; piped, or with --json, each frame is one line of JSON. No window is opened and
    no image leaves this machine. Ctrl-C ends it, and what was asked for with --csv, --jsonl and --save is finished.

    Examples:
        mien watch
        mien watch --camera 1 --jsonl faces.jsonl
        mien watch --camera clip.mp4

    Args:
        camera: Number of the camera; or a video that is read in its place.
        json: Write JSON Lines to stdout, also on a terminal.
        csv: Also write a table to this file, one row for each face.
        jsonl: Also write JSON Lines to this file.
        save: Also write the annotated video into this folder.
        model: As for mien predict.
        detector: As for mien predict.
        max_faces: At most this many faces.
        points: How many points of the face mesh the JSON lists: none, 5, 68 or all.
        fps: Read at most this many frames a second.
        end: Stop after this time: seconds, or 1:30.
        smooth: Average faces over the past (ema), or none.
        window: Seconds over which is averaged.
        detect_every: Frames from one search for faces to the next.
        threads: Threads of one network call.
        device: Where networks run: cpu, cuda (cuda:1 is the second GPU), mps, or auto for the best that starts.

    Raises:
        SourceError: the camera gave no image at all.
    """
    sampling = Sampling(fps=fps, end=seconds(end))
    source = int(camera) if camera.isdecimal() else camera
    read = load(model, detector=detector, max_faces=max_faces, points=points != "none", threads=threads, device=device)
    programs, side = for_programs(json), side_console()
    smoothing = None if smooth == "none" else smooth
    count, failed, ticks = 0, None, deque([time.perf_counter()], 30)
    with contextlib.ExitStack() as stack:
        rows: list[Csv | JsonLines] = []
        if csv:
            rows.append(stack.enter_context(Csv(csv, read.card.labels, unsmoothed=smoothing is not None)))
        if jsonl:
            rows.append(stack.enter_context(JsonLines(jsonl, points=points)))
        copies = Copies(stack, save, [], points == "all", sampling, threads) if save else None
        live = None if programs else stack.enter_context(Live(console=table_console(), auto_refresh=False, transient=True))
        plain = live is not None and not live.console.encoding.lower().startswith("utf")
        with contextlib.suppress(KeyboardInterrupt):  # the way to end; the files are finished
            frames = iter_images(source, sampling=sampling)
            for frame, result in read.stream(frames, smooth=smoothing, window=window, detect_every=detect_every):
                if result.status == "unreadable":
                    failed = result.message
                    continue
                for sink in rows:
                    sink.write(result)
                if copies:
                    copies.write(frame, result)
                if programs:
                    write_line(json_line(result, points))
                count += 1
                ticks.append(time.perf_counter())
                if live:
                    rate = (len(ticks) - 1) / max(ticks[-1] - ticks[0], 1e-9)
                    live.update(view(result, rate, plain=plain), refresh=True)
    if failed and not count:
        raise SourceError(failed)
    if failed:
        side.print(f"not read on: {failed}", style="red")
    side.print(counted(count, "frame"), style="dim")
    return 1 if failed else 0


def view(result: Result, rate: float, *, plain: bool) -> Table:
    """Return a table of the faces in one frame."""
    title = f"{result.source} · {result.time or 0:.1f} s · {rate:.0f} frames/s · {len(result.faces)} in view"
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left", title_style="dim")
    for name in ("face", "expression", "", "confidence", "certain"):
        table.add_column(
            name, justify="right" if name in ("face", "confidence") else "left", min_width=24 if not name else None
        )
    for face in sorted(result.faces, key=lambda face: face.track or 0):
        red, green, blue = COLORS.get(face.label, UNKNOWN)
        style = "" if face.label == "neutral" else f"rgb({red},{green},{blue})"
        table.add_row(
            str(face.track or ""),
            Text(face.label, style if face.certain else "dim"),
            Text(block_bar(face.confidence, 24, plain=plain), style if face.certain else "dim"),
            f"{face.confidence:.0%}",
            Text("yes") if face.certain else Text("no", "yellow"),
        )
    return table
