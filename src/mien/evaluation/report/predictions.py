"""`predictions.csv`: the predictions of a model, one row per image; every metric of a report is computed from it.

| column | content |
|---|---|
| `sample`, `label`, `part`, `subject` | image, true class, part of the dataset, person; empty where unknown |
| `status` | one of `STATUSES` |
| `predicted`, `confidence`, `certain` | most probable class, its probability, and whether that reaches the threshold |
| `p:CLASS`, `p:AUn` | probability of a class or an action unit; empty without a prediction |
| `valence`, `arousal`, `AUn` | annotations; empty where not annotated |
| `predicted:valence`, `predicted:arousal` | predictions |
| `group:NAME`, `slice:NAME` | group of the person; image statistics and head pose |
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np

from ...errors import DatasetError
from ...io.files import csv_text

OK, NO_FACE, UNREADABLE, OTHER_CLASS = "ok", "no face", "unreadable", "class not known"
"""Values of `status`. Images of a class that the model does not have are excluded from all metrics; images without a face and
unreadable images count as wrong."""
STATUSES = (OK, NO_FACE, UNREADABLE, OTHER_CLASS)

# Columns that every file has, in this order.
FIXED = ("sample", "label", "part", "status", "predicted", "confidence", "certain", "subject")
DERIVED = ("predicted", "confidence")  # columns of the file that follow from the probabilities
AFFECT = ("valence", "arousal")


class Predictions:
    """The table in memory: name of a column, as in the file but without `DERIVED`, → (N,) array.

    Text is str, empty where unknown; numbers are float64, NaN where unknown; annotations of action units are int64, −1 where
    missing; `certain` is bool.
    """

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        self.columns = columns
        self.sample, self.label, self.part = columns["sample"], columns["label"], columns["part"]
        self.status, self.certain, self.subject = columns["status"], columns["certain"], columns["subject"]
        self.classes = tuple(name[2:] for name in columns if name.startswith("p:") and not is_unit(name[2:]))

    def __len__(self) -> int:
        return len(self.sample)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(N, K) float64 in the order of `classes`, NaN without a prediction."""
        return self._stacked([f"p:{name}" for name in self.classes])

    @cached_property
    def truth(self) -> np.ndarray:
        """(N,) index into `classes`, −1 where unlabeled or of another class."""
        index = {name: number for number, name in enumerate(self.classes)}
        return np.array([index.get(name, -1) for name in self.label.tolist()], np.int64)

    @cached_property
    def predicted(self) -> np.ndarray:
        """(N,) index into `classes` of the most probable class, −1 without a prediction."""
        if not self.classes:
            return np.full(len(self), -1)
        known = self.status == OK
        return np.where(known, np.where(known[:, None], self.probabilities, 0).argmax(1), -1)

    @cached_property
    def confidence(self) -> np.ndarray:
        """(N,) probability of the predicted class, NaN without a prediction."""
        return self.probabilities.max(1) if self.classes else np.full(len(self), np.nan)

    @property
    def counted(self) -> np.ndarray:
        """(N,) bool: rows of the official denominator."""
        return (self.truth >= 0) & (self.status != OTHER_CLASS)

    @property
    def clusters(self) -> np.ndarray | None:
        """(N,) person of each image, whose images are resampled together; None if no person is known."""
        return self.subject if (self.subject != "").any() else None

    @property
    def affect(self) -> dict[str, np.ndarray]:
        """`valence`, `arousal`, `predicted:…` → (N,) float64."""
        return {name: column for name, column in self.columns.items() if name.removeprefix("predicted:") in AFFECT}

    @cached_property
    def unit_names(self) -> tuple[str, ...]:
        """Annotated action units, or the predicted ones without annotations."""
        annotated = tuple(filter(is_unit, self.columns))
        return annotated or tuple(name[2:] for name in self.columns if name.startswith("p:") and is_unit(name[2:]))

    @property
    def units(self) -> np.ndarray | None:
        """(N, U) int: 1 present, 0 absent, −1 not annotated."""
        return self._stacked(self.unit_names) if any(map(is_unit, self.columns)) else None

    @property
    def unit_probabilities(self) -> np.ndarray | None:
        """(N, U) float64."""
        names = [f"p:{name}" for name in self.unit_names]
        return self._stacked(names) if names and names[0] in self.columns else None

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """Name → (N,) str."""
        return self._under("group:")

    @property
    def slices(self) -> dict[str, np.ndarray]:
        """Name → (N,) float64: brightness, contrast, face size, yaw, roll."""
        return self._under("slice:")

    def take(self, rows: np.ndarray) -> "Predictions":
        """Return the rows of these numbers or this mask."""
        return Predictions({name: column[rows] for name, column in self.columns.items()})

    @staticmethod
    def concatenate(parts: Sequence["Predictions"]) -> "Predictions":
        """Return the rows of several tables of the same columns."""
        return Predictions({name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns})

    def write(self, file: IO[str], *, header: bool = True) -> None:
        """Write the rows to an open csv file, and flush it."""
        names = [*FIXED, *(name for name in self.columns if name not in FIXED)]
        ok = self.status == OK
        cells = {name: _cells(column) for name, column in self.columns.items()} | {
            "predicted": [self.classes[index] if index >= 0 else "" for index in self.predicted.tolist()],
            "confidence": _cells(self.confidence),
            "certain": [("yes" if sure else "no") if known else "" for sure, known in zip(self.certain, ok, strict=True)],
        }
        rows = zip(*(cells[name] for name in names), strict=True)
        file.write(csv_text([names, *rows] if header else rows))
        file.flush()

    def _stacked(self, names: Sequence[str]) -> np.ndarray:
        return np.stack([self.columns[name] for name in names], 1) if names else np.empty((len(self), 0))

    def _under(self, prefix: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(prefix): column for name, column in self.columns.items() if name.startswith(prefix)}


