"""Images in one folder per class, the layout of most copies of most datasets, and images of a list; both also of your own.

Images of your own are in `<class>/…`, or `<train|val|test>/<class>/…` (dataset `folder`), or listed in csv or tsv files with a
header line (dataset `csv`). There, columns are recognized by common names (`SYNONYMS`); other columns with few distinct values
become groups for comparing results. Several files in one folder are parts if they are named `train.csv`, `val.csv`, `test.csv`.
"""

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DatasetError, did_you_mean
from ...labels import canonical, label_set
from .dataset import Dataset, Files
from .layout import Place, children
from .listing import Locator, affect, header_of, images_below, read_rows, shown, subfolders, texts, windows_1252

PARTS = {
    "train": ("train", "training", "train_set"),
    "validation": ("val", "valid", "validation", "val_set", "dev", "publictest"),
    "test": ("test", "testing", "privatetest"),
}
"""Part → its names in files and folders, in lower case."""


def part_of(text: str) -> str:
    """Return `"train"`, `"validation"`, `"test"`, or the empty string for any other word."""
    return next((part for part, names in PARTS.items() if text.strip().lower() in names), "")


def part_of_file(path: str) -> str:
    """Return the part that begins the name of a file, as in `PublicTest_123.jpg`."""
    return part_of(path.rpartition("/")[2].partition("_")[0])


def part_folders(base: Path) -> dict[str, str]:
    """Return folder → part for the folders in `base` that name a part."""
    return {name: part for name in subfolders(base) if (part := part_of(name))}


def read_class_folders(
    place: Place,
    folders: Mapping[str, str],
    labels: tuple[str, ...],
    *,
    numbers: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
    parts_in_names: bool = False,
) -> Dataset:
    """Read `<folder>/<class>/…` for each folder in `folders`, which maps it to its part; the folder `""` is the base itself.

    `numbers` gives the class of folders named by numbers, `ignore` known classes to skip. With `parts_in_names` a part that
    begins the name of a file precedes that of the folder.
    """
    names: list[str] = []
    label: list[int] = []
    part: list[str] = []
    index = {canonical(name): number for number, name in enumerate(labels)}
    unwanted = {canonical(name) for name in ignore}
    others: Counter[str] = Counter()
    for folder, where in folders.items():
        for below in subfolders(place.base / folder):
            kind = canonical((numbers or {}).get(below, below))
            if kind in unwanted or (not folder and part_of(below)):
                continue
            inner = f"{folder}/{below}" if folder else below
            if kind not in index:
                place.damage(f"class folder {inner}: unknown class (expected one of {', '.join(labels)})")
                continue
            found = images_below(place.base / inner, others)
            names += [f"{inner}/{name}" for name in found]
            label += [index[kind]] * len(found)
            part += [(parts_in_names and part_of_file(name)) or where for name in found]
    skipped = ", ".join(f"{count} {extension}" for extension, count in others.most_common(5))
    notes = (f"files that are not images were skipped: {skipped}",) if others else ()
    return of_files(place.base, labels, names, label, part, notes=notes)


def of_files(
    root: Path, labels: tuple[str, ...], names: list[str], label: Sequence[int], part: Sequence[str], **columns: Any
) -> Dataset:
    """Return a dataset of image files; `columns` are further fields."""
    array = texts(names)
    images = Files(root, array)
    return Dataset(
        name="", labels=labels, images=images, names=array, label=np.array(label, np.int64), part=texts(part), **columns
    )


class ListedImages:
    """Collects those images of a list that exist, with the values of their rows; the arguments are those of `Locator`."""

    def __init__(self, place: Place, root: Path, paths: Iterable[str] = (), *, csv: Path | None = None) -> None:
        self.place, self.root, self.locate = place, root, Locator(root, paths, csv=csv)
        self.names: list[str] = []
        self.rows: defaultdict[str, list[Any]] = defaultdict(list)

    def add(self, path: str, where: str, *, label: int, part: str = "", **row: Any) -> None:
        """Add an image with its values, or report it as missing; `where` names the row in the report."""
        if (found := self.locate(path)) is None:
            self.place.damage(f"{where}: image not found: {path}")
            return
        self.names.append(found)
        for name, value in {"label": label, "part": part, **row}.items():
            self.rows[name].append(value)

    def dataset(self, labels: tuple[str, ...], *, notes: Iterable[str] = (), **columns: Any) -> Dataset:
        """Return the dataset; `columns` are further fields."""
        rows, notes = self.rows, (*self.locate.notes, *notes)
        return of_files(self.root, labels, self.names, rows["label"], rows["part"], notes=notes, **columns)


def read_own_folders(place: Place) -> Dataset:
    """Read the class folders; DatasetError if they are numbers whose order is not given."""
    folders = part_folders(place.base) or {"": ""}
    lost = [name for name in subfolders(place.base) if "" not in folders and not part_of(name)]
    kinds = sorted({name for folder in folders for name in subfolders(place.base / folder)})
    if name := place.options["labels"]:
        labels = label_set(name)
    elif any(kind.isdigit() for kind in kinds):
        message = f"the class folders {', '.join(kinds[:8])} under {place.base} are numbers; labels=NAME gives their order"
        raise DatasetError(message, path=place.base, value=kinds)
    else:
        labels = tuple(sorted({canonical(kind) for kind in kinds}))
    data = read_class_folders(place, folders, labels, numbers={str(number): kind for number, kind in enumerate(labels)})
    if not lost:
        return data
    note = f"folders beside train, validation and test were skipped: {', '.join(lost[:8])}"
    return dataclasses.replace(data, notes=(*data.notes, note))


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


def read_own_list(place: Place) -> Dataset:
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
