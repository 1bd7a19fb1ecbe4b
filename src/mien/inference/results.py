"""Results as rows: JSON Lines and CSV, written as they come, and gone on with after an interruption."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import ConfigError
from ..io.files import locked
from ..types import Box, Face, Points, Result

CSV_COLUMNS = (
    "source", "status", "width", "height", "time", "face", "left", "top", "right", "bottom", "detection",
    "label", "confidence", "certain", "valence", "arousal", "track", "model", "message",
)  # fmt: skip
"""Columns of every CSV file, in order; after them stands `score_LABEL` for each label of the model, in its card's order.

`face` counts from 1 in each image. Pixels have two decimals, scores six. What does not apply is empty.
"""


class _Rows(ABC):
    """A text file that grows by whole rows and gets its name at the end.

    With a `run`, a text that names what is being done, an interrupted file of the same run can be gone on with: `stored` gives
    the results in it, `keep` says how many of them stay.
    """

    def __init__(self, path: str | os.PathLike[str], run: str | None = None) -> None:
        self.path = Path(path)
        if os.path.isdir(self.path):  # noqa: PTH112 - Path.is_dir raises on a name too long
            raise ConfigError(f"{self.path} is a folder; name a file in it")
        self._part, self._mark = (self.path.with_name(f"{self.path.name}.part{end}") for end in ("", ".run"))
        self._head = 0
        """Bytes before the first result."""
        self._ours = ExitStack()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._ours.enter_context(locked(self.path))
            self.going_on = run is not None and self._part.is_file() and _text_of(self._mark) == run
            """Whether rows of an earlier, interrupted run are there."""
            if run is None:
                self._mark.unlink(missing_ok=True)
            elif not self.going_on:
                self._part.unlink(missing_ok=True)  # not after the mark: then old rows would pass for this run's
                self._mark.write_text(run, encoding="utf-8")
            self._file = self._part.open("r+b" if self.going_on else "w+b", buffering=0)
        except OSError as error:
            self._ours.close()
            raise ConfigError(f"{self.path} cannot be written: {error.strerror}; choose another place") from error

    def append(self, row: str) -> None:
        """Write one row whole; what UTF-8 has no bytes for is written as an escape.

        Raises:
            ConfigError: the disk is full.
        """
        rest = memoryview(row.encode("utf-8", "backslashreplace"))
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            what = f"{self.path} cannot be written: {error.strerror}"
            raise ConfigError(f"{what}; free some space, or choose another place") from error

    def stored(self) -> Iterator[Result]:
        """Yield the results that were written whole, as far as rows hold them."""
        for _, result in self._stored():
            yield result

    def keep(self, number: int) -> None:
        """Cut the file after its first `number` results and go on from there."""
        ends = (end for end, _ in self._stored())
        end = self._head if number == 0 else next(itertools.islice(ends, number - 1, None))
        self._file.truncate(end)
        self._file.seek(end)

    @abstractmethod
    def _stored(self) -> Iterator[tuple[int, Result]]:
        """Yield the place where each result ends, and the result."""

    def _lines(self, start: int) -> Iterator[tuple[int, str]]:
        """Yield the whole lines of the file, each with the place where it ends."""
        with self._part.open("rb") as file:
            file.seek(start)
            for line in file:
                if line.endswith(b"\n"):
                    start += len(line)
                    yield start, line.decode("utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        empty = os.fstat(self._file.fileno()).st_size <= self._head
        self._file.close()
        with self._ours:
            if kind is None:
                self._part.replace(self.path)
            elif empty:
                self._part.unlink(missing_ok=True)
            if kind is None or empty:
                self._mark.unlink(missing_ok=True)


class JsonLines(_Rows):
    """One JSON object a line for each result, as `assets/schemas/result.json` describes it.

    Example:
        >>> import tempfile, mien
        >>> result = mien.load()(mien.sample())
        >>> with tempfile.TemporaryDirectory() as folder, JsonLines(f"{folder}/faces.jsonl") as sink:
        ...     sink.write(result)
    """

    def __init__(self, path: str | os.PathLike[str], *, points: Points = "5", run: str | None = None) -> None:
        """Open `path`.

        Args:
            path: of the file.
            points: how many mesh points each face lists.
            run: what is being done; an interrupted file of the same run is gone on with, see `stored` and `keep`.

        Raises:
            ConfigError: the file cannot be written there.
        """
        super().__init__(path, run)
        self.points: Points = points

    def write(self, result: Result) -> None:
        """Append one result."""
        self.append(json_line(result, self.points))

    def _stored(self) -> Iterator[tuple[int, Result]]:
        for end, line in self._lines(self._head):
            yield end, Result.from_dict(json.loads(line))


class Csv(_Rows):
    """A table with one row for each face, and one for each image without a face: `CSV_COLUMNS`, then the scores.

    RFC 4180, UTF-8, with a header. Text that a spreadsheet would run as a formula (it begins with `=`, `+`, `-`, `@`, a tab
    or a return) is written after an apostrophe; JSON Lines have it as it is.

    Example:
        >>> import tempfile, mien
        >>> read = mien.load()
        >>> with tempfile.TemporaryDirectory() as folder, Csv(f"{folder}/faces.csv", read.card.labels) as sink:
        ...     sink.write(read(mien.sample()))
    """

    def __init__(
        self, path: str | os.PathLike[str], labels: Sequence[str], *, unsmoothed: bool = False, run: str | None = None
    ) -> None:
        """Open `path`.

        Args:
            path: of the file.
            labels: those of the scores.
            unsmoothed: whether `unsmoothed_LABEL` columns follow, with the scores of each frame of a video alone.
            run: as for `JsonLines`.

        Raises:
            ConfigError: the file cannot be written there.
        """
        super().__init__(path, run)
        self.labels, self.unsmoothed = tuple(labels), unsmoothed
        head = _csv_line(self._names())
        self._head = len(head.encode("utf-8", "backslashreplace"))
        if not self.going_on or self._part.stat().st_size < self._head:
            self._file.truncate(0)
            self.append(head)

    def write(self, result: Result) -> None:
        """Append the rows of one result, all at once."""
        faces = enumerate(result.faces or [None], 1)
        self.append("".join(_csv_line(map(_cell, self._values(result, number, face))) for number, face in faces))

    def _names(self) -> list[str]:
        kinds = ("score", "unsmoothed") if self.unsmoothed else ("score",)
        return [*CSV_COLUMNS, *(f"{kind}_{label}" for kind in kinds for label in self.labels)]

    def _values(self, result: Result, number: int, face: Face | None) -> list[Any]:
        head = [_text(result.source), result.status, result.width, result.height, result.time]
        tail = [_text(result.model), _text(result.message)]
        if face is None:
            scores = len(self.labels) * (2 if self.unsmoothed else 1)
            return [*head, *[None] * (len(CSV_COLUMNS) - len(head) - len(tail)), *tail, *[None] * scores]
        box = [f"{side:.2f}" for side in (face.box.left, face.box.top, face.box.right, face.box.bottom)]
        read = [face.detection, _text(face.label), face.confidence, face.certain, face.valence, face.arousal, face.track]
        scores = [face.scores[label] for label in self.labels]
        if self.unsmoothed:
            alone = (face.unsmoothed or face).scores
            scores += [alone[label] for label in self.labels]
        return [*head, number, *box, *read, *tail, *scores]

    def _stored(self) -> Iterator[tuple[int, Result]]:
        """Group the rows of each result; the last group may lack some, so it does not count."""
        names = self._names()
        group: list[dict[str, str]] = []
        end = last = self._head

        def lines() -> Iterator[str]:
            nonlocal end
            for end, line in self._lines(self._head):  # noqa: B007 - read below: a row may have several lines
                yield line

        for cells in csv.reader(lines()):
            if len(cells) < len(names):  # torn in the middle of a text of several lines
                return
            row = dict(zip(names, cells, strict=True))
            if group and row["face"] in ("", "1"):
                yield last, self._result(group)
                group = []
            group.append(row)
            last = end

    def _result(self, rows: Sequence[Mapping[str, str]]) -> Result:
        first = rows[0]
        return Result(
            source=_untext(first["source"]),
            width=int(first["width"]),
            height=int(first["height"]),
            faces=tuple(self._face(row) for row in rows if row["face"]),
            status=first["status"],  # pyrefly: ignore - written by `write`
            model=_untext(first["model"]),
            time=_number(first["time"]),
            message=_untext(first["message"]) or None,
        )

    def _face(self, row: Mapping[str, str]) -> Face:
        return Face(
            box=Box(*(float(row[side]) for side in ("left", "top", "right", "bottom"))),
            detection=float(row["detection"]),
            scores={label: float(row[f"score_{label}"]) for label in self.labels},
            label=_untext(row["label"]),
            confidence=float(row["confidence"]),
            certain=row["certain"] == "true",
            valence=_number(row["valence"]),
            arousal=_number(row["arousal"]),
            track=int(row["track"]) if row["track"] else None,
        )


def json_line(result: Result, points: Points = "5") -> str:
    """Return one line of JSON, with its newline."""
    return json.dumps(result.to_dict(points), ensure_ascii=False, allow_nan=False) + "\n"


def _text_of(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _csv_line(cells: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


def _untext(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:2] in tuple("=+-@\t\r") else cell


def _text(value: str | None) -> str | None:
    return f"'{value}" if value and value[0] in "=+-@\t\r" else value


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6f}" if isinstance(value, float) else value
