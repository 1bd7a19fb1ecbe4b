"""Batch inference over millions of images or thousands of videos, on one machine or on a cluster through Ray Data.

    inputs ──► listing ──► shards ──► workers ──► rows/part-00000.parquet … ──► summary.json, failures.csv
               all inputs   consecutive  one process one file per shard,          aggregated from the parts
               in order     items        each        written atomically

The work is planned before the first image is read: `_job.json` holds the options and a digest of the inputs, `_listing.parquet`
the items of each shard. The rows of a shard depend only on them, so any worker may process it at any time with identical
bytes as the result, and an interrupted run resumes with the missing parts.

`items` lists and reads inputs; `worker` is the process that turns a shard into rows, with the same `Recognizer.stream` as `mien
predict`; `supervising` distributes shards on one machine, restarts crashed workers and isolates the file that crashed them;
`cluster` distributes them on many machines.
"""

import contextlib
import csv
import dataclasses
import datetime
import io
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ..errors import ConfigError
from ..inference.options import DEFAULTS, Options
from ..inference.recognizer import load as load_model
from ..io.files import LOCK, LineFeeds
from ..io.provenance import package_version
from ..runtime.devices import AUTO, CPU, Device, cores
from . import supervising
from .items import list_items
from .job import FAILURES, JOB, LISTING, ROWS, SUMMARY, Job, Listing, Shards, identity, load, part, tallies
from .storage import PART, Folder, scratch
from .supervising import TIMEOUT

__all__ = ["Options", "Progress", "Summary", "batch"]


PACKAGES = ("numpy", "pillow", "onnxruntime", "pyarrow", "av", "fsspec", "ray")  # those whose versions the summary records

Progress = Callable[[int, int, int], None]
"""Receives the number of completed items, of all items, and of unreadable images; may be called from any thread."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals of a run, including the parts of earlier, interrupted runs."""

    items: int  # images and videos
    images: int  # images, including unreadable ones
    frames: int  # frames of videos
    faces: int  # faces
    status: Mapping[str, int]  # status → images and frames
    labels: Mapping[str, int]  # label → faces
    parts: int  # number of parts
    new: int  # number of parts written by this run
    reason: str = ""  # reason of the first failure

    @property
    def failures(self) -> int:
        """Images and videos that are unreadable or truncated."""
        return self.status.get("unreadable", 0)

    @property
    def readable(self) -> int:
        """Readable images and frames."""
        return sum(self.status.values()) - self.failures


