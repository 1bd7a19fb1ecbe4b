"""Results as parquet: the columns of `mien predict --csv`, with unrounded values.

One row per face, and one for each image or frame without a face or that is unreadable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ..inference.results import columns, rows
from ..types import Group, Result

KINDS: Mapping[type, pa.DataType] = {str: pa.string(), int: pa.int32(), float: pa.float64(), bool: pa.bool_()}
"""Python type of a column → its type in parquet."""

CHUNK = 2048
"""Rows buffered as Python objects before conversion to Arrow."""


class Rows:
    """Table of rows, filled result by result.

    Args:
        labels: classes of the scores, in the order of the card.
        groups: groups of columns.
        unsmoothed: whether `unsmoothed_LABEL` columns follow, as in the CSV of videos.
        units: whether the model has an output for action units.
    """

    def __init__(self, labels: Sequence[str], groups: Sequence[Group], *, unsmoothed: bool, units: bool) -> None:
        self.columns, self.groups = columns(labels, groups, unsmoothed=unsmoothed, units=units), tuple(groups)
        self.schema = pa.schema([(name, KINDS[kind]) for name, kind in self.columns.items()])
        self._rows: list[dict[str, Any]] = []
        self._packed: list[pa.RecordBatch] = []

    def add(self, result: Result) -> None:
        """Append the rows of one result."""
        self._rows += rows(result, self.columns, self.groups)
        if len(self._rows) >= CHUNK:
            self._pack()

    def table(self, metadata: Mapping[bytes, bytes] | None = None) -> pa.Table:
        """Return all rows as one chunk, so that the bytes of a file do not depend on batching."""
        self._pack()
        table = pa.Table.from_batches(self._packed, self.schema).combine_chunks()
        return table.replace_schema_metadata(dict(metadata) if metadata else None)

    def _pack(self) -> None:
        if self._rows:
            self._packed.append(pa.RecordBatch.from_pylist(self._rows, self.schema))
            self._rows = []
