"""Result files: JSON Lines and CSV, written row by row, and the columns that all tables share."""

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import ConfigError
from ..faces.action_units import COLUMNS as ESTIMATED
from ..io.files import check_output, locked
from ..labels import ACTION_UNITS, BLENDSHAPES
from ..types import GROUPS, Group, Points, Result
from .options import DEFAULTS

EYE = ("yaw", "pitch", "head_yaw", "head_pitch")
GROUP_COLUMNS: dict[Group, dict[str, type]] = {
    "expression": {"label": str, "confidence": float, "certain": bool, "valence": float, "arousal": float},
    "pose": dict.fromkeys((f"pose_{name}" for name in ("pitch", "yaw", "roll", "x", "y", "z")), float),
    "gaze": {
        **dict.fromkeys((f"gaze_{name}" for name in (*EYE, "camera_angle")), float),
        "gaze_at_camera": bool,
        **dict.fromkeys((f"gaze_{side}_{name}" for side in ("left", "right") for name in EYE), float),
    },
    "units": dict.fromkeys((f"estimated_{name}" for name in ESTIMATED), float),
    "blendshapes": dict.fromkeys((f"blendshape_{name}" for name in BLENDSHAPES), float),
    "landmarks68": dict.fromkeys((f"{axis}_{i}" for axis in "xy" for i in range(68)), float),
    "mesh": dict.fromkeys((f"mesh_{axis}_{i}" for axis in "xyz" for i in range(478)), float),
}
"""Group → its columns and their types; the scores follow those of `expression`."""


def columns(
    labels: Sequence[str], groups: Sequence[Group] = DEFAULTS.groups, *, unsmoothed: bool = False, units: bool = False
) -> dict[str, type]:
    """Return the columns of a table of results, in order, with their types, for the classes of the model's card.

    With `unsmoothed`, `unsmoothed_LABEL` columns follow the scores: those of each frame of a video alone. `units` is whether
    the model has an output for action units: these replace the estimated ones.
    """
    found: dict[str, type] = {
        "source": str, "status": str, "width": int, "height": int, "frame": int, "time": float, "face": int, "track": int,
        "left": float, "top": float, "right": float, "bottom": float, "detection": float,
        "quality": float,
    }  # fmt: skip
    for group in (each for each in GROUPS if each in groups):
        if group == "units" and units:
            found |= dict.fromkeys((f"unit_{name}" for name in ACTION_UNITS), float)
            continue
        found |= GROUP_COLUMNS[group]
        if group == "expression":
            kinds = ("score", "unsmoothed") if unsmoothed else ("score",)
            found |= {f"{kind}_{label}": float for kind in kinds for label in labels}
    return found | {"model": str, "message": str, "notes": str}


