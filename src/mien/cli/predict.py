"""`mien predict`: run inference on images and videos, and write the results."""

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

from ..inference.recognizer import load
from ..inference.results import Csv, JsonLines, json_line
from ..io.sources import Clip, Frame, iter_images
from ..types import Result
from ..visualization.timeline import Timeline, check_suffix
from .clips import Copies
from .flags import NO_FLAGS, Draw, Flags, layers_of
from .readings import show
from .terminal import counted, for_programs, side_console, table_console, write_line


def predict(
    *paths: Annotated[str, Parameter(required=True)],
    json: bool = False,
    csv: Path | None = None,
    jsonl: Path | None = None,
    bom: bool = False,
    save: Path | None = None,
    draw: Draw = (),
    timeline: Path | None = None,
    flags: Flags = NO_FLAGS,
) -> int:
    """Recognize facial expressions, head pose, gaze and action units in images and videos.

    On a terminal the faces are listed in a table; piped, or with --json, each image is one line of JSON, as
    schemas/result.json in the package describes it. Images that cannot be read are listed at the end with the reason; the
    others are processed all the same, and the exit status is then 1.

    Each frame of a video gives a result, and faces keep a number from frame to frame. Rows are written as they come; a run that
    is interrupted leaves them in NAME.part. The annotated copy keeps the sound. A truncated video is processed up to its end,
    and listed.

    Examples:
        mien predict photo.jpg
        mien predict holiday --csv faces.csv --save annotated
        mien predict https://example.org/team.jpg --detector retinaface
        mien predict crops --detector whole
        mien predict *.jpg | jq .faces[].label
        mien predict clip.mp4 --csv rows.csv --save annotated --draw pose,gaze --timeline clip.html

    Args:
        paths: Images, videos, folders with their sub-folders, patterns, http or https URLs.
        json: Write JSON Lines to stdout, also on a terminal.
        csv: Also write a table to this file, one row per face.
        jsonl: Also write JSON Lines to this file.
        bom: Begin the CSV file with a byte order mark, by which Excel recognizes UTF-8.
        save: Also write annotated images and videos to this folder.
        draw: Layers of annotated images, separated by commas: pose, gaze, mesh.
        timeline: Also plot each face of the videos over time: .png, .svg, .pdf or .html.
        flags: Options of inference.
    """
    if timeline:
        check_suffix(timeline)
    options = flags.options()
    points, groups, layers = options.landmarks, options.groups, layers_of(draw, options)
    frames = iter_images(list(paths), sampling=options.sampling, allow_private=options.allow_private)
    read = load(**options.loading)
    programs, side, began = for_programs(json), side_console(), time.perf_counter()
    roots = [path for path in paths if os.path.isdir(path)]  # noqa: PTH112 - Path.is_dir raises on a name too long
    videos = any(isinstance(item, Clip) for item in frames.items)
    listed: list[Result] = []  # for the table on a terminal only
    failed: list[Result] = []
    plot = Timeline() if timeline else None
    tally: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        sinks: list[Csv | JsonLines] = []
        if jsonl:
            sinks.append(stack.enter_context(JsonLines(jsonl, points=points, groups=groups)))
        if csv:
            units = "action_units" in read.card.outputs
            smoothed = videos and options.smooth is not None
            sinks.append(stack.enter_context(Csv(csv, read.card.labels, groups, unsmoothed=smoothed, units=units, bom=bom)))
        stack.enter_context(_partial(side, sinks))
        copies = Copies(stack, save, roots, layers, options.sampling, options.threads) if save else None
        mixed = json and sys.stdout.isatty()  # a progress bar would break up the lines
        progress = stack.enter_context(_progress(side, len(frames), videos=videos, disable=mixed))
        for frame, result in read.stream(_not_below(frames, save, roots), **options.streaming):
            for sink in sinks:
                sink.write(result)
            if programs:
                write_line(json_line(result, points, groups))
            if copies:
                copies.write(frame, result)
            if plot:
                plot.add(result)
            if result.status == "unreadable":
                failed.append(result)
            elif not programs and result.time is None:
                listed.append(result)
            tally[result.status] += 1
            tally["image" if frame.time is None else "frame"] += 1
            tally["face"] += len(result.faces)
            progress.advance(progress.task_ids[0])
    if plot and timeline:
        plot.save(timeline)
    show(listed, table_console())
    for result in failed:
        side.print(f"failed: {result.message}", style="red")
    counts = [counted(tally[what], what) for what in ("image", "frame") if tally[what]]
    counts += [counted(tally["face"], "face")]
    counts += [f"{tally['no face']} without a face"] if tally["no face"] else []
    counts += [f"{len(failed)} failed"] if failed else []
    took = time.perf_counter() - began
    speed = f", {tally['frame'] / took:.0f} frames/s" if tally["frame"] else ""
    side.print(f"{', '.join(counts)} in {took:.1f} s{speed}", style="dim")
    if written := [str(each) for each in (csv, jsonl, save, timeline) if each]:
        side.print(f"wrote {', '.join(written)}", style="dim")
    elif tally["frame"] and not programs:
        side.print("for the results of each frame, give --csv, --jsonl, --save or --timeline", style="dim")
    return 1 if failed else 0


@contextlib.contextmanager
def _partial(side: Console, sinks: list[Csv | JsonLines]) -> Iterator[None]:
    """Report where the rows are if the run is interrupted."""
    try:
        yield
    except BaseException:
        for sink in sinks:
            if sink.count:
                side.print(f"interrupted; {counted(sink.count, 'result')} in {sink.part}", style="red")
        raise


def _progress(side: Console, total: int, *, videos: bool, disable: bool) -> Progress:
    columns: list[Any] = [TextColumn("inference"), BarColumn(), MofNCompleteColumn()]
    columns += [_Speed(), TimeRemainingColumn()] if videos else [TimeRemainingColumn()]
    progress = Progress(*columns, console=side, transient=True, disable=disable or not side.is_terminal or total < 2)
    progress.add_task("", total=total)
    return progress


class _Speed(ProgressColumn):
    """Frames per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f} frames/s", "dim")


def _not_below(frames: Iterable[Frame], folder: Path | None, roots: list[str]) -> Iterator[Frame]:
    """Skip the output of an earlier run, if annotated images go into a sub-folder of the input."""
    if folder is None or not any(_inside(folder, root) for root in roots):
        yield from frames
    else:
        yield from (frame for frame in frames if not _inside(frame.source, folder))


def _inside(path: str | Path, folder: str | Path) -> bool:
    here, there = os.path.abspath(path), os.path.abspath(folder)  # noqa: PTH100 - links are not resolved
    return Path(there) in Path(here).parents
