"""Images of your own listed in csv files with a header line.

Columns are recognized by their usual names (`SYNONYMS`); other columns with few different values become groups to
compare results by. Several files in one folder are parts if they are called `train.csv`, `val.csv`, `test.csv`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...errors import DatasetError
from ...labels import canonical, label_set
from .dataset import Dataset
from .folders import existing, of_files, part_of
from .layout import Layout, Place, children
from .listing import Locator, header_of, read_rows, shown, single_precision, texts
from .protocols import Protocol, all_test, held_out, named_parts, subject_folds
from .reader import Option, Reader

SYNONYMS = {
    "path": ("path", "image", "image_path", "img_path", "img", "file", "filename", "file_name", "filepath", "name"),
    "label": ("label", "expression", "emotion", "class", "target"),
    "split": ("split", "usage", "phase", "part", "partition", "set"),
    "subject": ("subject", "subject_id", "person", "person_id", "identity"),
    "sequence": ("sequence", "video", "clip"),
    "valence": ("valence",),
    "arousal": ("arousal",),
}
"""What we look for, and the column names that mean it, best first; upper and lower case are the same."""

NUMBERS = ("valence", "arousal")
"""Columns whose cells are numbers, or empty where not annotated."""

UNIT = re.compile(r"AU\d+", re.IGNORECASE)
"""Name of a column that holds an action unit."""

GROUP_VALUES = range(2, 21)
"""How many different values make a column a group."""


def _read(place: Place) -> Dataset:
    wanted = place.options["file"] or place.file or "*.csv"
    files = [path for path in children(place.base, wanted) if path.is_file()]
    if not files:
        there = [path.name for path in children(place.base, "*.csv")]
        raise DatasetError(f"{place.base} holds no file {wanted}; its csv files: {shown(there)}")
    if len(files) > 1 and not all(part_of(path.stem) for path in files):
        several = ", ".join(path.name for path in files)
        raise DatasetError(f"{place.base} holds several csv files ({several}); name one as the root, or by file=NAME")
    columns: dict[str, str] = {}
    for path in files:
        columns |= _columns(path)
    units = {name: name.upper() for path in files for name in header_of(path) if UNIT.fullmatch(name)}
    locate, paths, rows = Locator(place.base), [], []
    for path in files:
        for line, row in read_rows(path):
            where = f"{path.name} line {line}"
            if wrong := [name for what in NUMBERS if (name := columns.get(what)) and not _is_number(row.get(name, ""))]:
                place.damage(f"{where}: {wrong[0]} {row[wrong[0]][:40]!r} is no number")
            elif found := existing(locate, row.get(columns["path"], ""), where, place.damage):
                paths.append(found)
                rows.append({"split": path.stem, **{what: row.get(name, "") for what, name in columns.items()}, "row": row})
    labels, label = _labels(place, [row.get("label", "") for row in rows])
    data = of_files(place.base, labels, paths, label, [part_of(row["split"]) for row in rows])
    return dataclasses.replace(
        data,
        subject=texts(row["subject"] for row in rows) if "subject" in columns else None,
        sequence=texts(row["sequence"] for row in rows) if "sequence" in columns else None,
        valence=_numbers(rows, "valence") if "valence" in columns else None,
        arousal=_numbers(rows, "arousal") if "arousal" in columns else None,
        action_units=_units([row["row"] for row in rows], units) if units else None,
        unit_names=tuple(units.values()),
        groups=_groups([row["row"] for row in rows], {*columns.values(), *units}),
    )


def _columns(path: Path) -> dict[str, str]:
    header = header_of(path)
    lower = {name.lower(): name for name in header}
    found = {what: lower[name] for what, names in SYNONYMS.items() for name in reversed(names) if name in lower}
    if "path" not in found:
        raise DatasetError(
            f"{path} has no column of image paths ({', '.join(SYNONYMS['path'])}); it has: {shown(header) or 'nothing'}"
        )
    return found


def _labels(place: Place, words: list[str]) -> tuple[tuple[str, ...], list[int]]:
    kinds = sorted({word for word in words if word})
    numbers = bool(kinds) and all(kind.isdigit() for kind in kinds)
    if name := place.options["labels"]:
        labels = label_set(name)
    elif numbers:
        raise DatasetError(
            f"the labels under {place.base} are numbers ({shown(kinds)}); labels=NAME says which order they count in"
        )
    else:
        labels = tuple(sorted({canonical(kind) for kind in kinds}))
    index = (
        {str(number): number for number in range(len(labels))}
        if numbers
        else {kind: number for number, kind in enumerate(labels)}
    )
    label = [index.get(word if numbers else canonical(word), -1) for word in words]
    if unknown := sorted({word for word, number in zip(words, label, strict=True) if word and number < 0}):
        place.damage(f"labels that are none of {', '.join(labels)}: {shown(unknown)}")
    return labels, label


def _is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def _numbers(rows: list[dict], name: str) -> np.ndarray:
    values = single_precision([float(row[name] or "nan") for row in rows])
    return np.where(np.abs(values) <= 1, values, np.float32(np.nan))


def _units(rows: list[dict[str, str]], names: Iterable[str]) -> np.ndarray:
    """Columns AU1, AU2 …: 1 present, 0 absent, anything else not annotated."""
    known = {"0": 0, "1": 1}
    return np.array([[known.get(row.get(name, ""), -1) for name in names] for row in rows], np.int8)


def _groups(rows: list[dict[str, str]], used: set[str]) -> dict[str, np.ndarray]:
    names = [name for name in (rows[0] if rows else ()) if name and name not in used]
    columns = {name: texts(row.get(name, "") for row in rows) for name in names}
    return {name: column for name, column in columns.items() if len(np.unique(column[column != ""])) in GROUP_VALUES}


READER = Reader(
    name="csv",
    title="a csv list of images",
    obtain="Write a csv with a header line: path, label, and if you like split, subject, sequence, valence, arousal, groups.",
    labels=(),
    layouts=(Layout("csv files", ("*.csv",), _read),),
    protocols={
        "official": Protocol(
            "the parts that the column split, or the file names, say; if they say none, all images are for test", named_parts
        ),
        "held-out": Protocol(
            "the part test (or validation) is the test split; a tenth of train is for validation, whole subjects", held_out
        ),
        "subject-folds": Protocol(
            "folds of whole subjects: fold k is the test split, fold k + 1 the validation split", subject_folds
        ),
        "cross-dataset": Protocol("all images, for a model trained on another dataset", all_test),
    },
    options={
        "labels": Option("a label set of mien.labels; without it the classes are the words found, in alphabetical order"),
        "file": Option("which csv, where a folder holds several and the root is not one of them"),
    },
)
