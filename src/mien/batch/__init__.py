"""Batch inference over millions of images or thousands of videos, on one machine or on a cluster through Ray Data.

    inputs ──► listing ──► shards ──► workers ──► rows/part-00000.parquet … ──► summary.json, failures.csv
               all inputs   consecutive  one process one file per shard,          aggregated from the parts
               in order     items        each        written atomically

The work is planned before the first image is read: `_job.json` holds the options and a digest of the inputs, `_listing.parquet`
the items of each shard. The rows of a shard depend only on them, so any worker may process it at any time with identical
bytes as the result, and an interrupted run resumes with the missing parts.

`items` reads listed inputs; `worker` is the process that turns a shard into rows, with the same `Recognizer.stream` as `mien
predict`; `supervising` distributes shards on one machine, restarts crashed workers and isolates the file that crashed them;
`cluster` distributes them on many machines; `driver` ties them together.
"""

from ..inference.options import Options
from .driver import Progress, batch
from .summary import Summary

__all__ = ["Options", "Progress", "Summary", "batch"]