def finish(folder: Folder, job: Job, tallies: Mapping[int, Mapping[str, Any]], new: int, run: Mapping[str, Any]) -> Summary:
    """Add up the tallies of all parts, and write `failures.csv`, then `summary.json`, which marks the run as complete.

    `new` is the number of parts written by this run, `run` other facts about it. Only parts with failures are opened.
    """
    counts, status, labels = Counter[str](), Counter[str](), Counter[str]()
    for tally in tallies.values():
        counts.update({name: tally[name] for name in ("items", "images", "frames", "faces")})
        status.update(tally["status"])
        labels.update(tally["labels"])
    reason = ""
    # Failures are spooled to a file: those of a hundred million images may not fit into memory.
    with scratch() as file, io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="") as text:
        writer = csv.writer(LineFeeds(text))
        writer.writerow(["source", "time", "message"])
        for number in (number for number, tally in sorted(tallies.items()) if tally["status"].get("unreadable")):
            for row in _failures(folder, number):
                reason = reason or row[2]
                writer.writerow(row)
        text.flush()
        file.seek(0)
        folder.write(FAILURES, file)
    numbers: dict[str, Any] = {name: counts[name] for name in ("items", "images", "frames", "faces")}
    by_status = dict(sorted(status.items()))
    versions = {name: package_version(name) for name in ("mien", *PACKAGES)}
    record = {
        **numbers,
        "failures": status["unreadable"],
        "status": by_status,
        "labels": {label: labels[label] for label in job.labels},
        "parts": len(tallies),
        "shard_size": job.shard_size,
        "inputs": job.digest,
        "model": job.model,
        "options": job.options,
        "versions": {"python": platform.python_version(), **{name: number for name, number in versions.items() if number}},
        "run": {**run, "new_parts": new},
    }
    folder.write(SUMMARY, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
    return Summary(**numbers, status=by_status, labels=dict(sorted(labels.items())), parts=len(tallies), new=new, reason=reason)


def _failures(folder: Folder, number: int) -> Iterator[tuple[str, str, str]]:
    # Without threads and `read_table(filters=…)`: pyarrow's datasets sometimes abort the process when it exits.
    columns = ["source", "status", "time", "message"]
    with folder.open(part(number)) as file:
        for batch in pq.ParquetFile(file).iter_batches(columns=columns, use_threads=False):
            for row in batch.to_pylist():
                if row["status"] == "unreadable":
                    message = " ".join((row["message"] or "").split())
                    yield row["source"], "" if row["time"] is None else f"{row['time']:.6f}", message


def batch(
    inputs: Sequence[str],
    out: str | os.PathLike[str],
    options: Options | None = None,
    *,
    column: str | None = None,
    workers: int | None = None,
    shard_size: int | None = None,
    ray: str | None = None,
    timeout: float = TIMEOUT,
    resume: bool = False,
    progress: Progress = lambda done, total, failures: None,
) -> Summary:
    """Run inference over all inputs, write the rows to a folder of parquet files, and return the totals over all of them.

    `out/rows/part-00000.parquet` … hold the rows, `out/failures.csv` the unreadable inputs.

    Args:
        inputs: images, videos, folders, patterns, http URLs; lists (`@names` or `names.txt`), tables (`.parquet`), tars
            (`.tar`); URIs of fsspec, such as `s3://bucket/prefix`.
        out: output folder, a path or an fsspec URI. On a cluster, all machines must have access to it.
        options: inference options; None: those of `mien predict`.
        column: column of tables with image bytes, paths or URIs; None: detected.
        workers: processes, or actors on a cluster; None: one per core, or as many actors as the cluster has room for.
        shard_size: images in a part, a multiple of 8; None: by the number of images, 64 to 4096.
        ray: address of a cluster (`"auto"`, `"HOST:PORT"`), `"local"` to start one here; None: processes, without Ray.
        timeout: seconds allowed for one image (including inference on up to 8) or for one sampled frame of a video. A worker
            that takes longer is killed and the file is reported as a failure. `math.inf`: no limit.
        resume: continue an interrupted run in the same folder.
        progress: see `Progress`.

    Raises:
        SourceError: no input can be read.
        ConfigError: `out` contains other files, or an unfinished run without `resume`; or another process is writing to it.
        MissingExtra: pyarrow, fsspec or Ray is not installed.

    Example:
        >>> import tempfile, mien
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     batch([str(mien.sample())], folder, workers=1).labels
        {'happiness': 1}
    """
    folder, began = Folder(out), datetime.datetime.now(datetime.UTC)
    clock = time.perf_counter()
    options = options or DEFAULTS
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be 1 or more, got {workers}", value=workers, expected="1 or more")
    if not timeout > 0:
        message = f"timeout must be a positive number of seconds or inf, got {timeout:g}"
        raise ConfigError(message, value=timeout, expected="above 0")
    if ray is not None and Device.parse(options.device).index:
        message = f"device {options.device!r}: on a cluster Ray assigns GPUs to actors; use device cuda"
        raise ConfigError(message, value=options.device, expected="cuda")
    with contextlib.ExitStack() as ours:
        with contextlib.closing(Listing(list_items(inputs, column))) as found:
            job = describe(found, options, shard_size, here=ray is None)
            ours.enter_context(folder.locked())
            enter(folder, job, found, resume)
        folder.sweep(ROWS)
        done = tallies(folder, job.shards)
        with contextlib.closing(Shards(folder)) as shards:
            waiting = {number: shards.size(number) for number in range(len(shards)) if number not in done}
        totals = Counter[str](lost=0, items=0, failures=0)

        def count(tally: dict[str, Any]) -> None:
            totals.update(items=tally["items"], failures=tally["status"].get("unreadable", 0))

        def report(under_way: int = 0) -> None:
            progress(min(totals["items"] + under_way, job.items), job.items, totals["failures"])

        for tally in done.values():
            count(tally)
        report()
        if waiting:
            if ray is None:
                results = supervising.run(folder.where, waiting, workers or cores(), options.threads, report, timeout)
            else:
                from . import cluster

                results = cluster.run(folder.where, waiting, workers, options.threads, ray, timeout, gpu=job.on_gpu)
            with contextlib.closing(results):
                for number, tally, deaths in results:
                    done[number] = tally
                    totals["lost"] += deaths
                    count(tally)
                    report()
        folder.sweep(ROWS)
        times = {"started": began.isoformat(timespec="seconds"), "seconds": round(time.perf_counter() - clock, 3)}
        run = {**times, "workers": workers or cores(), "ray": ray, "lost_workers": totals["lost"]}
        return finish(folder, job, done, len(waiting), run)


def describe(found: Listing, options: Options, shard_size: int | None, *, here: bool = True) -> Job:
    """Return the job of a listing. The model is opened once, so that its errors are raised before the work starts.

    With `here=False` the work runs on other machines, whose GPUs may differ: the model is then checked on the CPU, and device
    `auto` means the CPU, since Ray reserves GPUs for actors that request them.
    """
    device = Device.parse(options.device)
    if not here and device == AUTO:
        device = CPU
    model = Path(options.model)  # or a name
    placed = dataclasses.replace(options, device=str(device if here else CPU))
    recognizer, size = load_model(**placed.loading), found.shard_size(shard_size)
    options.sampling  # noqa: B018 - raises ConfigError on invalid values
    return Job(
        options=options.to_dict()
        | {"model": str(model.absolute()) if model.exists() else options.model, "device": str(device)},
        model=identity(recognizer.card),
        labels=list(recognizer.card.labels),
        units="action_units" in recognizer.card.outputs,
        items=found.items,
        shards=sum(1 for _ in found.shards(size)),
        shard_size=size,
        digest=found.digest,
    )


def enter(folder: Folder, job: Job, found: Listing, resume: bool) -> None:
    """Write the job to an empty folder, or check that the folder belongs to the same job; otherwise raise ConfigError."""
    before = load(folder)
    if before is None:
        others = [name for name in folder.names() if name not in (LISTING, LOCK) and not name.endswith(PART)]
        if others:
            message = f"{folder} is not empty and not a run of mien batch (found {others[0]}); choose a new folder"
            raise ConfigError(message, path=str(folder), value=others[0])
        found.write(folder, job.shard_size)
        text = json.dumps(dataclasses.asdict(job), indent=1, ensure_ascii=False) + "\n"
        folder.write(JOB, text.encode())  # last: a folder with this file is complete
        return
    expected = None
    if value := job.differences(before):
        reason = f"another run: {'; '.join(value)}. Choose a new folder, or use the same inputs and options"
    elif resume:
        return
    elif SUMMARY in folder.names():
        value, reason = SUMMARY, "this run, finished; choose a new folder to run it again"
    else:
        value = sum(name.endswith(".parquet") and not name.startswith(".") for name in folder.names(ROWS))
        expected, reason = job.shards, f"this run, interrupted after {value} of {job.shards} parts; add --resume to continue it"
    raise ConfigError(f"{folder} holds {reason}", path=str(folder), value=value, expected=expected)
