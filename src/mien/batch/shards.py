"""Inference over one shard with the same `Recognizer.stream` as `mien predict`.

The rows have the columns of `mien predict --csv`, with unrounded values.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ..inference.baseline import Baseline
from ..inference.recognizer import load
from ..inference.results import columns, rows
from ..types import Result
from .items import Item, ItemReader
from .job import TALLY, Job, Shards, write_part
from .storage import Folder

Begin = Callable[[int], None]
"""Called with the index of each item before it is opened, and with the codes below."""

ALIVE = -1
"""Code: still working on the same item."""

WRITING = -2
"""Code: all items are done, the part is being written."""

KINDS: Mapping[type, pa.DataType] = {str: pa.string(), int: pa.int32(), float: pa.float64(), bool: pa.bool_()}
"""Python type of a column → its type in parquet."""

CHUNK = 2048
"""Rows buffered as Python objects before conversion to Arrow."""

PULSE = 1.0
"""Minimum number of seconds between two heartbeats."""


class ShardReader:
    """Processor of the shards of one job; loads the networks once.

    Args:
        folder: folder of the job.
        job: the job.

    Raises:
        UnknownName: no such model or detector.
        WeightsError: the weights lack a card or do not fit it.
    """

    def __init__(self, folder: Folder, job: Job) -> None:
        self.folder, self.job, self.shards = folder, job, Shards(folder)
        self.read = load(**job.reading.loading)

    def write(self, number: int, skip: Mapping[int, str], begin: Begin) -> dict[str, Any]:
        """Process a shard, write its part and return its tally.

        Args:
            number: number of the shard.
            skip: index in the shard → reason to report that item as unreadable without opening it.
            begin: called before each item.
        """
        table, counts = self.rows(self.shards[number], skip, begin)
        begin(WRITING)
        write_part(self.folder, number, table)
        return counts

    def try_out(self, number: int, start: int, stop: int, skip: Mapping[int, str], begin: Begin) -> None:
        """Process a slice of a shard without writing it."""
        self.rows(self.shards[number][start:stop], {at - start: why for at, why in skip.items()}, begin)

    def rows(self, items: Sequence[Item], skip: Mapping[int, str], begin: Begin) -> tuple[pa.Table, dict[str, Any]]:
        """Return the rows of items and their counts."""
        options, count = self.job.reading, Counter[str]()
        status, labels = Counter[str](), Counter[str]()
        kinds = columns(self.job.labels, options.groups, unsmoothed=self.job.unsmoothed, units=self.job.units)
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
        baseline = Baseline(options.baseline, self.read)
        with contextlib.closing(reader):
            for frame, result in self.read.stream(reader.frames(items, skip, begin), **options.streaming):
                add(baseline.push(result))
                status[result.status] += 1
                labels.update(face.label for face in result.faces)
                count["images" if frame.time is None else "frames"] += 1
                count["faces"] += len(result.faces)
                if time.monotonic() - reported >= PULSE:  # within a long video, and between inference and the next image
                    begin(ALIVE)
                    reported = time.monotonic()
        add(baseline.close(), 1)
        counts = {"items": len(items), **{name: count[name] for name in ("images", "frames", "faces")}}
        counts |= {"status": dict(sorted(status.items())), "labels": dict(sorted(labels.items()))}
        # One chunk, so that the bytes of a file do not depend on batching.
        whole = pa.Table.from_batches(packed, schema).combine_chunks()
        return whole.replace_schema_metadata({TALLY: json.dumps(counts).encode()}), counts
