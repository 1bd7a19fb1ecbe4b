"""`predictions.csv`: what a model answered, a row an image. Everything that a report says is computed from it.

Columns: `sample`, `label`, `part`, `status`, `predicted`, `confidence`, `certain`, `subject`; then `p:CLASS` for every class,
`valence`, `arousal`, `predicted:valence`, `predicted:arousal`, `AUn`, `p:AUn`, `group:NAME` and `slice:NAME`, where known.
An empty cell means "not known", or "no answer" in the columns of the model.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np

from ...errors import DatasetError
from ...io.files import LineFeeds

OK, NO_FACE, UNREADABLE, OTHER_CLASS = "ok", "no face", "unreadable", "class not known"
"""Values of `status`. An image of a class that the model does not know is left out of every figure; one without a face, or one
that cannot be read, counts as wrong."""
STATUSES = (OK, NO_FACE, UNREADABLE, OTHER_CLASS)

FIXED = ("sample", "label", "part", "status", "predicted", "confidence", "certain", "subject")
AFFECT = ("valence", "arousal")
MAKES = "mien evaluate writes it"


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """The table in memory."""

    classes: tuple[str, ...]
    """Names of the columns of `probabilities`."""
    sample: np.ndarray
    """(N,) str: name of the image in its dataset."""
    label: np.ndarray
    """(N,) str: the true class; empty where unlabeled."""
    part: np.ndarray
    """(N,) str: part of the dataset that the image stands in."""
    status: np.ndarray
    """(N,) str, one of `STATUSES`."""
    probabilities: np.ndarray
    """(N, K) float64, NaN where there is no answer."""
    certain: np.ndarray
    """(N,) bool: the model does not abstain."""
    subject: np.ndarray
    """(N,) str: who is shown; empty where unknown."""
    affect: Mapping[str, np.ndarray] = field(default_factory=dict)
    """`valence`, `arousal` and `predicted:…` → (N,) float64, NaN where unknown."""
    unit_names: tuple[str, ...] = ()
    """Action units."""
    units: np.ndarray | None = None
    """(N, U) int: 1 present, 0 absent, −1 not annotated."""
    unit_probabilities: np.ndarray | None = None
    """(N, U) float64, NaN where there is no answer."""
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name → (N,) str, empty where unknown."""
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Name → (N,) float64: brightness, contrast, face size, yaw, roll; NaN where unknown."""

    def __len__(self) -> int:
        return len(self.sample)

    @cached_property
    def truth(self) -> np.ndarray:
        """(N,) index into `classes`, −1 where unlabeled or of another class."""
        index = {name: number for number, name in enumerate(self.classes)}
        return np.array([index.get(name, -1) for name in self.label.tolist()], np.int64)

    @cached_property
    def answer(self) -> np.ndarray:
        """(N,) index into `classes` of the likeliest class, −1 where there is no answer."""
        if not self.classes:
            return np.full(len(self), -1)
        known = self.status == OK
        return np.where(known, np.where(known[:, None], self.probabilities, 0).argmax(1), -1)

    @cached_property
    def confidence(self) -> np.ndarray:
        """(N,) its probability, NaN where there is no answer."""
        return self.probabilities.max(1) if self.classes else np.full(len(self), np.nan)

    @property
    def counted(self) -> np.ndarray:
        """(N,) bool: rows of the official denominator."""
        return (self.truth >= 0) & (self.status != OTHER_CLASS)

    def take(self, rows: np.ndarray) -> Predictions:
        """Return the rows of these numbers, or of this mask."""
        return Predictions(
            classes=self.classes,
            sample=self.sample[rows],
            label=self.label[rows],
            part=self.part[rows],
            status=self.status[rows],
            probabilities=self.probabilities[rows],
            certain=self.certain[rows],
            subject=self.subject[rows],
            affect={name: column[rows] for name, column in self.affect.items()},
            unit_names=self.unit_names,
            units=None if self.units is None else self.units[rows],
            unit_probabilities=None if self.unit_probabilities is None else self.unit_probabilities[rows],
            groups={name: column[rows] for name, column in self.groups.items()},
            slices={name: column[rows] for name, column in self.slices.items()},
        )

    def header(self) -> list[str]:
        """Return the column names of the file."""
        units = self.unit_names if self.units is not None else ()
        predicted = self.unit_names if self.unit_probabilities is not None else ()
        return [
            *FIXED,
            *(f"p:{name}" for name in self.classes),
            *self.affect,
            *units,
            *(f"p:{name}" for name in predicted),
            *(f"group:{name}" for name in self.groups),
            *(f"slice:{name}" for name in self.slices),
        ]

    def rows(self) -> Iterable[list[str]]:
        """Yield the cells of each row."""
        columns: list[list[str]] = [
            self.sample.tolist(),
            self.label.tolist(),
            self.part.tolist(),
            self.status.tolist(),
            [self.classes[index] if index >= 0 else "" for index in self.answer.tolist()],
            _numbers(self.confidence),
            [("yes" if sure else "no") if ok else "" for sure, ok in zip(self.certain, self.status == OK, strict=True)],
            self.subject.tolist(),
            *(_numbers(column) for column in self.probabilities.T),
            *(_numbers(column) for column in self.affect.values()),
        ]
        if self.units is not None:
            columns += [["" if value < 0 else str(value) for value in column.tolist()] for column in self.units.T]
        if self.unit_probabilities is not None:
            columns += [_numbers(column) for column in self.unit_probabilities.T]
        columns += [column.tolist() for column in self.groups.values()]
        columns += [_numbers(column) for column in self.slices.values()]
        return (list(cells) for cells in zip(*columns, strict=True))

    def append_to(self, file: IO[str], *, header: bool) -> None:
        """Write the rows at the end of an open csv, and see them on the disk."""
        writer = csv.writer(LineFeeds(file))
        if header:
            writer.writerow(self.header())
        writer.writerows(self.rows())
        file.flush()


def read_predictions(path: str | Path) -> Predictions:
    """Read the file.

    Raises:
        DatasetError: it does not exist, is damaged, or is no such file.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            rows = list(reader)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}; {MAKES}") from error
    except csv.Error as error:
        raise DatasetError(f"{path} is no csv: {error}; {MAKES}") from error
    if missing := [name for name in FIXED if name not in header]:
        raise DatasetError(f"{path} is no predictions.csv: it lacks the columns {', '.join(missing)}; {MAKES}")
    if wrong := [number for number, row in enumerate(rows, 2) if len(row) != len(header)]:
        raise DatasetError(f"{path} line {wrong[0]} has {len(rows[wrong[0] - 2])} cells instead of {len(header)}; {MAKES}")
    table = dict(zip(header, zip(*rows, strict=True) if rows else ([] for _ in header), strict=True))
    units = tuple(name for name in header if is_unit(name))
    predicted = tuple(name[2:] for name in header if name.startswith("p:") and is_unit(name[2:]))
    classes = tuple(name[2:] for name in header if name.startswith("p:") and not is_unit(name[2:]))
    status = _texts(table["status"])
    if unknown := sorted(set(status.tolist()) - set(STATUSES)):
        raise DatasetError(f"{path} has the status {unknown[0]!r}; known: {', '.join(STATUSES)}")
    try:
        probabilities = _matrix([_floats(table[f"p:{name}"]) for name in classes], len(rows))
        result = Predictions(
            classes=classes,
            sample=_texts(table["sample"]),
            label=_texts(table["label"]),
            part=_texts(table["part"]),
            status=status,
            probabilities=probabilities,
            certain=_texts(table["certain"]) == "yes",
            subject=_texts(table["subject"]),
            affect={n: _floats(table[n]) for n in header if n in AFFECT or n.removeprefix("predicted:") in AFFECT},
            unit_names=units or predicted,
            units=_matrix([np.array([int(v or -1) for v in table[n]]) for n in units], len(rows)) if units else None,
            unit_probabilities=_matrix([_floats(table[f"p:{n}"]) for n in predicted], len(rows)) if predicted else None,
            groups={n[6:]: _texts(table[n]) for n in header if n.startswith("group:")},
            slices={n[6:]: _floats(table[n]) for n in header if n.startswith("slice:")},
        )
    except ValueError as error:
        raise DatasetError(f"{path} holds a cell that is no number: {error}; {MAKES}") from error
    if classes and len(bad := np.flatnonzero((status == OK) & ~np.isfinite(probabilities).all(1))):
        raise DatasetError(f"{path} line {bad[0] + 2}: the status is ok, and a probability is missing or NaN; {MAKES}")
    return result


def is_unit(name: str) -> bool:
    """Return whether a column name is that of an action unit: `AU12`."""
    return name.startswith("AU") and name[2:].isdigit()


def _numbers(values: np.ndarray) -> list[str]:
    """Return seven significant digits, those that a float32 has; empty for NaN."""
    return ["" if value != value else f"{value:.7g}" for value in values.tolist()]


def _floats(cells: Sequence[str]) -> np.ndarray:
    return np.array([float(cell) if cell else np.nan for cell in cells], np.float64)


def _texts(cells: Sequence[str]) -> np.ndarray:
    return np.array(list(cells), dtype=str) if len(cells) else np.empty(0, "U1")


def _matrix(columns: list[np.ndarray], rows: int) -> np.ndarray:
    return np.stack(columns, 1) if columns else np.empty((rows, 0))
