"""Portraits in a studio: JAFFE, CK+ and the Face Research Lab London Set.

**JAFFE** (Lyons et al. 1998): 213 images of ten Japanese women posing six expressions and neutral. A file name such as
`KA.AN1.39.tiff` names the subject, the posed expression, and the row of the semantic ratings. `labels=rated` takes the
expression that 60 observers rated highest instead: six classes, neutral faces among them, which is what the Global-ROI authors
seem to use (54, 39, 41, 8, 41 and 30 images).

**CK+** (Lucey et al. 2010): 593 recordings of 123 people from neutral to the peak of an expression, 327 of them labeled. A
recording has no label frame by frame. `frames=last-three` (the usual choice, 981 images) gives its last three frames its label,
`frames=apex` only the last. `neutral` adds the first frame of each labeled recording, or of all, as neutral.

**London** (DeBruine and Jones 2017): 102 adults from the front, neutral and smiling. For evaluation, not for training: smiles
against neutral faces, and the difference between groups of self-reported gender, ethnicity and age. `labels.csv` joins `image,
subject, expression, face_age, face_gender, face_eth`. Group sizes of 9 to 13 allow only wide intervals.
"""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DatasetError
from ...labels import ALPHABETICAL7, CKPLUS, FER2013, JAFFE6, canonical
from .dataset import Dataset
from .folders import ListedImages, of_files, read_class_folders
from .layout import Place, child
from .listing import images_below, read_table, texts

NAME = re.compile(r"([A-Z]{2})[.-](AN|DI|FE|HA|NE|SA|SU)(\d)", re.IGNORECASE)
CODES = dict(zip(("AN", "DI", "FE", "HA", "NE", "SA", "SU"), ALPHABETICAL7, strict=True))
RATED = {"HAP": "happiness", "SAD": "sadness", "SUR": "surprise", "ANG": "anger", "DIS": "disgust", "FEA": "fear"}
"""Columns of the table of semantic ratings."""


def read_jaffe(place: Place) -> Dataset:
    """Read the images with the labels of their names, or of the table of ratings."""
    rated = place.options["labels"] == "rated"
    labels, ratings = (JAFFE6, _ratings(place.base)) if rated else (ALPHABETICAL7, {})
    names, label, subject = [], [], []
    for name in images_below(place.base):
        match = NAME.match(name.rpartition("/")[2])
        rating = ratings.get(f"{match[1]}-{match[2]}{match[3]}".upper()) if match else None
        if not match:
            place.damage(f"{name} is not named like KA.AN1.39.tiff")
        elif rated and rating is None:
            place.damage(f"the ratings have no row for {name}")
        else:
            kind = CODES[match[2].upper()] if rating is None else max(rating, key=rating.__getitem__)
            names.append(name)
            label.append(labels.index(kind))
            subject.append(match[1].upper())
    return of_files(place.base, labels, names, label, [""] * len(names), subject=texts(subject))


def _ratings(base: Path) -> dict[str, dict[str, float]]:
    """Image (`KA-AN1`) → class → mean rating, from the first table of a text file; the second is of a study without fear."""
    for path in sorted(base.glob("*.txt")) + sorted(base.glob("*.csv")):
        columns: list[str] = []
        found: dict[str, dict[str, float]] = {}
        for line in path.read_text(encoding="latin-1").replace(",", " ").splitlines():
            words = line.replace("#", " ").split()
            if "HAP" in words:
                columns = [word for word in words if word in RATED]
            elif len(columns) == len(RATED) and len(words) == len(columns) + 2 and NAME.match(words[-1]):
                try:
                    values = [float(word) for word in words[1:-1]]
                except ValueError:
                    continue  # then the image has no rating, which is reported where it is needed
                found[words[-1].upper()] = {RATED[name]: value for name, value in zip(columns, values, strict=True)}
        if found:
            return found
    raise DatasetError(
        f"no text file in {base} holds JAFFE's semantic ratings (columns HAP SAD SUR ANG DIS FEA PIC); put the table of "
        "JAFFE's README_FIRST.txt there, or use labels=posed"
    )


FACS_MARK = ("FACS", "FACS_labels/FACS", "*/FACS", "FACS_labels")
FRAME = re.compile(r"(S\d{3})_(\d{3})_(\d+)")  # subject, recording of that subject, frame


