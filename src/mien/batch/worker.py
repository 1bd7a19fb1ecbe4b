"""The worker process: runs inference over shards with the same `Recognizer.stream` as `mien predict`.

Commands arrive on stdin and messages leave on stdout, one JSON object per line:

    ← {"folder": …}                                        once
    → {"ready": true}
    ← {"shard": 12, "skip": {"7": "reason"}}               process the shard and write its part
    ← {"shard": 12, "skip": {}, "start": 0, "stop": 8}     process this slice without writing it
    → {"at": 3}                                            before the item of this index; −1: still at the same item;
                                                           −2: writing the part
    → {"done": {…tally…}} | {"failed": "reason"}           then waits for the next command
    → {"error": "reason"}                                  the job cannot be processed; exits

The process exits when stdin or stdout is closed, so that a killed driver leaves no workers behind. The driver kills workers
that send no message for too long.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ..errors import MienError
from ..inference.baseline import Baseline
from ..inference.recognizer import load as load_model
from ..inference.results import columns, rows
from ..io.provenance import VERSION
from ..types import Result
from .items import Item, ItemReader
from .job import TALLY, Shards, identity, load, write_part
from .storage import Folder

ALIVE = -1  # sent in the place of an index: still working on the same item
WRITING = -2  # sent in the place of an index: all items are done, the part is being written

KINDS: Mapping[type, pa.DataType] = {str: pa.string(), int: pa.int32(), float: pa.float64(), bool: pa.bool_()}
"""Python type of a column → its type in parquet."""

CHUNK = 2048  # rows buffered as Python objects before conversion to Arrow
PULSE = 1.0  # minimum number of seconds between two heartbeats


def main() -> None:
    """Process commands until stdin closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The driver handles Ctrl-C.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # Output of libraries must not mix with messages.

    def say(**message: Any) -> None:
        answers.write(json.dumps(message).encode() + b"\n")

    with contextlib.suppress(BrokenPipeError):
        try:
            reader = ShardReader(Folder(json.loads(sys.stdin.buffer.readline())["folder"]), lambda at: say(at=at))
        except (MienError, OSError) as error:
            say(error=str(error))
            return
        say(ready=True)
        for line in sys.stdin.buffer:
            try:
                task = json.loads(line)
                say(done=reader.process({int(place): why for place, why in task.pop("skip").items()}, **task))
            except BrokenPipeError:
                raise
            except MienError as error:
                say(error=str(error))
                return
            except OSError as error:
                say(error=f"a part cannot be written: {error}")
                return
            except Exception as error:  # An unexpected decoder error must not end the run.
                say(failed=f"{type(error).__name__}: {error}"[:300])


class ShardReader:
    """Processor of the shards of one job; loads the networks once.

    `begin` is called with the index of each item before it is opened, with `ALIVE`, and with `WRITING`. A folder without a job,
    or with one of another version of mien or of the model, raises MienError.
    """

    def __init__(self, folder: Folder, begin: Callable[[int], None]) -> None:
        job = load(folder)
        if job is None:
            raise MienError(f"{folder} is missing or empty; all machines must have access to the same folder", path=str(folder))
        if job.mien != VERSION:
            both = f"this machine has mien {VERSION}, the run was started with {job.mien}"
            raise MienError(f"{both}; install the same version everywhere", value=VERSION, expected=job.mien)
        self.folder, self.job, self.begin, self.shards = folder, job, begin, Shards(folder)
        self.recognizer = load_model(**job.reading.loading)
        if (found := identity(self.recognizer.card)) != job.model:
            message = f"this machine has the model {found}, the run was started with {job.model}; copy the same file to all"
            raise MienError(message, value=found, expected=job.model)

    def process(self, skip: Mapping[int, str], shard: int, start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """Process a shard and return its tally; write its part unless it is only a slice that ends at `stop`.

        `skip` maps indices in the shard to reasons to report these items as unreadable without opening them.
        """
        table, counts = self.rows(self.shards[shard][start:stop], {at - start: why for at, why in skip.items()})
        if stop is None:
            self.begin(WRITING)
            write_part(self.folder, shard, table)
        return counts

    def rows(self, items: Sequence[Item], skip: Mapping[int, str]) -> tuple[pa.Table, dict[str, Any]]:
        """Return the rows of items, with the columns of `mien predict --csv` and unrounded values, and their counts."""
        options, count = self.job.reading, Counter[str]()
        status, labels = Counter[str](), Counter[str]()
        kinds = columns(self.job.labels, options.groups, unsmoothed=options.smooth is not None, units=self.job.units)
        schema = pa.schema([(name, KINDS[kind]) for name, kind in kinds.items()])
        table: list[dict[str, Any]] = []
        packed: list[pa.RecordBatch] = []

        def add(results: Sequence[Result], most: int = CHUNK) -> None:
            for result in results:
                table.extend(rows(result, kinds, options.groups))
            if len(table) >= most:
                packed.append(pa.RecordBatch.from_pylist(table, schema))
                table.clear()

        reader, reported = ItemReader(options), time.monotonic()
        baseline = Baseline(options.baseline, self.recognizer)
        with contextlib.closing(reader):
            for frame, result in self.recognizer.stream(reader.frames(items, skip, self.begin), **options.streaming):
                add(baseline.push(result))
                status[result.status] += 1
                labels.update(face.label for face in result.faces)
                count["images" if frame.time is None else "frames"] += 1
                count["faces"] += len(result.faces)
                if time.monotonic() - reported >= PULSE:  # within a long video, and between inference and the next image
                    self.begin(ALIVE)
                    reported = time.monotonic()
        add(baseline.close(), 1)
        counts = {"items": len(items), **{name: count[name] for name in ("images", "frames", "faces")}}
        counts |= {"status": dict(sorted(status.items())), "labels": dict(sorted(labels.items()))}
        # One chunk, so that the bytes of a file do not depend on batching.
        whole = pa.Table.from_batches(packed, schema).combine_chunks()
        return whole.replace_schema_metadata({TALLY: json.dumps(counts).encode()}), counts
