"""One shard: items in, rows out, through the same `Recognizer.stream` as `mien predict`."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ..inference.recognizer import load
from .items import Item, ItemReader
from .job import TALLY, Job, Shards, write_part
from .rows import Rows
from .storage import Folder

Begin = Callable[[int], None]
"""Called with the place of each item before it is touched, and with the numbers below."""

ALIVE = -1
"""Instead of a place: still at the same item, and some of it is done."""

WRITING = -2
"""Instead of a place: all items are read, and their rows are being written."""

PULSE = 1.0
"""Seconds between two signs of life, at least."""


class ShardReader:
    """Reads shards of one job; loads the networks once.

    Args:
        folder: of the job.
        job: what it is.

    Raises:
        UnknownName: no such model or detector.
        WeightsError: the weights lack a card or do not fit it.
    """

    def __init__(self, folder: Folder, job: Job) -> None:
        self.folder, self.job, self.shards = folder, job, Shards(folder)
        self.read = load(**job.reading.loading)

    def write(self, number: int, skip: Mapping[int, str], begin: Begin) -> dict[str, Any]:
        """Read a shard, write its part and return its tally.

        Args:
            number: of the shard.
            skip: place in the shard → why that item is not touched but reported as unreadable.
            begin: called before each item.
        """
        table, counts = self.rows(self.shards[number], skip, begin)
        begin(WRITING)
        write_part(self.folder, number, table)
        return counts

    def try_out(self, number: int, start: int, stop: int, skip: Mapping[int, str], begin: Begin) -> None:
        """Read a piece of a shard and forget it."""
        self.rows(self.shards[number][start:stop], {at - start: why for at, why in skip.items()}, begin)

    def rows(self, items: Sequence[Item], skip: Mapping[int, str], begin: Begin) -> tuple[pa.Table, dict[str, Any]]:
        """Return the rows of items, and what they count up to."""
        options, count = self.job.reading, Counter[str]()
        status, labels = Counter[str](), Counter[str]()
        rows = Rows(self.job.labels, options.groups, unsmoothed=self.job.unsmoothed, units=self.job.units)
        reader, told = ItemReader(options.sampling, allow_private=options.allow_private), time.monotonic()
        with contextlib.closing(reader):
            for frame, result in self.read.stream(reader.frames(items, skip, begin), **options.streaming):
                rows.add(result)
                status[result.status] += 1
                labels.update(face.label for face in result.faces)
                count["images" if frame.time is None else "frames"] += 1
                count["faces"] += len(result.faces)
                if time.monotonic() - told >= PULSE:  # within a long video, and between the networks and the next image
                    begin(ALIVE)
                    told = time.monotonic()
        counts = {"items": len(items), **{name: count[name] for name in ("images", "frames", "faces")}}
        counts |= {"status": dict(sorted(status.items())), "labels": dict(sorted(labels.items()))}
        return rows.table({TALLY: json.dumps(counts).encode()}), counts
