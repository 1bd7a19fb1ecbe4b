"""FER2013 (Goodfellow et al. 2013): 35,887 gray 48 × 48 faces in seven classes, with the votes of FERPlus if available.

Training, PublicTest and PrivateTest are `train`, `validation` and `test`. Copies in one file (csv, npz) are parsed once and
memory-mapped from the cache afterwards; sample names are row numbers of the csv in both.
"""

import csv
import dataclasses
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import DatasetError, reason
from ...labels import FER2013 as LABELS
from ...labels import FERPLUS_VOTES
from .cache import file_digest, mapped
from .dataset import Dataset, Pixels
from .folders import part_of, read_class_folders
from .layout import Place, child, has_column
from .listing import open_csv, shown, texts

SPLITS = {"train": 0, "validation": 1, "test": 2}  # split → number in `usage`: Training, PublicTest, PrivateTest
SIDE = 48  # width and height of every image

NUMBERS = {str(number): name for number, name in enumerate(LABELS)}


def csv_arrays(*paths: Path) -> dict[str, np.ndarray]:
    """Return the rows of FER2013 csv files as arrays, from the cache if these files were read before.

    Columns are found by name (`emotion`, `pixels`, `Usage`, blanks around them ignored). Without `Usage` the file name
    (`train.csv`, `val.csv`, `test.csv`) is the part; DatasetError if it names none, or without `pixels`.

    Returns `images` (N, 48, 48) uint8; `label` (N,) int64, −1 where the file has no `emotion`; `part` (N,) str; `row` (N,)
    int64, counted through all files; `damage` (D,) str: the dropped rows.
    """
    return mapped("fer2013-csv", file_digest(*paths), partial(_parse, paths))


def npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of `fer2013.npz` in the form of `csv_arrays`, with `votes` (N, 10) uint8."""

    def parse() -> dict[str, np.ndarray]:
        arrays = _load_npz(path, "images", "label", "usage", "ferplus_votes")
        return {
            "images": arrays["images"],
            "label": arrays["label"].astype(np.int64),
            "part": np.array(list(SPLITS))[arrays["usage"]],
            "row": np.arange(len(arrays["label"])),
            "votes": arrays["ferplus_votes"],
            "damage": np.empty(0, "U1"),
        }

    return mapped("fer2013-npz", file_digest(path), parse)


def _load_npz(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Return arrays of `fer2013.npz`, checked, since it is read everywhere; DatasetError if it is corrupt, or another file."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names}
    except Exception as error:  # zip files, numpy's headers and missing arrays each have errors of their own
        raise DatasetError(f"{path} is corrupt or not a fer2013.npz: {reason(error)}; copy it again", path=path) from error
    rows = len(arrays["label"]) if arrays["label"].ndim else 0
    wanted = {
        "images": ((rows, SIDE, SIDE), 255),
        "label": ((rows,), len(LABELS) - 1),
        "usage": ((rows,), len(SPLITS) - 1),
        "ferplus_votes": ((rows, len(FERPLUS_VOTES)), 255),
    }
    for name, (shape, most) in wanted.items():
        array = arrays[name]
        if array.shape != shape or array.dtype.kind not in "iu" or (array.size and not 0 <= array.min() <= array.max() <= most):
            message = f"{path} is not a fer2013.npz: {name} must be {shape} whole numbers from 0 to {most}; copy it again"
            raise DatasetError(message, path=path, value=array.shape, expected=shape)
    return arrays


def _parse(paths: tuple[Path, ...]) -> dict[str, np.ndarray]:
    images, label, part, rows, damage = [], [], [], [], []
    csv.field_size_limit(1 << 20)
    row = -1
    for path in paths:
        with open_csv(path) as reader:
            header = [name.strip().lower() for name in next(reader, [])]
            if "pixels" not in header:
                message = f"{path} has no column 'pixels'; it has: {shown(header) or 'nothing'}"
                raise DatasetError(message, path=path, line=1, value=header, expected="pixels")
            if "usage" not in header and not part_of(path.stem):
                message = f"{path} has no column Usage; add it, or name the file train.csv, val.csv or test.csv after its part"
                raise DatasetError(message, path=path, line=1, value=header, expected="Usage")
            for fields in reader:
                if not fields:
                    continue
                row += 1
                try:
                    cells = dict(zip(header, fields, strict=False))
                    pixels = _pixels(cells.get("pixels", ""))  # before the others: a truncated file ends within them
                    if len(cells) < len(header):
                        raise ValueError(f"fewer cells than {', '.join(header)}")
                    kind, usage = _kind(cells), _usage(cells, path)
                except ValueError as error:
                    damage.append(f"{path.name} line {reader.line_num}: {error}")
                    continue
                images.append(pixels)
                label.append(kind)
                part.append(usage)
                rows.append(row)
    return {
        "images": np.array(images, np.uint8).reshape(-1, SIDE, SIDE),
        "label": np.array(label, np.int64),
        "part": np.array(part, "U10"),
        "row": np.array(rows, np.int64),
        "damage": texts(damage),
    }


def _pixels(text: str) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # Raised by older numpy where a word is not a number.
        try:
            values = np.fromstring(text, np.int64, sep=" ")
        except (DeprecationWarning, ValueError) as error:
            raise ValueError("pixels are not all numbers") from error
    if len(values) != SIDE * SIDE:
        raise ValueError(f"incomplete: {len(values)} of {SIDE * SIDE} values")
    if values.min() < 0 or values.max() > 255:
        raise ValueError(f"pixels from {values.min()} to {values.max()} (expected 0 … 255)")
    return values.astype(np.uint8)


def _kind(cells: Mapping[str, str]) -> int:
    if "emotion" not in cells:
        return -1
    text = cells["emotion"].strip()
    if text not in NUMBERS:
        raise ValueError(f"emotion {text[:40]!r} (expected 0 … {len(LABELS) - 1})")
    return int(text)


def _usage(cells: Mapping[str, str], path: Path) -> str:
    text = cells.get("usage", path.stem)
    if not (part := part_of(text)):
        raise ValueError(f"Usage {text[:40]!r} (expected Training, PublicTest or PrivateTest)")
    return part


def of_arrays(place: Place, arrays: Mapping[str, np.ndarray]) -> Dataset:
    """Return the dataset of `csv_arrays` or `npz_arrays`."""
    for what in arrays["damage"]:
        place.damage(str(what))
    return Dataset(
        name="",
        labels=LABELS,
        images=Pixels(arrays["images"], np.arange(len(arrays["row"]))),
        names=np.char.zfill(arrays["row"].astype(str), 5) if len(arrays["row"]) else np.empty(0, "U5"),
        label=np.asarray(arrays["label"]),
        part=np.asarray(arrays["part"]),
        votes=np.asarray(arrays["votes"]) if "votes" in arrays else None,
        vote_names=FERPLUS_VOTES if "votes" in arrays else (),
    )


def read_csv(place: Place) -> Dataset:
    """Read one csv of all parts."""
    return of_arrays(place, csv_arrays(place.marked[0]))


def read_parts(place: Place) -> Dataset:
    """Read `train.csv`, `val.csv` and `test.csv`."""
    files = (child(place.base, *names) for names in (("train.csv",), ("val.csv", "valid.csv"), ("test.csv",)))
    data = of_arrays(place, csv_arrays(*(path for path in files if path and has_column(path, "pixels"))))
    unlabeled = [part for part in SPLITS if (data.part == part).any() and (data.label[data.part == part] < 0).all()]
    return dataclasses.replace(data, notes=tuple(f"{part} is unlabeled" for part in unlabeled))


def read_npz(place: Place) -> Dataset:
    """Read `fer2013.npz`, which has the votes of FERPlus too."""
    return of_arrays(place, npz_arrays(place.marked[0]))


def read_folders(place: Place) -> Dataset:
    """Read `<part>/<class>/…`; a name such as `PublicTest_123.jpg` in `test` decides between the two test parts."""
    folders = {
        path.name: part
        for name in ("Training", "PublicTest", "PrivateTest", "train", "test")
        if (path := child(place.base, name)) and (part := part_of(name))
    }
    return read_class_folders(place, folders, LABELS, numbers=NUMBERS, parts_in_names=True)
