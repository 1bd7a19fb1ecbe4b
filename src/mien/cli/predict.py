"""`mien predict`: read images and videos, and write what was read."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..inference.results import Csv, JsonLines, json_line
from ..io.sources import Clip, Frame, iter_images
from ..types import Result
from ..visualization.timeline import Timeline, check_suffix
from .clips import Copies, go_on, run_name
from .flags import AS_USUAL, Reading
from .readings import show
from .terminal import counted, for_programs, side_console, table_console, write_line

NO_MATTER = ("threads", "allow_private")
"""Flags that an interrupted run may be gone on with otherwise."""


def predict(
    *paths: Annotated[str, Parameter(required=True)],
    json: bool = False,
    csv: Path | None = None,
    jsonl: Path | None = None,
    save: Path | None = None,
    timeline: Path | None = None,
    reading: Reading = AS_USUAL,
) -> int:
    """Read the expressions of the faces in images and videos.

    On a terminal the faces are listed in a table; piped, or with --json, each image is one line of JSON, laid out as
    schemas/result.json in the package says. Images that cannot be read are named at the end with the reason. The others
    are read all the same, and the exit status is then 1.

    Each frame of a video is read like an image, and faces keep a number from frame to frame. Rows are written as they come;
    after an interruption the same command goes on after the last frame that --csv and --jsonl hold. The annotated copy keeps
    the sound. A video that ends before its time is read up to there, and named at the end.

    Examples:
        mien predict photo.jpg
        mien predict holiday --csv faces.csv --save annotated
        mien predict https://example.org/team.jpg --detector retinaface
        mien predict crops --detector whole
        mien predict *.jpg | jq .faces[].label
        mien predict clip.mp4 --csv rows.csv --save annotated --timeline clip.html

    Args:
        paths: Images, videos, folders with their sub-folders, patterns, http or https URLs.
        json: Write JSON Lines to stdout, also on a terminal.
        csv: Also write a table to this file, one row for each face.
        jsonl: Also write JSON Lines to this file.
        save: Also write annotated images and videos into this folder.
        timeline: Also draw what each face of the videos showed over time: .png, .svg, .pdf or .html.
        reading: How images and videos are read.
    """
    if timeline:
        check_suffix(timeline)
    options = reading.options()
    sampling, points = options.sampling, options.points
    frames = iter_images(list(paths), sampling=sampling, allow_private=options.allow_private)
    read = options.open()
    programs, side, began = for_programs(json), side_console(), time.perf_counter()
    roots = [path for path in paths if os.path.isdir(path)]  # noqa: PTH112 - Path.is_dir raises on a name too long
    videos = [item for item in frames.items if isinstance(item, Clip)]
    settings = [value for name, value in vars(reading).items() if name not in NO_MATTER]
    run = run_name(frames.items, [*settings, save and str(save)], sampling) if videos else None
    readable: list[Result] = []  # kept for the table only
    failed: list[Result] = []
    shown = Timeline() if timeline else None
    tally: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        rows: list[Csv | JsonLines] = []
        if jsonl:
            rows.append(stack.enter_context(JsonLines(jsonl, points=points, run=run)))
        if csv:
            smoothed = bool(videos) and options.smooth is not None
            rows.append(stack.enter_context(Csv(csv, read.card.labels, unsmoothed=smoothed, run=run)))
        known = go_on(rows)
        first = known.left
        if first:
            side.print(f"going on after {counted(first, 'frame')} of an interrupted run", style="dim")
        copies = Copies(stack, save, roots, points == "all", sampling, options.threads) if save else None
        mixed = json and sys.stdout.isatty()  # a bar would stand among the lines
        progress = stack.enter_context(_progress(side, len(frames), videos=bool(videos), disable=mixed))
        to_read = _not_below(frames, save, roots)
        for count, (frame, result) in enumerate(read.stream(to_read, known=known, **options.streaming)):
            if count >= first:
                for sink in rows:
                    sink.write(result)
                if programs:
                    write_line(json_line(result, points))
            if copies:
                copies.write(frame, result)
            if shown:
                shown.add(result)
            if result.status == "unreadable":
                failed.append(result)
            elif not programs and result.time is None:
                readable.append(result)
            tally[result.status] += 1
            tally["image" if frame.time is None else "frame"] += 1
            tally["face"] += len(result.faces)
            progress.advance(progress.task_ids[0])
    if shown and timeline:
        shown.save(timeline)
    show(readable, table_console())
    for result in failed:
        side.print(f"not read: {result.message}", style="red")
    told = [counted(tally[what], what) for what in ("image", "frame") if tally[what]]
    told += [counted(tally["face"], "face")]
    told += [f"{tally['no face']} without a face"] if tally["no face"] else []
    told += [f"{len(failed)} not read"] if failed else []
    took = time.perf_counter() - began
    speed = f", {(tally['frame'] - first) / took:.0f} frames/s" if tally["frame"] > first else ""
    side.print(f"{', '.join(told)} in {took:.1f} s{speed}", style="dim")
    if written := [str(each) for each in (csv, jsonl, save, timeline) if each]:
        side.print(f"wrote {', '.join(written)}", style="dim")
    elif tally["frame"] and not programs:
        side.print("for what was read in each frame: --csv, --jsonl, --save or --timeline, each with a name", style="dim")
    return 1 if failed else 0


def _progress(side: Console, total: int, *, videos: bool, disable: bool) -> Progress:
    columns: list[Any] = [TextColumn("reading"), BarColumn(), MofNCompleteColumn()]
    columns += [_Speed(), TimeRemainingColumn()] if videos else [TimeRemainingColumn()]
    progress = Progress(*columns, console=side, transient=True, disable=disable or not side.is_terminal or total < 2)
    progress.add_task("", total=total)
    return progress


class _Speed(ProgressColumn):
    """Frames a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f} frames/s", "dim")


def _not_below(frames: Iterable[Frame], folder: Path | None, roots: list[str]) -> Iterator[Frame]:
    """Leave out what an earlier run wrote, where annotated images go into a sub-folder of what is read."""
    if folder is None or not any(_inside(folder, root) for root in roots):
        yield from frames
    else:
        yield from (frame for frame in frames if not _inside(frame.source, folder))


def _inside(path: str | Path, folder: str | Path) -> bool:
    here, there = os.path.abspath(path), os.path.abspath(folder)  # noqa: PTH100 - a link stays where it lies
    return Path(there) in Path(here).parents
