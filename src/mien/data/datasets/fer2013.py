"""FER2013 (Goodfellow et al. 2013): 35,887 gray 48 × 48 faces in seven classes; FERPlus: ten crowd votes for each of them.

Training, PublicTest and PrivateTest are `train`, `validation` and `test`. Copies in one file (csv, npz) are parsed once and
memory-mapped from the cache afterwards; sample names are row numbers of the csv in both.

Votes (Barsoum et al. 2016) are columns in the order of `mien.labels.FERPLUS_VOTES`. The rules for turning them into labels are
those of `src/ferplus.py` in microsoft/FERPlus (MIT): a class with a single vote loses it; an image whose winner is `unknown` or
`NF` is dropped.
"""

import csv
import dataclasses
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import DatasetError, reason
from ...labels import FER2013 as LABELS
from ...labels import FERPLUS, FERPLUS_VOTES
from .cache import file_digest, mapped
from .dataset import Dataset, Pixels
from .folders import of_files, part_of, read_class_folders
from .layout import Place, child, has_column
from .listing import images_below, open_csv, read_rows, shown, texts

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
    return mapped("fer2013-npz", file_digest(path), partial(_load_npz, path))


def _load_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays, checked, since this file is read everywhere; DatasetError if it is corrupt, or another file."""
    names = ("images", "label", "usage", "ferplus_votes")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names}
    except Exception as error:  # zip files, numpy's headers and missing arrays each have errors of their own
        raise DatasetError(f"{path} is corrupt or not a fer2013.npz: {reason(error)}; copy it again", path=path) from error
    rows = len(arrays["label"]) if arrays["label"].ndim else 0
    shapes = ((rows, SIDE, SIDE), (rows,), (rows,), (rows, len(FERPLUS_VOTES)))
    for name, shape, most in zip(names, shapes, (255, len(LABELS) - 1, len(SPLITS) - 1, 255), strict=True):
        array = arrays[name]
        if array.shape != shape or array.dtype.kind not in "iu" or (array.size and not 0 <= array.min() <= array.max() <= most):
            message = f"{path} is not a fer2013.npz: {name} must be {shape} whole numbers from 0 to {most}; copy it again"
            raise DatasetError(message, path=path, value=array.shape, expected=shape)
    return {
        "images": arrays["images"],
        "label": arrays["label"].astype(np.int64),
        "part": np.array(list(SPLITS))[arrays["usage"]],
        "row": np.arange(rows),
        "votes": arrays["ferplus_votes"],
        "damage": np.empty(0, "U1"),
    }


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


VOTE_FOLDERS = {
    "FER2013Train": "train", "FER2013Valid": "validation", "FER2013Test": "test", "Training": "train",
    "PublicTest": "validation", "PrivateTest": "test", "train": "train", "test": "test",
}  # fmt: skip
"""Folder → part, in the exports of Microsoft's script and of others."""

Mode = Literal["majority", "probability", "multi-target", "dda"]


def label_votes(votes: np.ndarray, mode: Mode = "majority") -> tuple[np.ndarray, np.ndarray]:
    """Turn votes (N, 10) into label distributions (N, 8), rows that sum to one or are zero, and whether they are kept (N,).

    Args:
        votes: counts.
        mode: `"majority"`: the winner, if it holds more than half of the votes left after single votes are removed.
            `"probability"`: classes in order of votes until three quarters of the votes are covered or three classes
            are taken, stopping at `unknown` or `NF`; kept if they hold more than half of the votes.
            `"multi-target"`: every class with 30 % of the votes or more, if together they hold more than half. A loss
            over single classes takes each non-zero entry as a full target.
            `"dda"`: what Dual-Domain Attention does instead: only images are removed whose winner is `NF`, the
            votes for `unknown` count as neutral, and the first of equals wins.
    """
    if mode == "dda":
        kept = np.argmax(votes, 1) != FERPLUS_VOTES.index("NF")
        winner_only = np.array(votes[:, :8], np.float64)
        winner_only[:, 0] += votes[:, 8]
        kept &= winner_only.any(1)
        return np.where(kept[:, None], np.eye(8)[winner_only.argmax(1)], 0), kept
    counts = np.where(np.asarray(votes) <= 1, 0, votes).astype(np.float64)
    total = counts.sum(1)
    if mode == "majority":
        taken = np.zeros_like(counts)
        rows = np.flatnonzero(counts.max(1, initial=0) > total / 2)
        winner = counts[rows].argmax(1)
        taken[rows, winner] = counts[rows, winner]
    elif mode == "multi-target":
        taken = np.where(counts >= 0.3 * total[:, None], counts, 0)
        taken[taken.sum(1) <= 0.5 * total] = 0
    else:
        taken = np.stack([_covering(row) for row in counts]) if len(counts) else counts
    kept = taken.any(1) & (taken.argmax(1) < 8)
    distribution = np.where(kept[:, None], taken[:, :8], 0)
    return distribution / np.where(kept, distribution.sum(1), 1)[:, None], kept


