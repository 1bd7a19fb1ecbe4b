"""Inference over one shard with the same `Recognizer.stream` as `mien predict`."""

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
from .items import Item, ItemReader
from .job import TALLY, Job, Shards, write_part
from .rows import Rows
from .storage import Folder

Begin = Callable[[int], None]
"""Called with the index of each item before it is opened, and with the codes below."""

ALIVE = -1
"""Code: still working on the same item."""

WRITING = -2
"""Code: all items are done, the part is being written."""

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
        rows = Rows(self.job.labels, options.groups, unsmoothed=self.job.unsmoothed, units=self.job.units)
        reader, reported = ItemReader(options), time.monotonic()
        baseline = Baseline(options.baseline, self.read)
        with contextlib.closing(reader):
            for frame, result in self.read.stream(reader.frames(items, skip, begin), **options.streaming):
                for final in baseline.push(result):
                    rows.add(final)
                status[result.status] += 1
                labels.update(face.label for face in result.faces)
                count["images" if frame.time is None else "frames"] += 1
                count["faces"] += len(result.faces)
                if time.monotonic() - reported >= PULSE:  # within a long video, and between inference and the next image
                    begin(ALIVE)
                    reported = time.monotonic()
        for final in baseline.close():
            rows.add(final)
        counts = {"items": len(items), **{name: count[name] for name in ("images", "frames", "faces")}}
        counts |= {"status": dict(sorted(status.items())), "labels": dict(sorted(labels.items()))}
        return rows.table({TALLY: json.dumps(counts).encode()}), counts
