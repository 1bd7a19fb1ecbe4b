"""`mien predict`: read pictures and videos, and write what was read."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..recognizer import load
from ..sinks import Csv, JsonLines, json_line
from ..sources import Clip, Frame, pictures
from ..timeline import Timeline, check_suffix
from ..types import Points, Result
from ..video import Sampling
from .clips import Copies, go_on, run_name, seconds
from .readings import show
from .terminal import counted, for_programs, side_console, table_console, write_line


def predict(
    *paths: Annotated[str, Parameter(required=True)],
    json: bool = False,
    csv: Path | None = None,
    jsonl: Path | None = None,
    save: Path | None = None,
    model: str = "mien-base",
    detector: str = "blazeface",
    max_faces: int | None = None,
    min_size: float = 0,
    threshold: float | None = None,
    max_roll: float = 45,
    small_faces: bool = False,
    points: Points = "5",
    actions: Annotated[bool, Parameter(negative="--no-actions")] = True,
    threads: int = 1,
    allow_private: bool = False,
    every: int = 1,
    fps: float | None = None,
    start: str | None = None,
    end: str | None = None,
    smooth: Literal["ema", "box", "gaussian", "none"] = "ema",
    window: float = 0.25,
    detect_every: int = 10,
    timeline: Path | None = None,
) -> int:
    """Read the expressions of the faces in pictures and videos.

    On a terminal the faces are listed in a table; piped, or with --json, each picture is one line of JSON, laid out as
    schemas/result.json in the package says. Pictures that cannot be read are named at the end with the reason. The others
    are read all the same, and the exit status is then 1.

    Each frame of a video is read like a picture, and faces keep a number from frame to frame. Rows are written as they come;
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
        paths: Pictures, videos, folders with their sub-folders, patterns, http or https URLs.
        json: Write JSON Lines to stdout, also on a terminal.
        csv: Also write a table to this file, one row for each face.
        jsonl: Also write JSON Lines to this file.
        save: Also write annotated pictures and videos into this folder.
        model: A bundled model (see: mien models), a card (.toml), an .onnx file that has its card inside, a .safetensors file
            with its card beside it, or the folder of a training run.
        detector: What finds the faces: blazeface, retinaface, mtcnn, mtcnn-evolve, dlib; whole if each picture is a face crop.
        max_faces: At most this many faces of each picture.
        min_size: Leave out faces whose longer side has fewer pixels.
        threshold: Score from which something is a face; each detector has its own default.
        max_roll: Find faces tilted by up to this many degrees.
        small_faces: Look closer, and slower, for faces that are small in the picture.
        points: How many points of the face mesh the JSON lists: none, 5, 68 or all; annotated pictures show them with all.
        actions: Tell the 52 facial actions in the JSON.
        threads: Threads of one network call.
        allow_private: Let URLs lead to private and local addresses.
        every: Read each n-th frame of a video only.
        fps: Read at most this many frames of a second of video.
        start: Where to begin in each video: seconds, or 1:02:03.5.
        end: Where to end.
        smooth: Average faces over time: ema (over the past), box or gaussian (around each frame), none.
        window: Seconds over which is averaged.
        detect_every: Frames from one search for faces to the next; between, faces are followed. 1 searches each frame.
        timeline: Also draw what each face of the videos showed over time: .png, .svg, .pdf or .html.
    """
    if timeline:
        check_suffix(timeline)
    sampling = Sampling(every, fps, seconds(start), seconds(end))
    frames = pictures(list(paths), sampling=sampling, allow_private=allow_private)
    read = load(
        model,
        detector=detector,
        max_faces=max_faces,
        min_size=min_size,
        threshold=threshold,
        max_roll=max_roll,
        small_faces=small_faces,
        points=points != "none",
        actions=actions,
        threads=threads,
    )
    programs, side, began = for_programs(json), side_console(), time.perf_counter()
    roots = [path for path in paths if os.path.isdir(path)]  # noqa: PTH112 - Path.is_dir raises on a name too long
    videos = [item for item in frames.items if isinstance(item, Clip)]
    options = {"smooth": None if smooth == "none" else smooth, "window": window, "detect_every": detect_every}
    settings = [model, detector, max_faces, min_size, threshold, max_roll, small_faces, points, actions, save and str(save)]
    run = run_name(frames.items, [*settings, *options.values()], sampling) if videos else None
    readable: list[Result] = []  # kept for the table only
    failed: list[Result] = []
    shown = Timeline() if timeline else None
    tally: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        rows: list[Csv | JsonLines] = []
        if jsonl:
            rows.append(stack.enter_context(JsonLines(jsonl, points=points, run=run)))
        if csv:
            smoothed = bool(videos) and options["smooth"] is not None
            rows.append(stack.enter_context(Csv(csv, read.card.labels, unsmoothed=smoothed, run=run)))
        known = go_on(rows)
        first = known.left
        if first:
            side.print(f"going on after {counted(first, 'frame')} of an interrupted run", style="dim")
        copies = Copies(stack, save, roots, points == "all", sampling, threads) if save else None
        mixed = json and sys.stdout.isatty()  # a bar would stand among the lines
        progress = stack.enter_context(_progress(side, len(frames), videos=bool(videos), disable=mixed))
        to_read = _not_below(frames, save, roots)
        for count, (frame, result) in enumerate(read.stream(to_read, known=known, **options)):
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
            tally["picture" if frame.time is None else "frame"] += 1
            tally["face"] += len(result.faces)
            progress.advance(progress.task_ids[0])
    if shown and timeline:
        shown.save(timeline)
    show(readable, table_console())
    for result in failed:
        side.print(f"not read: {result.message}", style="red")
    told = [counted(tally[what], what) for what in ("picture", "frame") if tally[what]]
    told += [counted(tally["face"], "face")]
    told += [f"{tally['no face']} without a face"] if tally["no face"] else []
    told += [f"{len(failed)} not read"] if failed else []
    took = time.perf_counter() - began
    speed = f", {(tally['frame'] - first) / took:.0f} frames/s" if tally["frame"] > first else ""
    side.print(f"{', '.join(told)} in {took:.1f} s{speed}", style="dim")
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
    """Leave out what an earlier run wrote, where annotated pictures go into a sub-folder of what is read."""
    if folder is None or not any(_inside(folder, root) for root in roots):
        yield from frames
    else:
        yield from (frame for frame in frames if not _inside(frame.source, folder))


def _inside(path: str | Path, folder: str | Path) -> bool:
    here, there = os.path.abspath(path), os.path.abspath(folder)  # noqa: PTH100 - a link stays where it lies
    return Path(there) in Path(here).parents
