"""Images listed in csv or tsv files with a header line.

Columns are recognized by common names (`SYNONYMS`); other columns with few distinct values become groups for comparing
results. Several files in one folder are parts if they are named `train.csv`, `val.csv`, `test.csv`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DatasetError, did_you_mean
from ...labels import canonical, label_set
from .dataset import Dataset
from .folders import ListedImages, part_of
from .layout import Place, children
from .listing import affect, header_of, read_rows, shown, texts, windows_1252

SYNONYMS = {
    "path": (
        "path", "image", "image_path", "img_path", "img", "file", "filename", "file_name", "filepath", "file_path",
        "image_name", "img_name", "pth", "name", "images", "paths", "files",
    ),
    "label": (
        "label", "expression", "emotion", "class", "target", "labels", "expressions", "emotions", "classes", "targets",
        "label_name", "class_name", "emotion_label", "expression_label", "emotion_name", "category",
    ),
    "split": ("split", "usage", "phase", "part", "partition", "set", "subset"),
    "subject": ("subject", "subject_id", "person", "person_id", "identity"),
    "sequence": ("sequence", "video", "clip"),
    "valence": ("valence",),
    "arousal": ("arousal",),
}  # fmt: skip
"""Meaning → names of columns, best first; case does not matter."""

NUMBERS = ("valence", "arousal")  # columns of numbers; empty where not annotated
UNLABELED = frozenset({"", "nan", "na", "n/a", "#n/a", "<na>", "none", "null", "nil", "-", "?", "unlabeled", "unlabelled"})
"""Cells of the label column that mean that there is none, in lower case, unless the label set has a class of that name."""

UNIT = re.compile(r"AU\d+", re.IGNORECASE)  # name of a column of an action unit
GROUP_VALUES = range(2, 21)  # numbers of distinct values of a column that make it a group


def read(place: Place) -> Dataset:
    """Read the lists; DatasetError if it is unclear which file, column or order of classes is meant."""
    wanted = place.options["file"] or place.file or "*.[ct]sv"
    files = [path for path in children(place.base, wanted) if path.is_file()]
    if not files:
        there = [path.name for path in children(place.base, "*.[ct]sv")]
        message = f"{place.base} contains no file {wanted}; its csv files: {shown(there)}"
        raise DatasetError(message, path=place.base, value=wanted, expected=there)
    if len(files) > 1 and not all(part_of(path.stem) for path in files):
        several = [path.name for path in files]
        message = f"{place.base} contains several csv files ({', '.join(several)}); give one as the root, or by file=NAME"
        raise DatasetError(message, path=place.base, expected=several)
    headers = {path: header_of(path) for path in files}
    columns: dict[str, str] = {}
    for path, header in headers.items():
        columns |= _columns(path, header, place)
    units = {name: name.upper() for header in headers.values() for name in header if UNIT.fullmatch(name)}
    root = Path(place.options["images"] or place.base)
    if not root.is_dir():
        raise DatasetError(f"the folder of the images {root} does not exist; give it by images=DIR", path=root)
    tables = {path: list(read_rows(path)) for path in files}
    written = (row.get(columns["path"], "") for table in tables.values() for _, row in table)
    listed = ListedImages(place, root, written, csv=place.base)
    for path, table in tables.items():
        for line, row in table:
            where = f"{path.name} line {line}"
            if wrong := [name for what in NUMBERS if (name := columns.get(what)) and _number(row.get(name, "")) is None]:
                place.damage(f"{where}: {wrong[0]} {row[wrong[0]][:40]!r} is not a number")
                continue
            cells = {name: windows_1252(text) for name, text in row.items()}
            known = {"split": path.stem, **{what: cells.get(name, "") for what, name in columns.items()}}
            found = row.get(columns["path"], "")
            listed.add(found, where, label=-1, part=part_of(known["split"]), known=known, cells=cells)
    rows, cells = listed.rows["known"], listed.rows["cells"]
    labels, label = _labels(place, [row.get("label", "") for row in rows])
    listed.rows["label"] = label
    given = {name: texts(row[name] for row in rows) for name in ("subject", "sequence") if name in columns}
    given |= {name: affect([_number(row[name]) for row in rows]) for name in NUMBERS if name in columns}
    return listed.dataset(
        labels,
        **given,
        action_units=_units(cells, units) if units else None,
        unit_names=tuple(units.values()),
        groups=_groups(cells, {*columns.values(), *units}),
        notes=_notes(rows, label, columns, headers, bool(units)),
    )


def _columns(path: Path, header: Sequence[str], place: Place) -> dict[str, str]:
    lower = {name.lower(): name for name in header}
    found = {what: lower[name] for what, names in SYNONYMS.items() for name in reversed(names) if name in lower}
    if wanted := place.options["label"]:
        if wanted.lower() not in lower:
            message = f"{path} has no column {wanted!r}; it has: {shown(header)}{did_you_mean(wanted, header)}"
            raise DatasetError(message, path=path, line=1, value=wanted, expected=header)
        found["label"] = lower[wanted.lower()]
    if "path" not in found:
        expected = ", ".join(SYNONYMS["path"])
        message = f"{path} has no column of image paths (expected one of {expected}); it has: {shown(header) or 'nothing'}"
        raise DatasetError(message, path=path, line=1, value=header, expected=SYNONYMS["path"])
    return found


def _notes(
    rows: Sequence[dict[str, Any]], label: list[int], columns: dict[str, str], headers: dict[Path, list[str]], units: bool
) -> list[str]:
    """Return notes on images without a label and on unknown words in the split column."""
    notes = []
    if "label" not in columns and not units and not {"valence", "arousal"} & columns.keys():
        there = shown(dict.fromkeys(name for header in headers.values() for name in header))
        notes.append(f"no label column among {there}: all images are unlabeled; label=COLUMN selects one")
    elif "label" in columns and (without := label.count(-1)):
        notes.append(f"{without} of {len(label)} images are unlabeled")
    if "split" in columns:
        unknown = Counter(row["split"] for row in rows if not part_of(row["split"]))
        unknown.pop("", None)
        if unknown:
            words = ", ".join(f"{shown([word])} ({number})" for word, number in unknown.most_common(8))
            notes.append(f"unknown words in the split column, whose images are in no split but all: {words}")
    return notes


def _code(text: str) -> int | None:
    """Return the number of a class (`3`, `3.0`, `-1`), None for a word."""
    match = re.fullmatch(r"([+-]?\d{1,9})(?:[.,]0*)?", text, re.ASCII)
    return int(match[1]) if match else None


def _labels(place: Place, words: list[str]) -> tuple[tuple[str, ...], list[int]]:
    name = place.options["labels"]
    labels = label_set(name) if name else ()
    missing = {word for word in words if word.lower() in UNLABELED and canonical(word) not in labels}
    kinds = sorted(set(words) - missing)
    codes = {word: _code(word) for word in kinds}
    if kinds and None not in codes.values():
        if not name:
            message = f"the labels under {place.base} are numbers ({shown(kinds)}); labels=NAME gives the order of the classes"
            raise DatasetError(message, path=place.base, value=kinds)
        known = range(len(labels))
        index = {word: code if code in known else -1 for word, code in codes.items() if code is not None}
        unknown = [word for word, code in codes.items() if code is not None and code >= len(labels)]
    else:
        labels = labels or tuple(sorted({canonical(kind) for kind in kinds}))
        places = {kind: number for number, kind in enumerate(labels)}
        index = {word: places.get(canonical(word), -1) for word in kinds}
        unknown = [word for word in kinds if index[word] < 0]
    if unknown:
        place.damage(f"unknown labels: {shown(unknown)} (expected one of {', '.join(labels)})")
    return labels, [index.get(word, -1) for word in words]


def _number(text: str) -> float | None:
    """Return a number with a decimal point or comma, NaN for an empty text, None for another."""
    try:
        return float(text.replace(",", ".") or "nan")
    except ValueError:
        return None


def _units(rows: list[dict[str, str]], names: Iterable[str]) -> np.ndarray:
    """Columns AU1, AU2 …: 1 present, 0 absent, otherwise not annotated."""
    known = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
    return np.array([[known.get(row.get(name, ""), -1) for name in names] for row in rows], np.int8)


def _groups(rows: list[dict[str, str]], used: set[str]) -> dict[str, np.ndarray]:
    names = [name for name in (rows[0] if rows else ()) if name and name not in used]
    columns = {name: texts(row.get(name, "") for row in rows) for name in names}
    return {name: column for name, column in columns.items() if len(np.unique(column[column != ""])) in GROUP_VALUES}