def read_predictions(path: str | Path) -> Predictions:
    """Read the file; raises DatasetError if it is missing, corrupt or of another kind."""
    path = Path(path)

    def invalid(problem: str, **facts: object) -> DatasetError:
        return DatasetError(f"{path}: {problem}; run mien evaluate again", path=path, **facts)  # pyrefly: ignore

    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            header, rows = next(reader, []), list(reader)
    except OSError as error:
        raise invalid(f"cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise invalid(f"invalid csv: {error}") from error
    if missing := [name for name in FIXED if name not in header]:
        raise invalid(f"missing columns {', '.join(missing)}", value=header, expected=FIXED)
    if wrong := [number for number, row in enumerate(rows, 2) if len(row) != len(header)]:
        cells = len(rows[wrong[0] - 2])
        raise invalid(f"line {wrong[0]}: expected {len(header)} cells, got {cells}", line=wrong[0], value=cells)
    columns: dict[str, np.ndarray] = {}
    for name, cells in zip(header, zip(*rows, strict=True) if rows else ([] for _ in header), strict=True):
        try:
            if name not in DERIVED:
                columns[name] = _parsed(name, cells)
        except ValueError as error:
            line = next(line for line, cell in enumerate(cells, 2) if not _is_number(cell))
            raise invalid(f"line {line}, {name}: expected a number, got {cells[line - 2]!r}", line=line) from error
    table = Predictions(columns)
    if unknown := sorted(set(table.status.tolist()) - set(STATUSES)):
        raise invalid(f"unknown status {unknown[0]!r} (expected {', '.join(STATUSES)})", value=unknown[0], expected=STATUSES)
    if table.classes and len(bad := np.flatnonzero((table.status == OK) & ~np.isfinite(table.probabilities).all(1))):
        raise invalid(f"line {bad[0] + 2}: status ok with a missing or NaN probability", line=int(bad[0]) + 2)
    return table


def is_unit(name: str) -> bool:
    """Return whether a column is the annotation of an action unit: `AU12`."""
    return name.startswith("AU") and name[2:].isdigit()


def _parsed(name: str, cells: Sequence[str]) -> np.ndarray:
    if name == "certain":
        return np.array([cell == "yes" for cell in cells], bool)
    if name in FIXED or name.startswith("group:"):
        return np.array(list(cells), dtype=str) if len(cells) else np.empty(0, "U1")
    if is_unit(name):
        return np.array([int(cell or -1) for cell in cells], np.int64)
    return np.array([float(cell) if cell else np.nan for cell in cells], np.float64)


def _is_number(cell: str) -> bool:
    try:
        float(cell or 0)
    except ValueError:
        return False
    return True


def _cells(column: np.ndarray) -> Iterable[str]:
    """Return text as it is, numbers with the seven significant digits of float32, and empty cells where unknown."""
    if column.dtype.kind == "U":
        return column.tolist()
    if column.dtype.kind in "ib":
        return ["" if value < 0 else str(int(value)) for value in column.tolist()]
    return ["" if value != value else f"{value:.7g}" for value in column.tolist()]
