"""Names of images below folders and in csv files, also of csv files written on another machine."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DatasetError
from ...io.decoding import EXTENSIONS

DELIMITERS = ",;\t|"  # separators of csv columns


def number_in(text: str) -> int:
    """Return the number written in up to nine decimal digits, −1 for any other text, such as "²" or thousands of digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1


def single_precision(values: Any) -> np.ndarray:
    """Return numbers as float32, in their shape; those beyond its range become infinite, without a warning."""
    with np.errstate(over="ignore"):
        return np.array(values, np.float32)


def affect(values: Any) -> np.ndarray:
    """Return valences or arousals as float32, NaN for those outside −1 … 1, by which lists say that there is none."""
    values = single_precision(values)
    return np.where(np.abs(values) <= 1, values, np.float32(np.nan))


def shown(words: Iterable[str]) -> str:
    """Return the first dozen words of a file for a message, long ones shortened."""
    words = [" ".join(word.split()) for word in words]  # A quoted cell can contain line breaks.
    first = ", ".join(word if len(word) <= 40 else f"{word[:40]}…" for word in words[:12])
    return f"{first} and {len(words) - 12} more" if len(words) > 12 else first


def texts(values: Iterable[str]) -> np.ndarray:
    """Return a (N,) str array, also of no values."""
    values = list(values)
    return np.array(values, dtype=str) if values else np.empty(0, "U1")


def images_below(folder: Path, others: Counter[str] | None = None) -> list[str]:
    """Return the image files in a folder and its sub-folders as sorted `/`-separated paths below it.

    Hidden files and folders (`.`, `__MACOSX`) and circular links are skipped. File names need not be valid UTF-8. `others`
    counts the extensions of the files that are not images.
    """
    found: list[str] = []
    pending: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
    while pending:
        inner, around = pending.pop()
        info = (folder / inner).stat()
        here = info.st_dev, info.st_ino
        if here in around:
            continue
        with os.scandir(folder / inner) as entries:
            for entry in entries:
                if entry.name.startswith((".", "__MACOSX")):
                    continue
                path = f"{inner}/{entry.name}" if inner else entry.name
                extension = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
                if entry.is_dir():
                    pending.append((path, (*around, here)))
                elif extension in EXTENSIONS:
                    found.append(path)
                elif others is not None and entry.name.lower() not in ("thumbs.db", "desktop.ini"):
                    others[extension or "without extension"] += 1
    return sorted(found)


def subfolders(folder: Path) -> list[str]:
    """Return the sorted names of the folders directly inside `folder`, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__MACOSX")))


@contextmanager
def open_csv(path: Path, *, delimiter: str = "") -> Iterator[Any]:
    """Yield a `csv.reader` of a file in UTF-8 or UTF-16, with any line ending and any of `DELIMITERS`.

    Bytes that are not UTF-8 become surrogates, as in file names, so that paths in a csv can be opened. The default delimiter is
    the most frequent one in the first line, or the one of Excel's line `sep=;`. A workbook, an unclosed quote or invalid UTF-16
    raises DatasetError, here and in `read_rows` and `header_of`.
    """
    with path.open("rb") as binary:
        head = binary.read(1 << 16)
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig" if head[:3] == b"\xef\xbb\xbf" else "utf-8"
    if encoding == "utf-8" and len(head) > 3 and head.count(0) > len(head) // 3:  # UTF-16 without a byte-order mark.
        encoding = "utf-16-le" if head[1] == 0 else "utf-16-be"
    wide = encoding.startswith("utf-16")
    if head.startswith(b"PK\x03\x04"):
        raise DatasetError(f"{path} is an Excel workbook or an archive; save the table as csv", path=path)
    first = next(iter(head.decode(encoding, "replace").lstrip("\r\n").splitlines()), "")
    declared = re.fullmatch(r"sep=(.)", first.strip(" "))
    quote = "'" if re.match(r"'[^']*'\W", first) else '"'
    bare = re.sub(rf"{quote}[^{quote}]*{quote}", "", first)
    delimiter = declared[1] if declared else delimiter or max(DELIMITERS, key=bare.count)
    with path.open(encoding=encoding, errors="strict" if wide else "surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, quotechar=quote)
        try:
            if declared:
                next(reader)
            yield reader
        except csv.Error as error:  # A cell longer than any text, after a quote that is not closed.
            message = f"{path} line {reader.line_num} is not valid csv: {error}; check its quotes"
            raise DatasetError(message, path=path, line=reader.line_num) from error
        except UnicodeError as error:
            message = f"{path} is not valid {encoding.upper()}; save it as UTF-8"
            raise DatasetError(message, path=path, value=encoding) from error


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield `(line number, {column: text})` of a csv, names and texts without surrounding blanks; see `open_csv`.

    `columns` are the names of the comma-separated columns of a file without a header line. An empty file raises DatasetError.
    """
    with open_csv(path, delimiter="," if columns else "") as reader:
        header = list(columns) if columns else [name.strip() for name in next(reader, [])]
        if not header:
            raise DatasetError(f"{path} is empty", path=path)
        for row in reader:
            if any(map(str.strip, row)):
                yield reader.line_num, dict(zip(header, (text.strip() for text in row), strict=False))


