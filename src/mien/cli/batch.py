"""`mien batch`: inference on millions of images or thousands of videos into parquet files."""

import time
from typing import Annotated

from cyclopts import Parameter
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

from ..errors import needs
from .flags import NO_FLAGS, Flags
from .progress import Left, LongProgress, Speed
from .terminal import File, Json, counted, for_programs, note, side_console, write_json


def batch(
    *inputs: Annotated[File, Parameter(required=True)],
    out: str,
    resume: bool = False,
    workers: int | None = None,
    ray: str | None = None,
    shard_size: int | None = None,
    timeout: float = 300,
    column: str | None = None,
    json: Json = False,
    flags: Flags = NO_FLAGS,
) -> int:
    """Run inference on millions of images or thousands of videos into parquet files.

    OUT/rows/part-00000.parquet and so on have the rows of mien predict, OUT/failures.csv the unreadable files with reasons,
    OUT/summary.json the counts. Parts are written atomically: an interrupted run resumes with --resume. A file that crashes or
    hangs a worker is reported as failed and skipped. The exit status is 0 if at least one input could be read.

    Examples:
        mien batch photos --out results
        mien batch @names.txt clips/*.mp4 --out results --workers 8 --every 5
        mien batch s3://bucket/photos --out s3://bucket/results --ray auto
        mien batch train-*.tar faces.parquet --out results --points none --no-blendshapes
        mien batch photos --out results --resume

    Args:
        inputs: Images, videos, folders, patterns, http URLs; lists of these (@names or names.txt, one per line), parquet
            files with a column of bytes, paths or URIs, plain tars (WebDataset); fsspec URIs such as s3://….
        out: Output folder: a path or fsspec URI.
        resume: Resume an interrupted run.
        workers: Processes, or Ray actors; by default one per core.
        ray: Address of a Ray cluster (auto, HOST:PORT), or local to start one on this machine. By default Ray is not used.
        shard_size: Images per part, a multiple of 8; by default 64 to 4096, by their number. A video is its own part.
        timeout: Maximum seconds per image, or between two sampled frames of a video. Then the worker is killed; the file is
            retried, and finally reported as failed. inf: no limit.
        column: Column of parquet files with the images, or their paths or URIs.
    """
    with needs("scale"):
        from .. import batch as scaling
    options = flags.options()
    began = time.perf_counter()
    bar = LongProgress(
        TextColumn("inference"), BarColumn(), MofNCompleteColumn(), Speed(), Left(), TextColumn("{task.fields[failed]}"),
        console=side_console(),
    )  # fmt: skip
    task = bar.add_task("", total=None, failed="")

    def tell(done: int, total: int, failures: int) -> None:
        bar.update(task, completed=done, total=total, failed=f"{failures} failed" if failures else "")

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
    parts = [counted(number, name) for name, number in counts.items() if number] + [counted(summary.faces, "face")]
    parts += [f"{summary.failures:,} failed (failures.csv)"] if summary.failures else []
    note(f"{', '.join(parts)} in {took:.1f} s; {summary.new} of {summary.parts} parts are new: {out}", "dim")
    if summary.readable:
        return 0
    note(f"mien: no input could be read; first failure: {summary.reason}")
    return 1
