"""`mien batch`: read millions of pictures or thousands of videos into parquet files."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..errors import MissingExtra
from ..types import Points
from .clips import seconds
from .terminal import counted, for_programs, side_console, write_json


def batch(
    *inputs: Annotated[str, Parameter(required=True)],
    out: str,
    resume: bool = False,
    workers: int | None = None,
    ray: str | None = None,
    shard_size: int | None = None,
    timeout: float = 300,
    column: str | None = None,
    json: bool = False,
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
) -> int:
    """Read millions of pictures or thousands of videos into parquet files.

    OUT/rows/part-00000.parquet and so on have the rows of mien predict, OUT/failures.csv what could not be read and why,
    OUT/summary.json the counts. Each part is written whole or not at all: after any interruption the same command with --resume
    goes on with the parts that are missing. A file that ends the process which reads it, or keeps it busy for ever, is found,
    listed and left out. The exit status is 0 if anything could be read.

    Examples:
        mien batch photos --out read
        mien batch @names.txt clips/*.mp4 --out read --workers 8 --every 5
        mien batch s3://bucket/photos --out s3://bucket/read --ray auto
        mien batch train-*.tar faces.parquet --out read --points none --no-actions
        mien batch photos --out read --resume

    Args:
        inputs: Pictures, videos, folders, patterns, http URLs; lists of these (@names or names.txt, one in each line), parquet
            files with a column of bytes, paths or URIs, plain tars (WebDataset); URIs that fsspec knows, such as s3://….
        out: Folder to write: a path, or a URI that fsspec knows.
        resume: Go on with a run that was stopped.
        workers: Processes, or actors of Ray; by default one for each core.
        ray: Address of a Ray cluster (auto, HOST:PORT), or local to start one on this machine. Without it Ray is not used.
        shard_size: Pictures in a part, a multiple of 8; by default 64 to 4096, by their number. A video is a part of its own.
        timeout: Seconds that a picture may take, or a video from one wanted frame to the next. Whoever reads it longer is
            ended; the file is tried again, and at last listed as failed. Give inf for no limit.
        column: Column of parquet files that holds the pictures, or their paths or URIs.
        json: Write the counts to stdout as JSON.
        model: As for mien predict. On a cluster, a path must be the same on all machines.
        detector: As for mien predict.
        max_faces: At most this many faces of each picture.
        min_size: Leave out faces whose longer side has fewer pixels.
        threshold: Score from which something is a face; each detector has its own default.
        max_roll: Find faces tilted by up to this many degrees.
        small_faces: Look closer, and slower, for faces that are small in the picture.
        points: How many points of the face mesh the rows list: none, 5, 68 or all.
        actions: Tell the 52 facial actions.
        threads: Threads of one network call.
        allow_private: Let http URLs lead to private and local addresses.
        every: Read each n-th frame of a video only.
        fps: Read at most this many frames of a second of video.
        start: Where to begin in each video: seconds, or 1:02:03.5.
        end: Where to end.
        smooth: Average faces over time: ema (over the past), box or gaussian (around each frame), none.
        window: Seconds over which is averaged.
        detect_every: Frames of a video from one search for faces to the next.
    """
    try:
        from .. import scaling
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "pyarrow", "scale") from None
    options = scaling.Options(
        model=model, detector=detector, max_faces=max_faces, min_size=min_size, threshold=threshold, max_roll=max_roll,
        small_faces=small_faces, points=points, actions=actions, threads=threads, allow_private=allow_private, every=every,
        fps=fps, start=seconds(start), end=seconds(end), smooth=None if smooth == "none" else smooth, window=window,
        detect_every=detect_every,
    )  # fmt: skip
    side, began = side_console(), time.perf_counter()
    bar = Progress(
        TextColumn("reading"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn(),
        TextColumn("{task.fields[told]}"), console=side, transient=True, disable=not side.is_terminal,
    )  # fmt: skip
    task = bar.add_task("", total=None, told="")

    def tell(done: int, total: int, failures: int) -> None:
        bar.update(task, completed=done, total=total, told=f"{failures} not read" if failures else "")

    with bar:
        summary = scaling.batch(
            inputs, out, options, column=column, workers=workers, shard_size=shard_size, ray=ray, timeout=timeout,
            resume=resume, progress=tell,
        )  # fmt: skip
    took = time.perf_counter() - began
    if for_programs(json):
        counts = {name: getattr(summary, name) for name in ("pictures", "frames", "faces", "failures", "parts")}
        write_json({**counts, "status": dict(summary.status), "labels": dict(summary.labels), "out": out})
    counts = {"picture": summary.pictures, "frame": summary.frames}
    told = [counted(number, name) for name, number in counts.items() if number] + [counted(summary.faces, "face")]
    told += [f"{summary.failures:,} not read (failures.csv)"] if summary.failures else []
    side.print(f"{', '.join(told)} in {took:.1f} s; {summary.new} of {summary.parts} parts are new: {out}", style="dim")
    if summary.readable:
        return 0
    side.print(f"mien: nothing could be read; the first failure: {summary.reason}")
    return 1


class _Speed(ProgressColumn):
    """Pictures and videos a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f}/s", "dim")
