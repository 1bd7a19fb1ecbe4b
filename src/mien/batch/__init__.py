"""Reading millions of images or thousands of videos: on the cores of one machine, or on a cluster through Ray Data.

    inputs ──► listing ──► shards ──► workers ──► rows/part-00000.parquet … ──► summary.json, failures.csv
               names in     consecutive  a process   one file a shard, written    made from the parts
               order        items        each        whole or not at all

What is to be done is decided before anything is read, and written down: `_job.json` has the options and a digest of the
inputs, `_listing.parquet` the items of each shard. A shard's rows depend on nothing else, so it does not matter who reads it,
when, or how often: the bytes are the same, and a run that was stopped goes on with the parts that are missing.

`items` reads what is listed, `shards` turns a shard into rows with the same `Recognizer.stream` as `mien predict`, `worker` is
the process that does so, `supervising` replaces it when it dies and finds the file that killed it; `pool` and `cluster` hand
out the shards, on one machine and on many, and `driver` is what holds it all together.
"""

from __future__ import annotations

from ..inference.options import Options
from .driver import Progress, batch
from .summary import Summary

__all__ = ["Options", "Progress", "Summary", "batch"]
