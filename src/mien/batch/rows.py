"""Results as rows of parquet: the columns of `mien predict --csv`, and after them what only its JSON has.

One row for each face, one for each image or frame without a face or that could not be read. Values are those of the JSON, not
rounded as in the CSV.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ..inference.results import CSV_COLUMNS
from ..labels import ACTION_UNITS, BLENDSHAPES
from ..types import Face, Points, Result

KINDS: Mapping[str, pa.DataType] = {
    "source": pa.string(), "status": pa.string(), "width": pa.int32(), "height": pa.int32(), "time": pa.float64(),
    "face": pa.int32(), "left": pa.float64(), "top": pa.float64(), "right": pa.float64(), "bottom": pa.float64(),
    "detection": pa.float64(), "label": pa.string(), "confidence": pa.float64(), "certain": pa.bool_(),
    "valence": pa.float64(), "arousal": pa.float64(), "track": pa.int32(), "model": pa.string(), "message": pa.string(),
}  # fmt: skip
"""Column of `CSV_COLUMNS` → type."""

CHUNK = 2048
"""Rows that are held as Python objects before they are packed: a long video has many."""


class Rows:
    """A table that grows by results.

    Args:
        labels: those of the scores, in the order of the card.
        unsmoothed: whether `unsmoothed_LABEL` columns follow, as in the CSV of videos.
        points: how many mesh points each face lists; without any there is no column.
        blendshapes: whether the 52 blendshapes are told.
        units: whether the model tells action units.
    """

    def __init__(self, labels: Sequence[str], *, unsmoothed: bool, points: Points, blendshapes: bool, units: bool) -> None:
        self.labels, self.unsmoothed, self.points = tuple(labels), unsmoothed, points
        fields = [(name, KINDS[name]) for name in CSV_COLUMNS]
        kinds = ("score", "unsmoothed") if unsmoothed else ("score",)
        fields += [(f"{kind}_{label}", pa.float64()) for kind in kinds for label in self.labels]
        fields.append(("notes", pa.list_(pa.string())))
        if points != "none":
            fields.append(("points", pa.list_(pa.list_(pa.float64()))))
        if blendshapes:
            fields.append(("blendshapes", pa.struct([(name, pa.float64()) for name in BLENDSHAPES])))
        if units:
            fields.append(("action_units", pa.struct([(name, pa.float64()) for name in ACTION_UNITS])))
        self.schema = pa.schema(fields)
        self._rows: list[dict[str, Any]] = []
        self._packed: list[pa.RecordBatch] = []

    def add(self, result: Result) -> None:
        """Append the rows of one result."""
        head = {
            "source": result.source, "status": result.status, "width": result.width, "height": result.height,
            "time": result.time, "model": result.model, "message": result.message, "notes": list(result.notes),
        }  # fmt: skip
        self._rows += [{**head, "face": number, **self._face(face)} for number, face in enumerate(result.faces, 1)] or [head]
        if len(self._rows) >= CHUNK:
            self._pack()

    def table(self, metadata: Mapping[bytes, bytes] | None = None) -> pa.Table:
        """Return all rows, in one piece, so that the bytes of a file do not tell how they came together."""
        self._pack()
        table = pa.Table.from_batches(self._packed, self.schema).combine_chunks()
        return table.replace_schema_metadata(dict(metadata) if metadata else None)

    def _pack(self) -> None:
        if self._rows:
            self._packed.append(pa.RecordBatch.from_pylist(self._rows, self.schema))
            self._rows = []

    def _face(self, face: Face) -> dict[str, Any]:
        row = {**face.to_dict(self.points)}
        row |= row.pop("box")
        row |= {f"score_{label}": face.scores[label] for label in self.labels}
        if self.unsmoothed:
            alone = (face.unsmoothed or face).scores
            row |= {f"unsmoothed_{label}": alone[label] for label in self.labels}
        return row
