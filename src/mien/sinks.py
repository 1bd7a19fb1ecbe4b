"""Where results go: JSON Lines, CSV, annotated pictures.

A sink is a context manager with one method, `write`. Nothing half-written ever stands under the final name:

* Rows go to `NAME.part` beside the target, one write call for each, and the file gets its name when the block ends. If the
  block ends with an error, or the process is killed, the rows so far stay in `NAME.part` and an older `NAME` as it was.
* A picture is written to a temporary name and renamed.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from PIL import Image

from .drawing import draw
from .errors import ConfigError
from .types import Face, Points, Result

CSV_COLUMNS = (
    "source", "status", "width", "height", "time", "face", "left", "top", "right", "bottom", "detection",
    "label", "confidence", "certain", "valence", "arousal", "track", "model", "message",
)  # fmt: skip
"""Columns of every CSV file, in order; after them stands `score_LABEL` for each label of the model, in its card's order.

`face` counts from 1 in each picture. Pixels have two decimals, scores six. What does not apply is empty.
"""

MARK = "mien: annotated picture"
"""Written into annotated pictures (EXIF `Software`), so that a later run knows which files it may replace."""


class _Rows:
    """A text file that grows by whole rows and gets its name at the end."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise ConfigError(f"{self.path} is a folder; name a file in it")
        self._part = self.path.with_name(f"{self.path.name}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("wb", buffering=0)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error.strerror}; choose another place") from error

    def append(self, row: str) -> None:
        """Write one row whole; what UTF-8 has no bytes for is written as an escape."""
        rest = memoryview(row.encode("utf-8", "backslashreplace"))
        while rest:
            rest = rest[self._file.write(rest) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        if kind is None:
            self._part.replace(self.path)


class JsonLines(_Rows):
    """One JSON object a line for each result, as `assets/schemas/result.json` describes it.

    Example:
        >>> import tempfile, mien
        >>> result = mien.load()(mien.sample())
        >>> with tempfile.TemporaryDirectory() as folder, JsonLines(f"{folder}/faces.jsonl") as sink:
        ...     sink.write(result)
    """

    def __init__(self, path: str | os.PathLike[str], *, points: Points = "5") -> None:
        """Open `path`; `points` chooses how many mesh points each face lists.

        Raises:
            ConfigError: the file cannot be written there.
        """
        super().__init__(path)
        self.points: Points = points

    def write(self, result: Result) -> None:
        """Append one result."""
        self.append(json_line(result, self.points))


class Csv(_Rows):
    """A table with one row for each face, and one for each picture without a face: `CSV_COLUMNS`, then the scores.

    RFC 4180, UTF-8, with a header. Text that a spreadsheet would run as a formula (it begins with `=`, `+`, `-`, `@`, a tab
    or a return) is written after an apostrophe; JSON Lines have it as it is.

    Example:
        >>> import tempfile, mien
        >>> read = mien.load()
        >>> with tempfile.TemporaryDirectory() as folder, Csv(f"{folder}/faces.csv", read.card.labels) as sink:
        ...     sink.write(read(mien.sample()))
    """

    def __init__(self, path: str | os.PathLike[str], labels: Sequence[str]) -> None:
        """Open `path` for results whose scores have these labels.

        Raises:
            ConfigError: the file cannot be written there.
        """
        super().__init__(path)
        self.labels = tuple(labels)
        self._row([*CSV_COLUMNS, *(f"score_{label}" for label in self.labels)])

    def write(self, result: Result) -> None:
        """Append the rows of one result."""
        for number, face in enumerate(result.faces or [None], 1):
            self._row([_cell(value) for value in self._values(result, number, face)])

    def _values(self, result: Result, number: int, face: Face | None) -> list[Any]:
        head = [_text(result.source), result.status, result.width, result.height, result.time]
        tail = [_text(result.model), _text(result.message)]
        if face is None:
            return [*head, *[None] * (len(CSV_COLUMNS) - len(head) - len(tail)), *tail, *[None] * len(self.labels)]
        box = [f"{side:.2f}" for side in (face.box.left, face.box.top, face.box.right, face.box.bottom)]
        read = [face.detection, _text(face.label), face.confidence, face.certain, face.valence, face.arousal, face.track]
        return [*head, number, *box, *read, *tail, *(face.scores[label] for label in self.labels)]

    def _row(self, cells: Iterable[Any]) -> None:
        text = io.StringIO()
        csv.writer(text).writerow(cells)
        self.append(text.getvalue())


class Pictures:
    """Annotated pictures in a folder, in the sub-folders they came from.

    JPEG files become JPEG, all others PNG. A file that this class did not write is never replaced: the picture gets the next
    free name (`party-2.jpg`), so a folder may even be annotated into itself. Pictures of an earlier run are replaced.

    Example:
        >>> import tempfile, mien
        >>> with tempfile.TemporaryDirectory() as folder, Pictures(folder) as sink:
        ...     sink.write(mien.sample(), mien.load()(mien.sample())).name
        'sample.png'
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        roots: Iterable[str | os.PathLike[str]] = (),
        points: bool = False,
        quality: int = 92,
    ) -> None:
        """Open a folder for annotated pictures.

        Args:
            folder: made if it does not exist.
            roots: folders that pictures come from; below `folder` each keeps its place relative to its root.
            points: whether mesh points are shown.
            quality: of JPEG files, 1 … 95.

        Raises:
            ConfigError: `folder` is a file, or may not be written.
        """
        self.folder, self.points, self.quality = Path(folder), points, quality
        self.roots = [_absolute(root) for root in roots]
        self._written: set[Path] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"annotated pictures cannot go to {self.folder}: {error.strerror}; choose another folder"
            ) from error

    def write(self, picture: Any, result: Result) -> Path | None:
        """Write one annotated picture and return its path; None where the picture could not be read.

        Args:
            picture: what the result was read from, as for `mien.draw`.
            result: its reading; `source` names the file.
        """
        if result.status == "unreadable":
            return None
        annotated = draw(picture, result, points=self.points)
        wanted = self.folder / self._place(result.source)
        wanted.parent.mkdir(parents=True, exist_ok=True)
        path = next(path for path in _names(wanted) if self._free(path))
        exif = Image.Exif()
        exif[0x0131] = MARK
        options = {"quality": self.quality, "subsampling": 0} if path.suffix.lower() != ".png" else {"compress_level": 4}
        part = path.with_name(f"{path.name}.part")
        try:
            annotated.save(part, "PNG" if path.suffix.lower() == ".png" else "JPEG", exif=exif, **options)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        self._written.add(path)
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def _place(self, source: str) -> PurePath:
        """Path below the folder, with the suffix of what will be written."""
        if "://" in source:
            name = unquote(PurePath(urlsplit(source).path).name)
            place = PurePath(re.sub(r"[^\w.-]", "_", name).lstrip(".") or "picture")
        elif source.startswith("<"):  # from memory: "<array>"
            place = PurePath("picture")
        else:
            path = _absolute(source)
            roots = [root for root in self.roots if path.is_relative_to(root)]
            place = path.relative_to(max(roots, key=lambda root: len(root.parts), default=path.parent))
        return place if place.suffix.lower() in (".jpg", ".jpeg", ".png") else place.with_suffix(".png")

    def _free(self, path: Path) -> bool:
        if path in self._written:
            return False
        return not path.exists() or _ours(path)


def json_line(result: Result, points: Points = "5") -> str:
    """Return one line of JSON, with its newline."""
    return json.dumps(result.to_dict(points), ensure_ascii=False, allow_nan=False) + "\n"


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - links stay what they are: their place, not their target's, is kept


def _names(path: Path) -> Iterable[Path]:
    yield path
    for number in itertools.count(2):
        yield path.with_stem(f"{path.stem}-{number}")


def _ours(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.getexif().get(0x0131) == MARK
    except (OSError, ValueError, SyntaxError):
        return False


def _text(value: str | None) -> str | None:
    return f"'{value}" if value and value[0] in "=+-@\t\r" else value


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6f}" if isinstance(value, float) else value