def read_table(path: Path, *columns: str) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a published csv as `read_rows` yields them; DatasetError if it lacks one of these columns."""
    if missing := set(columns) - set(header_of(path)):
        raise DatasetError(f"{path} lacks the columns {', '.join(sorted(missing))}; use the published file", path=path)
    return list(read_rows(path))


def header_of(path: Path) -> list[str]:
    """Return the stripped cells of the first line of a csv; none of an empty file."""
    with open_csv(path) as reader:
        return [name.strip() for name in next(reader, [])]


def windows_1252(text: str) -> str:
    """Return a text of a csv that was not in UTF-8 as Windows saves it in western Europe, other texts unchanged."""
    try:
        text.encode()
    except UnicodeEncodeError:  # It has surrogates in the place of bytes that are not UTF-8.
        return text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return text


class Locator:
    r"""Finds the files that the paths in a csv refer to, also if it was written on another machine.

    A path is used as it is written if that file exists below `root`, or with `csv`, the folder of the list, relative to that or
    as an absolute path. If none of `paths`, all those of the csv, exists as written, the same leading folders are dropped from
    all of them (`prefix`): those that let most paths exist. A path is never shortened further than the others, so it cannot
    match another file of the same name. Each folder is listed once.

    Example:
        >>> paths = [r"C:\\Users\\kim\\Data\\aff\\anger\\1.jpg"]
        >>> Locator(Path("/data"), paths)(paths[0]) is None  # no such file
        True
    """

    def __init__(self, root: Path, paths: Iterable[str] = (), *, csv: Path | None = None) -> None:
        self.root, self.csv = root, csv
        self._folders: dict[str, frozenset[str]] = {}
        self.prefix: list[str] = []
        prefixes: Counter[tuple[str, ...]] = Counter()
        for text in paths:
            if self._as_written(text):
                return
            parts = _parts(text)
            drop = next((drop for drop in range(1, len(parts)) if self._exists(parts[drop:])), 0)
            if drop:
                prefixes[tuple(parts[:drop])] += 1
        if prefixes:
            self.prefix = list(prefixes.most_common(1)[0][0])

    @property
    def notes(self) -> tuple[str, ...]:
        """Note about the prefix."""
        return (f"image paths are read without their first folders {'/'.join(self.prefix)}",) if self.prefix else ()

    def __call__(self, text: str) -> str | None:
        """Return the path below the root with `/` (or an absolute path), or None if it does not exist."""
        if found := self._as_written(text) or self._as_written(windows_1252(text)):
            return found
        parts, drop = _parts(text), len(self.prefix)
        return "/".join(parts[drop:]) if drop and parts[:drop] == self.prefix and self._exists(parts[drop:]) else None

    def _as_written(self, text: str) -> str | None:
        parts = _parts(text)
        if not parts:
            return None
        if self.csv is not None:
            path = text if os.path.isabs(text) or "\\" not in text else text.replace("\\", "/")  # noqa: PTH117
            place = os.path.normpath(self.csv / path).replace(os.sep, "/")
            folder, name = place.rpartition("/")[::2]
            if name in self._names(folder or ("/" if place.startswith("/") else ".")):
                below = os.path.relpath(place, self.root).replace(os.sep, "/")
                return below if not below.startswith("../../") and not os.path.isabs(path) else place  # noqa: PTH117
        inside = not text.startswith(("/", "\\")) or self.csv is None
        return "/".join(parts) if inside and self._exists(parts) else None

    def _exists(self, parts: list[str]) -> bool:
        return ".." not in parts and parts[-1] in self._names(f"{self.root}/" + "/".join(parts[:-1]))

    def _names(self, folder: str) -> frozenset[str]:
        if folder not in self._folders:
            there = os.path.isdir(folder)  # noqa: PTH112 - Path.is_dir raises on a name too long.
            self._folders[folder] = frozenset(os.listdir(folder)) if there else frozenset()  # noqa: PTH208
        return self._folders[folder]


def _parts(text: str) -> list[str]:
    return [part for part in text.replace("\\", "/").split("/") if part not in ("", ".")]
