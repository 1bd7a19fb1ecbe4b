"""Tables of images: parquet files with a column of encoded bytes, or of paths and URIs."""

import contextlib
from collections.abc import Iterator
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from ..errors import SourceError, reason
from .storage import opened, shown

PLACES = ("path", "uri", "url", "file", "filename", "file_name", "image_path", "source", "image", "picture")
"""Names of text columns with paths or URIs, in order of preference."""

BYTES = ("image", "bytes", "jpg", "jpeg", "png", "picture", "content", "data")
"""Names of binary columns with encoded images, in order of preference; otherwise a single binary column is used."""

BATCH = 16  # rows decoded from a table at once; images are large
REFUSALS = (pa.ArrowException, OSError)  # errors of pyarrow for invalid files


class Table:
    """A parquet file, read sequentially; going back to an earlier row restarts at its row group. SourceError if invalid."""

    def __init__(self, file: Any, name: str) -> None:
        self.name = name
        try:
            self._file = pq.ParquetFile(file)
        except REFUSALS as error:
            message = f"{name} is not a valid parquet file: {reason(error)}; download it again"
            raise SourceError(message, path=name) from error
        self.rows: int = self._file.metadata.num_rows
        self._column, self._next, self._values = "", 0, iter(())

    @classmethod
    @contextlib.contextmanager
    def opened(cls, place: str) -> Iterator[Self]:
        """Open the table at a location."""
        with opened(place) as file:
            yield cls(file, shown(place))

    def column(self, wanted: str | None) -> tuple[str, bool]:
        """Return the image column, and whether it holds encoded images rather than paths; SourceError if there is none."""
        text, data = {}, {}
        known = ", ".join(self._file.schema_arrow.names)
        for field in self._file.schema_arrow:
            kind = field.type
            if kinds.is_binary(kind) or kinds.is_large_binary(kind):
                data[field.name] = field.name
            elif kinds.is_string(kind) or kinds.is_large_string(kind):
                text[field.name] = field.name
            elif kinds.is_struct(kind) and "bytes" in [part.name for part in kind]:
                data[field.name] = f"{field.name}.bytes"
        if wanted is not None:
            if wanted not in {**text, **data}:
                message = f"{self.name}: no binary or text column {wanted!r}; columns: {known}"
                raise SourceError(message, path=self.name, value=wanted, expected=[*text, *data])
            return ({**text, **data}[wanted]), wanted in data
        for name in (*BYTES, *(data if len(data) == 1 else ())):
            if name in data:
                return data[name], True
        for name in PLACES:
            if name in text:
                return text[name], False
        message = f"{self.name}: no column with images found; choose one of {known} with --column"
        raise SourceError(message, path=self.name, expected=[*text, *data])

    def cell(self, column: str, row: int) -> bytes | None:
        """Return the bytes of a row; fast in ascending order."""
        if column != self._column or row < self._next:
            first, self._next = self._group_of(row)
            self._column, self._values = column, self.cells(column, first)
        value = None
        while self._next <= row:
            value = next(self._values)
            self._next += 1
        return value

    def cells(self, column: str, group: int = 0) -> Iterator[Any]:
        """Yield the values of a column from a row group on; SourceError if the file is corrupt."""
        try:
            groups = list(range(group, self._file.metadata.num_row_groups))
            for batch in self._file.iter_batches(BATCH, groups, [column]):
                for value in batch.column(0):
                    found = value.as_py()
                    yield found["bytes"] if isinstance(found, dict) else found
        except REFUSALS as error:
            self._column = ""  # This iterator is exhausted; the next row restarts at its own row group, which may be intact.
            raise SourceError(f"{self.name} is corrupt: {reason(error)}; download it again", path=self.name) from error

    def _group_of(self, row: int) -> tuple[int, int]:
        """Return the row group of a row and the first row of the group."""
        first = 0
        for group in range(self._file.metadata.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            if row < first + count:
                return group, first
            first += count
        message = f"{self.name} has {first} rows, row {row} is missing: it changed after it was listed; start a new run"
        raise SourceError(message, path=self.name, value=row)
