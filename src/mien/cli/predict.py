"""`mien predict`: read pictures, and write what was read."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..recognizer import load
from ..sinks import Csv, JsonLines, Pictures, json_line
from ..sources import Frame, pictures
from ..types import Points, Result
from .readings import show
from .terminal import for_programs, side_console, table_console, write_line

BATCH = 8
"""Pictures whose faces share the network calls, and the most that are held in memory."""


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
) -> int:
    """Read the expressions of the faces in pictures.

    On a terminal the faces are listed in a table; piped, or with --json, each picture is one line of JSON, laid out as
    schemas/result.json in the package says. Pictures that cannot be read are named at the end with the reason. The others
    are read all the same, and the exit status is then 1.

    Examples:
        mien predict photo.jpg
        mien predict holiday --csv faces.csv --save annotated
        mien predict https://example.org/team.jpg --detector retinaface
        mien predict crops --detector whole
        mien predict *.jpg | jq .faces[].label

    Args:
        paths: Picture files, folders with their sub-folders, patterns, http or https URLs.
        json: Write JSON Lines to stdout, also on a terminal.
        csv: Also write a table to this file, one row for each face.
        jsonl: Also write JSON Lines to this file.
        save: Also write annotated pictures into this folder.
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
    """
    frames = pictures(list(paths), allow_private=allow_private)
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
    programs, side, start = for_programs(json), side_console(), time.perf_counter()
    roots = [path for path in paths if os.path.isdir(path)]  # noqa: PTH112 - Path.is_dir raises on a name too long
    readable: list[Result] = []  # kept for the table only
    failed: list[Result] = []
    count = faces = faceless = 0
    with contextlib.ExitStack() as stack:
        rows = [stack.enter_context(Csv(csv, read.card.labels))] if csv else []
        rows += [stack.enter_context(JsonLines(jsonl, points=points))] if jsonl else []
        annotated = stack.enter_context(Pictures(save, roots=roots, points=points == "all")) if save else None
        mixed = json and sys.stdout.isatty()  # a bar would stand among the lines
        progress = stack.enter_context(_progress(side, len(frames), disable=mixed))
        to_read, kept = itertools.tee(_not_below(frames, save, roots))
        for result, frame in zip(read.many(to_read, batch=BATCH), kept, strict=True):
            for sink in rows:
                sink.write(result)
            if annotated and frame.picture:
                annotated.write(frame.picture, result)
            if programs:
                write_line(json_line(result, points))
            if result.status == "unreadable":
                failed.append(result)
            elif not programs:
                readable.append(result)
            faces, faceless, count = faces + len(result.faces), faceless + (result.status == "no face"), count + 1
            progress.advance(progress.task_ids[0])
    show(readable, table_console())
    for result in failed:
        side.print(f"not read: {result.message}", style="red")
    told = [_number(count, "picture"), _number(faces, "face")]
    told += [f"{faceless} without a face"] if faceless else []
    told += [f"{len(failed)} not read"] if failed else []
    side.print(f"{', '.join(told)} in {time.perf_counter() - start:.1f} s", style="dim")
    return 1 if failed else 0


def _progress(side: Console, total: int, *, disable: bool) -> Progress:
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=side, transient=True, disable=disable or not side.is_terminal or total < 2)
    progress.add_task("", total=total)
    return progress


def _not_below(frames: Iterable[Frame], folder: Path | None, roots: list[str]) -> Iterator[Frame]:
    """Leave out what an earlier run wrote, where annotated pictures go into a sub-folder of what is read."""
    if folder is None or not any(_inside(folder, root) for root in roots):
        yield from frames
    else:
        yield from (frame for frame in frames if not _inside(frame.source, folder))


def _inside(path: str | Path, folder: str | Path) -> bool:
    here, there = os.path.abspath(path), os.path.abspath(folder)  # noqa: PTH100 - a link stays where it lies
    return Path(there) in Path(here).parents


def _number(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