def read_tree(place: Place) -> Dataset:
    """Read `cohn-kanade-images/<subject>/<recording>/…`, with the expressions of `Emotion` and the units of `FACS`."""
    images, emotion = place.marked
    neutral, last = place.options["neutral"], 3 if place.options["frames"] == "last-three" else 1
    labels = CKPLUS if neutral != "none" else CKPLUS[1:]
    kinds = _codes(emotion, "_emotion.txt", place)
    facs = child(place.base, *FACS_MARK)
    units = _codes(facs, "_facs.txt", place) if facs else {}
    rows: list[tuple[str, int, list[float] | None]] = []
    for key, frames in sorted(_recordings(images).items()):
        label = CKPLUS[int(kinds[key][0])] if key in kinds else None
        if neutral == "all" or (neutral == "labeled" and label):
            rows.append((frames[0], labels.index("neutral"), None))
        if label in labels:
            peak = frames[-1]  # FACS describes this frame alone
            rows += [(name, labels.index(label), units.get(key) if name == peak else None) for name in frames[-last:]]
    base = images.relative_to(place.base).as_posix()
    names, label = [f"{base}/{row[0]}" for row in rows], [row[1] for row in rows]
    columns = recordings_of(names) | (_units([row[2] for row in rows]) if units else {})
    return of_files(place.base, labels, names, label, [""] * len(rows), **columns)


def _recordings(images: Path) -> dict[str, list[str]]:
    """Frames of each recording (`S005_001`), first to last."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in images_below(images):
        if match := FRAME.match(name.rpartition("/")[2]):
            found[f"{match[1]}_{match[2]}"].append((int(match[3]), name))
    return {key: [name for _, name in sorted(frames)] for key, frames in found.items()}


def _codes(folder: Path, suffix: str, place: Place) -> dict[str, list[float]]:
    """First number of every line of the annotation file of each recording: the expression, or the action units."""
    found: dict[str, list[float]] = {}
    for path in sorted(folder.rglob(f"*{suffix}")):
        try:
            codes = [float(line.split()[0]) for line in path.read_text().splitlines() if line.strip()]
        except ValueError:
            codes = []
        match = FRAME.match(path.name)
        emotion = suffix == "_emotion.txt"
        known = range(len(CKPLUS)) if emotion else range(1, 100)
        if not match or (emotion and len(codes) != 1) or not all(code in known for code in codes):
            place.damage(f"{path.name}: no annotation of CK+")
            continue
        found[f"{match[1]}_{match[2]}"] = codes
    return found


def _units(present: list[list[float] | None]) -> dict[str, Any]:
    """Return the columns of action units; every unit that a file does not list is absent there."""
    numbers = sorted({int(number) for units in present for number in units or ()})
    table = np.full((len(present), len(numbers)), -1, np.int8)
    for row, units in enumerate(present):
        if units is not None:
            table[row] = np.isin(numbers, np.array(units, int))
    return {"action_units": table, "unit_names": tuple(f"AU{number}" for number in numbers)}


def read_48(place: Place) -> Dataset:
    """Read `CK+48`: the last three frames, cropped to 48 × 48, in class folders."""
    data = read_class_folders(place, {"": ""}, CKPLUS if child(place.base, "neutral") else CKPLUS[1:])
    return dataclasses.replace(data, **recordings_of(data.names))


def recordings_of(names: Iterable[str]) -> dict[str, Any]:
    """Return the columns `subject` and `sequence` of images named like `S005_001_00000011.png`, empty for other names."""
    matches = [FRAME.match(str(name).rpartition("/")[2]) for name in names]
    return {
        "subject": texts(match[1] if match else "" for match in matches),
        "sequence": texts(f"{match[1]}_{match[2]}" if match else "" for match in matches),
    }


LONDON_COLUMNS = ("image", "subject", "expression", "face_age", "face_gender", "face_eth")
SHOWN = ("neutral", "happiness")
BANDS = (18, 25, 35, 120)  # ages at which the bands of the group `age` begin


def read_london(place: Place) -> Dataset:
    """Read the images of `labels.csv`, with the groups gender, ethnicity and age."""
    labels = SHOWN if place.options["classes"] == "two" else FER2013
    table = read_table(place.base / "labels.csv", *LONDON_COLUMNS)
    listed = ListedImages(place, place.base, (row.get("image", "") for _, row in table))
    for line, row in table:
        where = f"labels.csv line {line}"
        if missing := [name for name in LONDON_COLUMNS if name not in row]:
            place.damage(f"{where}: no cell for {missing[0]}")
        elif (kind := canonical(row["expression"])) not in SHOWN:
            place.damage(f"{where}: expression {row['expression'][:40]!r} is neither neutral nor happy")
        else:
            listed.add(row["image"], where, label=labels.index(kind), part="test", row=row)
    column = {name: texts(row[name] for row in listed.rows["row"]) for name in LONDON_COLUMNS}
    age = texts(map(_band, column["face_age"]))
    groups = {"gender": column["face_gender"], "ethnicity": column["face_eth"], "age": age}
    return listed.dataset(labels, subject=column["subject"], groups=groups)


def _band(age: str) -> str:
    """Return the band of an age in years, empty where it is not stated."""
    try:
        years = float(age)
    except ValueError:
        return ""
    place = int(np.searchsorted(BANDS, years, side="right"))
    if not 0 < place < len(BANDS):
        return ""
    return f"{BANDS[place - 1]} to {BANDS[place] - 1}" if place < len(BANDS) - 1 else f"{BANDS[place - 1]} and over"
