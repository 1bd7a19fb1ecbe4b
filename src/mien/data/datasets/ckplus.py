"""CK+ (Lucey et al. 2010): 593 recordings of 123 people from neutral to the peak of an expression, 327 of them labeled.

A recording has no label frame by frame. `frames=last-three` (the usual choice, 981 images) gives its last three frames
its label, `frames=apex` only the last. `neutral` adds the first frame of each labeled recording, or of all, as neutral.
"""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ...labels import CKPLUS
from .dataset import Dataset
from .folders import of_files, read_class_folders
from .layout import Place, child
from .listing import images_below, texts

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
