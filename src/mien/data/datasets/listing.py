"""Names of images: below folders, in csv columns, and written on somebody else's machine."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DatasetError

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm"))
"""What counts as an image in a folder."""


def number_in(text: str) -> int:
    """Return the number that up to nine decimal digits write, −1 for any other text.

    `str.isdigit` alone is true for "²", which is no `int`, and for thousands of digits, which Python refuses to read.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1


def single_precision(values: Any) -> np.ndarray:
    """Return numbers as float32, in their shape; those beyond its range become infinite, without a warning."""
    with np.errstate(over="ignore"):
        return np.array(values, np.float32)


def shown(words: Iterable[str]) -> str:
    """Return the first dozen words of a file for a message, long ones cut short."""
    words = [" ".join(word.split()) for word in words]  # a quoted cell may hold line breaks
    first = ", ".join(word if len(word) <= 40 else f"{word[:40]}…" for word in words[:12])
    return f"{first} and {len(words) - 12} more" if len(words) > 12 else first


def texts(values: Iterable[str]) -> np.ndarray:
    """Return a (N,) str array; the names of an empty one still have a character each."""
    values = list(values)
    return np.array(values, dtype=str) if values else np.empty(0, "U1")


def images_below(folder: Path) -> list[str]:
    """Return the image files in `folder` and its folders as `/`-separated paths below it, sorted.

    Hidden files and folders (`.`, `__MACOSX`) are passed over, and links that lead in a circle. File names need not be valid
    UTF-8.
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
                if entry.is_dir():
                    pending.append((path, (*around, here)))
                elif entry.name[entry.name.rfind(".") :].lower() in SUFFIXES:
                    found.append(path)
    return sorted(found)


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders directly inside `folder`, sorted, hidden ones passed over."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__MACOSX")))


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield `(line number, {column: text})` of a csv, names and texts stripped of blanks.

    A byte-order mark is dropped, and bytes that are not UTF-8 become what the file system would call them, so that
    paths in a csv still open. `columns` names the columns of a file that has no header line.

    Raises:
        DatasetError: the file is empty or no csv.
    """
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.read(1) == "\ufeff" or file.seek(0)
        reader = csv.reader(file)
        try:
            header = list(columns) if columns else [name.strip() for name in next(reader, [])]
            if not header:
                raise DatasetError(f"{path} is empty; get it anew")
            for row in reader:
                if row:
                    yield reader.line_num, dict(zip(header, (text.strip() for text in row), strict=False))
        except csv.Error as error:  # a cell longer than any text, behind a quote that nothing closes
            raise no_csv(path, reader.line_num, error) from error


def no_csv(path: Path, line: int, error: Exception) -> DatasetError:
    """Return the error of a line that is none of a csv: a quote that nothing closes."""
    return DatasetError(f"{path} line {line} is no csv: {error}; mend its quotes, or get it anew")


def header_of(path: Path) -> list[str]:
    """Return the stripped fields of the first line of a csv; none of an empty one.

    Raises:
        DatasetError: it is no csv.
    """
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            return [name.strip() for name in next(csv.reader(file), [])]
        except csv.Error as error:
            raise no_csv(path, 1, error) from error


class Locator:
    r"""Finds the file that a path in a csv means, wherever the csv was written.

    Such paths come with `\\`, drive letters and folders of another machine. The longest tail of the path that exists
    below the root is the file, whatever other paths were found by. Folders are listed once, so that a hundred thousand
    paths cost no hundred thousand look-ups.

    Example:
        >>> Locator(Path("/data"))("C:\\\\Users\\\\kim\\\\Data\\\\aff\\\\anger\\\\1.jpg") is None   # no such file
        True
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folders: dict[str, frozenset[str]] = {}

    def __call__(self, text: str) -> str | None:
        """Return the path below the root with `/`, or None if no tail of `text` exists there."""
        parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".")]
        for drop in range(len(parts)):
            tail = parts[drop:]
            if ".." not in tail and tail[-1] in self._names("/".join(tail[:-1])):
                return "/".join(tail)
        return None

    def _names(self, folder: str) -> frozenset[str]:
        if folder not in self.folders:
            path = self.root / folder
            there = os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises on a name too long
            self.folders[folder] = frozenset(entry.name for entry in path.iterdir()) if there else frozenset()
        return self.folders[folder]