def rows(result: Result, names: Iterable[str], groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return the rows of a result with these columns; what a face lacks is None, and an unsmoothed score is its score."""
    fallback = {name: name.replace("unsmoothed_", "score_", 1) for name in names}
    return [{name: row.get(name, row.get(other)) for name, other in fallback.items()} for row in result.rows(groups)]


FILES = {
    "csv": ((".csv", ".tsv", ".txt"), b"source,status,width,height,"),
    "jsonl": ((".jsonl", ".ndjson", ".json", ".txt"), b'{"schema_version":'),
}
"""Kind of a file → its extensions, and bytes at the start of every one that mien writes."""


def check_rows(path: Path | None, kind: str, *, inputs: Iterable[str] = (), overwrite: bool = False) -> None:
    """Refuse to replace a file that mien did not write, see `mien.io.files.check_output`; `kind` is a key of `FILES`."""
    if path is not None:
        suffixes, start = FILES[kind]
        check_output(path, f"--{kind}", suffixes, start, inputs=inputs, overwrite=overwrite)


class TextFile:
    """A text file that grows by whole rows, under the name `NAME.part` until it is complete.

    After an error or a kill `NAME.part` stays, complete up to its last line.
    """

    def __init__(self, path: str | os.PathLike[str], head: str = "") -> None:
        self.path = Path(path)
        self._head = head
        self.count = 0
        """Results written so far."""
        if os.path.isdir(self.path):  # noqa: PTH112 - Path.is_dir raises on a name too long
            raise ConfigError(f"{self.path} is a folder; name a file in it", path=self.path)
        self.part = self.path.with_name(f"{self.path.name}.part")
        self._lock = ExitStack()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.enter_context(locked(self.path))
            self._file = self.part.open("wb", buffering=0)
        except OSError as error:
            self._lock.close()
            raise ConfigError(f"{self.path} cannot be written: {error.strerror}; choose another path", path=path) from error
        with ExitStack() as undo:
            undo.push(self)  # Closes the file if the disk is full.
            self.append(head)
            undo.pop_all()

    def append(self, rows: str) -> None:
        """Write whole rows; what UTF-8 cannot encode is written as an escape. Raises ConfigError if the disk is full."""
        rest = memoryview(rows.encode("utf-8", "backslashreplace"))
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            what = f"{self.path} cannot be written: {error.strerror}"
            raise ConfigError(f"{what}; free some space, or choose another path", path=self.path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        empty = os.fstat(self._file.fileno()).st_size <= len(self._head.encode("utf-8", "backslashreplace"))
        self._file.close()
        with self._lock:
            if kind is None:
                self.part.replace(self.path)
            elif empty:
                self.part.unlink(missing_ok=True)


class JsonLines(TextFile):
    """JSON Lines, one object per result, as `assets/schemas/result.json` describes it.

    Example:
        >>> import tempfile, mien
        >>> result = mien.load()(mien.sample())
        >>> with tempfile.TemporaryDirectory() as folder, JsonLines(f"{folder}/faces.jsonl") as sink:
        ...     sink.write(result)
    """

    def __init__(
        self, path: str | os.PathLike[str], *, points: Points = DEFAULTS.points, groups: Sequence[Group] = DEFAULTS.groups
    ) -> None:
        """Open a file; `points` and `groups` are those of `Face.to_dict`. Raises ConfigError if it cannot be written."""
        super().__init__(path)
        self.points, self.groups = points, groups

    def write(self, result: Result) -> None:
        """Append one result."""
        self.append(json_line(result, self.points, self.groups))
        self.count += 1


class Csv(TextFile):
    """A table with one row per face, and one for each image without a face: see `columns`.

    RFC 4180, UTF-8, with a header. Text that a spreadsheet would run as a formula (it begins with `=`, `+`, `-`, `@`, a tab
    or a return) is written after an apostrophe. Pixels have two decimals, other numbers six. What does not apply is empty.

    Example:
        >>> import tempfile, mien
        >>> recognizer = mien.load()
        >>> with tempfile.TemporaryDirectory() as folder, Csv(f"{folder}/faces.csv", recognizer.card.labels) as sink:
        ...     sink.write(recognizer(mien.sample()))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        labels: Sequence[str],
        groups: Sequence[Group] = DEFAULTS.groups,
        *,
        unsmoothed: bool = False,
        units: bool = False,
        bom: bool = False,
    ) -> None:
        """Open a file; the other arguments are those of `columns`. Raises ConfigError if it cannot be written.

        `bom` begins it with a byte order mark, by which Excel recognizes UTF-8.
        """
        self.columns, self.groups = columns(labels, groups, unsmoothed=unsmoothed, units=units), tuple(groups)
        super().__init__(path, ("\ufeff" if bom else "") + csv_line(self.columns))

    def write(self, result: Result) -> None:
        """Append the rows of one result, all at once."""
        table = rows(result, self.columns, self.groups)
        self.append("".join(csv_line(_cell(name, value) for name, value in row.items()) for row in table))
        self.count += 1


def json_line(result: Result, points: Points = DEFAULTS.points, groups: Sequence[Group] = GROUPS) -> str:
    """Return one line of JSON, with its newline."""
    return json.dumps(result.to_dict(points, groups), ensure_ascii=False, allow_nan=False) + "\n"


def csv_line(cells: Iterable[Any]) -> str:
    """Return one line of CSV, with its line end."""
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()


PIXELS = {"left", "top", "right", "bottom", *GROUP_COLUMNS["landmarks68"], *GROUP_COLUMNS["mesh"]}


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.2f}" if name in PIXELS else f"{value:.6f}"
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value