def _covering(row: np.ndarray) -> np.ndarray:
    """The classes that the probability mode takes from one row of cleaned counts, or zeros if it drops the row."""
    left, total = row.copy(), row.sum()
    taken, covered, number, stop = np.zeros_like(row), 0.0, 0, False
    while covered < 0.75 * total and number < 3 and not stop:
        best = left.max()
        for index in np.flatnonzero(left == best):  # classes with equal votes are taken together
            taken[index], left[index] = best, 0
            covered, number = covered + best, number + 1
            if index >= 8:  # unknown and NF end the taking, and count only when nothing better came before
                stop = True
                if taken.sum() > best:
                    taken[index], number = 0, number - 1
                break
    return np.zeros_like(row) if taken.sum() <= 0.5 * total or number > 3 else taken


def read_votes(path: Path) -> tuple[np.ndarray, list[str], list[str]]:
    """Read `fer2013new.csv`, or the `label.csv` that Microsoft's script writes into each folder (no header line).

    Returns (N, 10) uint8 votes, N image names, and N words of `Usage` (empty in `label.csv`). A row without ten valid votes
    raises DatasetError.
    """
    columns = ["Image name", "box", *FERPLUS_VOTES] if path.name.lower() == "label.csv" else None
    votes, names, usage = [], [], []
    for line, row in read_rows(path, columns):
        try:
            votes.append([_vote(row[name]) for name in FERPLUS_VOTES])
        except (KeyError, ValueError) as error:
            raise DatasetError(f"{path} line {line}: expected ten votes ({error}); download the file again") from error
        names.append(row.get("Image name", ""))
        usage.append(row.get("Usage", ""))
    return np.array(votes, np.uint8).reshape(-1, 10), names, usage


def _vote(text: str) -> int:
    try:
        count = int(float(text))
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:40]!r} is not a number of votes") from None
    if not 0 <= count <= 255:
        raise ValueError(f"{text[:40]!r} votes")
    return count


def read_with_csv(place: Place) -> Dataset:
    """Read the csv of FER2013 and `fer2013new.csv`, matched by row; DatasetError if their rows differ."""
    images, path = place.marked
    data = of_arrays(place, csv_arrays(images))
    votes, _, usage = read_votes(path)
    row = data.names.astype(np.int64)
    if len(votes) < (row.max(initial=-1) + 1) or (len(votes) != len(row) and not place.damage.found):
        message = f"{path} has {len(votes)} rows of votes for {len(row)} images; rows are matched, so both must be complete"
        raise DatasetError(message)
    part = np.array([part_of(word) for word in usage])
    if len(wrong := np.flatnonzero(part[row] != data.part)):
        first = int(row[wrong[0]])
        raise DatasetError(
            f"{path} is not aligned with the images: row {first} is {usage[first]!r} there and {data.part[wrong[0]]} in "
            f"the csv ({len(wrong)} rows differ). Use the two files in their original order"
        )
    return _labeled(place, data, votes[row])


def read_npz_votes(place: Place) -> Dataset:
    """Read `fer2013.npz`."""
    arrays = npz_arrays(place.marked[0])
    return _labeled(place, of_arrays(place, arrays), arrays["votes"])


def read_microsoft(place: Place) -> Dataset:
    """Read folders of files with FERPlus names (`fer0000000.png`), also in class folders; DatasetError for other names."""
    known: dict[str, np.ndarray] = {}
    files = [path for folder in VOTE_FOLDERS if (path := child(place.base, f"{folder}/label.csv"))]
    for path in files or place.marked[-1:]:
        votes, names, _ = read_votes(path)
        known |= {name.rpartition(".")[0]: row for name, row in zip(names, votes, strict=True) if name}
    names, parts, rows = [], [], []
    for folder, part in VOTE_FOLDERS.items():
        below = child(place.base, folder)
        for name in images_below(below) if below else ():
            stem = name.rpartition("/")[2].rpartition(".")[0]
            if stem in known:
                names.append(f"{below.name}/{name}" if below else name)
                parts.append(part)
                rows.append(known[stem])
            else:
                place.damage(f"no votes for {folder}/{name}")
    if not rows:
        raise DatasetError(
            f"no image under {place.base} has a name of fer2013new.csv (fer0000000.png …). Votes go by row of fer2013.csv, "
            "and the names in class folders of other copies (Training_123.jpg) do not contain the row: use fer2013.csv beside "
            "fer2013new.csv"
        )
    return _labeled(place, of_files(place.base, FERPLUS, names, [-1] * len(names), parts), np.array(rows))


def _labeled(place: Place, data: Dataset, votes: np.ndarray) -> Dataset:
    """Apply the selected label rule and exclude the images that it drops."""
    mode = place.options["mode"]
    distribution, kept = label_votes(votes, mode)  # pyrefly: ignore  # one of Mode: the reader checked it
    label = np.where(kept, distribution.argmax(1), -1)
    note = f"rule {mode}: {int(kept.sum()):,} of {len(kept):,} images have a label, the rest is dropped"
    data = dataclasses.replace(
        data, labels=FERPLUS, label=label, distribution=distribution, votes=votes, vote_names=FERPLUS_VOTES
    )
    return data.take(np.flatnonzero(kept), notes=(note,))
