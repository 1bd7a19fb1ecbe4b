"""`mien batch`: read millions of images or thousands of videos into parquet files."""

from __future__ import annotations

import time
from typing import Annotated

from cyclopts import Parameter
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
from rich.text import Text

from ..errors import MissingExtra
from .flags import NO_FLAGS, Flags
from .terminal import Left, LongProgress, counted, for_programs, side_console, write_json


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
    flags: Flags = NO_FLAGS,
) -> int:
    """Read millions of images or thousands of videos into parquet files.

    OUT/rows/part-00000.parquet and so on have the rows of mien predict, OUT/failures.csv what could not be read and why,
    OUT/summary.json the counts. Each part is written whole or not at all: after any interruption the same command with --resume
    goes on with the parts that are missing. A file that ends the process which reads it, or keeps it busy for ever, is found,
    listed and left out. The exit status is 0 if anything could be read.

    Examples:
        mien batch photos --out read
        mien batch @names.txt clips/*.mp4 --out read --workers 8 --every 5
        mien batch s3://bucket/photos --out s3://bucket/read --ray auto
        mien batch train-*.tar faces.parquet --out read --points none --no-blendshapes
        mien batch photos --out read --resume

    Args:
        inputs: Images, videos, folders, patterns, http URLs; lists of these (@names or names.txt, one in each line), parquet
            files with a column of bytes, paths or URIs, plain tars (WebDataset); URIs that fsspec knows, such as s3://….
        out: Folder to write: a path, or a URI that fsspec knows.
        resume: Go on with a run that was stopped.
        workers: Processes, or actors of Ray; by default one for each core.
        ray: Address of a Ray cluster (auto, HOST:PORT), or local to start one on this machine. Without it Ray is not used.
        shard_size: Images in a part, a multiple of 8; by default 64 to 4096, by their number. A video is a part of its own.
        timeout: Seconds that an image may take, or a video from one wanted frame to the next. Whoever reads it longer is
            ended; the file is tried again, and at last listed as failed. Give inf for no limit.
        column: Column of parquet files that holds the images, or their paths or URIs.
        json: Write the counts to stdout as JSON.
        flags: Options of inference.

    Raises:
        MissingExtra: pyarrow or something else of the extra scale is not installed.
    """
    try:
        from .. import batch as scaling
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "pyarrow", "scale") from None
    options = flags.options()
    side, began = side_console(), time.perf_counter()
    bar = LongProgress(
        TextColumn("reading"), BarColumn(), MofNCompleteColumn(), _Speed(), Left(), TextColumn("{task.fields[told]}"),
        console=side,
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
        counts = {name: getattr(summary, name) for name in ("images", "frames", "faces", "failures", "parts")}
        write_json({**counts, "status": dict(summary.status), "labels": dict(summary.labels), "out": out})
    counts = {"image": summary.images, "frame": summary.frames}
    told = [counted(number, name) for name, number in counts.items() if number] + [counted(summary.faces, "face")]
    told += [f"{summary.failures:,} not read (failures.csv)"] if summary.failures else []
    side.print(f"{', '.join(told)} in {took:.1f} s; {summary.new} of {summary.parts} parts are new: {out}", style="dim")
    if summary.readable:
        return 0
    side.print(f"mien: nothing could be read; the first failure: {summary.reason}")
    return 1


class _Speed(ProgressColumn):
    """Images and videos a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f}/s", "dim")
