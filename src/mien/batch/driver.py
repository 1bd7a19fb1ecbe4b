"""`batch`: everything named, read into one folder; and what may be in that folder already."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import time
from collections.abc import Sequence
from typing import Any, Protocol

from ..errors import ConfigError
from ..inference import recognizer
from ..inference.options import DEFAULTS, Options
from ..io.files import LOCK
from ..runtime.devices import AUTO, CPU, Device, cores
from . import listing, pool
from .job import JOB, LISTING, ROWS, SUMMARY, Job, Listing, Shards, absolute, identity, load, tallies
from .storage import PART, Folder
from .summary import Summary, add_up, finish
from .supervising import TIMEOUT


class Progress(Protocol):
    """Is told how far a run is, from any thread."""

    def __call__(self, done: int, total: int, failures: int, /) -> None:
        """Take the number of items done, of all, and of images that could not be read."""
        ...


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
    """Read everything that is named into a folder of parquet files.

    Args:
        inputs: images, videos, folders, patterns, http URLs; lists (`@names` or `names.txt`), tables (`.parquet`), tars
            (`.tar`); URIs of fsspec, such as `s3://bucket/prefix`.
        out: the folder: a path or a URI of fsspec. On a cluster all machines must reach it.
        options: how images are read; None: as `mien predict` does.
        column: of tables, with bytes or with paths and URIs; None: the likeliest.
        workers: processes, or actors on a cluster; None: one for each core here, as many as there is room for on a cluster.
        shard_size: images in a part, a multiple of 8; None: by the number of images, 64 to 4096.
        ray: address of a cluster (`"auto"`, `"HOST:PORT"`), `"local"` to start one here; None: processes, without Ray.
        timeout: seconds that an image may take, the networks' work on up to 8 included, or a video from one wanted frame to
            the next. Whoever reads longer is ended, and the file is a failure. `math.inf`: no limit.
        resume: go on in a folder that holds a part of the same run.
        progress: told how far it is.

    Returns:
        What all parts add up to. `out/rows/part-00000.parquet` … hold the rows, `out/failures.csv` what could not be read.

    Raises:
        SourceError: nothing at all can be read.
        ConfigError: `out` holds something else, or an unfinished run and `resume` was not asked for; or another process on
            this machine writes it.
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
        raise ConfigError(f"workers is {workers}; give 1 or more")
    if not timeout > 0:
        raise ConfigError(f"timeout is {timeout:g}; give seconds, more than 0, or inf for no limit")
    if ray is not None and Device.parse(options.device).index:
        raise ConfigError(f"device {options.device!r}: on a cluster Ray chooses which GPU an actor gets; write cuda")
    with contextlib.ExitStack() as ours:
        with contextlib.closing(Listing(listing.items(inputs, column))) as found:
            job = describe(found, options, shard_size, here=ray is None)
            ours.enter_context(folder.locked())
            enter(folder, job, found, resume)
        folder.sweep(ROWS)
        done = tallies(folder, job.shards)
        with contextlib.closing(Shards(folder)) as shards:
            waiting = {number: shards.size(number) for number in range(len(shards)) if number not in done}
        meter = _Meter(progress, job.items, done)
        lost = 0
        if waiting:
            where = folder.where
            if ray is None:
                results = pool.run(where, waiting, workers or cores(), options.threads, meter.under_way, timeout)
            else:
                from . import cluster

                results = cluster.run(where, waiting, workers, options.threads, ray, timeout, gpu=job.on_gpu)
            with contextlib.closing(results):
                for number, tally, deaths in results:
                    done[number] = tally
                    lost += deaths
                    meter.finished(tally)
        folder.sweep(ROWS)
        summary = add_up(done, len(waiting))
        run = {"started": began.isoformat(timespec="seconds"), "seconds": round(time.perf_counter() - clock, 3)}
        return finish(folder, job, summary, done, {**run, "workers": workers or cores(), "ray": ray, "lost_workers": lost})


def describe(found: Listing, options: Options, shard_size: int | None, *, here: bool = True) -> Job:
    """Return the job of a listing; opens the model once, so that what is wrong with it is said before anything begins.

    What is not read `here` is read where there may be another GPU, or one at all: the model is then tried on the CPU, and the
    device `auto` is the CPU, since Ray keeps GPUs for those who ask for them.
    """
    device = Device.parse(options.device)
    if not here and device == AUTO:
        device = CPU
    placed = dataclasses.replace(options, device=str(device if here else CPU))
    read, size = recognizer.load(**placed.loading), found.shard_size(shard_size)
    options.sampling  # noqa: B018 - refuses what makes no sense
    return Job(
        options={**options.to_dict(), "model": absolute(options.model), "device": str(device)},
        model=identity(read.card),
        labels=list(read.card.labels),
        units="action_units" in read.card.outputs,
        items=found.items,
        videos=found.videos,
        shards=sum(1 for _ in found.shards(size)),
        shard_size=size,
        digest=found.digest,
    )


def enter(folder: Folder, job: Job, found: Listing, resume: bool) -> None:
    """Write down what is to be done, or make sure that the folder belongs to it.

    Raises:
        ConfigError: the folder holds something else, or an unfinished run and `resume` was not asked for.
    """
    before = load(folder)
    if before is None:
        others = [name for name in folder.names() if name not in (LISTING, LOCK) and not name.endswith(PART)]
        if others:
            raise ConfigError(f"{folder} is not empty and holds no run of mien batch ({others[0]}, …); give a new folder")
        found.write(folder, job.shard_size)
        folder.write(JOB, job.to_json())  # last: a folder with this file is complete
        return
    if differences := job.differences(before):
        raise ConfigError(
            f"{folder} holds another run: {'; '.join(differences)}. Give a new folder, or the inputs and options of that run"
        )
    if resume:
        return
    if SUMMARY in folder.names():
        raise ConfigError(f"{folder} holds this very run, finished; give a new folder to read everything again")
    there = sum(name.endswith(".parquet") and not name.startswith(".") for name in folder.names(ROWS))
    raise ConfigError(
        f"{folder} holds this run, stopped with {there} of {job.shards} parts; add --resume to go on with the others"
    )


class _Meter:
    """Adds up what is done in finished shards and in those under way."""

    def __init__(self, progress: Progress, total: int, done: dict[int, dict[str, Any]]) -> None:
        self._progress, self._total = progress, total
        self._items = sum(tally["items"] for tally in done.values())
        self._failures = sum(tally["status"].get("unreadable", 0) for tally in done.values())
        progress(self._items, total, self._failures)

    def under_way(self, items: int) -> None:
        self._progress(min(self._items + items, self._total), self._total, self._failures)

    def finished(self, tally: dict[str, Any]) -> None:
        self._items += tally["items"]
        self._failures += tally["status"].get("unreadable", 0)
        self._progress(self._items, self._total, self._failures)
