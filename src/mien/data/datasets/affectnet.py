"""AffectNet (Mollahosseini et al. 2017): web images in eight classes with valence and arousal; seven without contempt.

The test images were never published: papers report on the 4,000 (3,500) validation images, which are `test` of the
protocol `held-out`. Rows labeled none, uncertain or no face are skipped.
"""

import hashlib
import os
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import DatasetError, reason
from ...labels import AFFECTNET11, ALPHABETICAL8
from .cache import mapped
from .dataset import Dataset
from .folders import ListedImages, part_folders, part_of, read_class_folders
from .layout import Place, child
from .listing import affect, header_of, number_in, read_rows, read_table, single_precision, subfolders, texts

COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks",
    "expression", "valence", "arousal",
)  # fmt: skip
"""Columns of `training.csv` and `validation.csv`, for the copies whose files lack the header line."""
LISTS = {
    "train": "training.csv|Manually_Annotated_file_lists/training.csv",
    "validation": "validation.csv|Manually_Annotated_file_lists/validation.csv",
}
ANNOTATIONS = ("stem", "expression", "valence", "arousal")  # arrays of the copies with one file per value


def read_lists(place: Place) -> Dataset:
    """Read `training.csv` and `validation.csv`, in which some copies lack the line of the header."""
    folder = child(
        place.base, "Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "Manually_Annotated", "images"
    )
    root = folder or place.base
    files = {where: path for where, mark in LISTS.items() if (path := child(place.base, *mark.split("|")))}
    tables = {where: list(read_rows(path, None if COLUMNS[0] in header_of(path) else COLUMNS)) for where, path in files.items()}
    listed = ListedImages(place, root, (row.get(COLUMNS[0], "") for table in tables.values() for _, row in table))
    for where, path in files.items():
        for line, row in tables[where]:
            try:
                expression = int(row["expression"])
                x, y, width, height, valence, arousal = (float(row[name]) for name in (*COLUMNS[1:5], "valence", "arousal"))
                kind = AFFECTNET11[expression]
            except (KeyError, ValueError, IndexError) as error:
                place.damage(f"{path.name} line {line}: {error}")
                continue
            if kind in place.labels:
                numbers = (x, y, x + width, y + height, valence, arousal)
                listed.add(row[COLUMNS[0]], f"{path.name} line {line}", label=expression, part=where, numbers=numbers)
    columns = single_precision(listed.rows["numbers"]).reshape(-1, 6)
    valence, arousal = affect(columns[:, 4:]).T
    return listed.dataset(place.labels, boxes=columns[:, :4], valence=valence, arousal=arousal)


def read_arrays(place: Place) -> Dataset:
    """Read `train_set` and `val_set` with one file per value and image: hundreds of thousands, hence the cache."""
    listed = ListedImages(place, place.base)
    for folder, where in part_folders(place.base).items():
        if not (place.base / folder / "annotations").is_dir():
            continue
        table = _annotations(place.base / folder / "annotations", place)
        for stem, expression, *pair in zip(*(table[name] for name in ANNOTATIONS), strict=True):
            if not 0 <= expression < len(place.labels):
                continue
            paths = (f"{folder}/images/{stem}{suffix}" for suffix in (".jpg", ".png", ".jpeg"))
            if path := next(filter(listed.locate, paths), None):
                listed.add(path, stem, label=int(expression), part=where, pair=pair)
            else:
                place.damage(f"{folder}/images has no image {stem}")
    valence, arousal = affect(listed.rows["pair"]).reshape(-1, 2).T
    return listed.dataset(place.labels, valence=valence, arousal=arousal)


def _annotations(folder: Path, place: Place) -> dict[str, np.ndarray]:
    with os.scandir(folder) as entries:
        files = sorted(
            (entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries if entry.name.endswith(".npy")
        )
    digest = hashlib.sha256(repr((str(folder.resolve()), files)).encode(errors="surrogateescape")).hexdigest()
    arrays = mapped("affectnet-annotations", digest, partial(_parse, folder, [name for name, _, _ in files]))
    for what in arrays["damage"]:
        place.damage(str(what))
    return arrays


def _parse(folder: Path, files: list[str]) -> dict[str, np.ndarray]:
    rows, damage = [], []
    for name in files:
        if not name.endswith("_exp.npy"):
            continue
        stem = name.removesuffix("_exp.npy")
        try:
            expression, valence, arousal = (
                float(np.load(folder / f"{stem}_{kind}.npy", allow_pickle=False)) for kind in ("exp", "val", "aro")
            )
            rows.append((stem, int(expression) if abs(expression) < 100 else -1, valence, arousal))
        except Exception as error:  # numpy evaluates the header and raises anything.
            damage.append(f"annotations of {stem}: {reason(error)}")
    columns = list(zip(*rows, strict=True)) or [()] * 4
    return {
        "stem": texts(columns[0]),
        "expression": np.array(columns[1], np.int64),
        "valence": single_precision(columns[2]),
        "arousal": single_precision(columns[3]),
        "damage": texts(damage),
    }


def read_phases(place: Place) -> Dataset:
    """Read the csv of yaoing/DAN: columns phase, img_path, label."""
    [path] = place.marked
    table = read_table(path, "phase", "img_path", "label")
    listed = ListedImages(place, place.base, (row.get("img_path", "") for _, row in table))
    for line, row in table:
        where = part_of(row.get("phase", ""))
        number = number_in(row.get("label", ""))
        if not where or not 0 <= number < len(AFFECTNET11):
            place.damage(f"{path.name} line {line}: phase {row.get('phase')!r} and label {row.get('label')!r}")
        elif number < len(place.labels):
            listed.add(row.get("img_path", ""), f"{path.name} line {line}", label=number, part=where)
    return listed.dataset(place.labels)


ORDERS = {"affectnet": AFFECTNET11, "alphabetical": ALPHABETICAL8}  # option `order` → classes of the folders 0, 1, 2 …


def read_folders(place: Place) -> Dataset:
    """Read `<part>/<class>/…`; numbered folders need the option `order`, otherwise DatasetError."""
    folders, order = part_folders(place.base), place.options["order"]
    numbered = any(name.isdigit() for folder in folders for name in subfolders(place.base / folder))
    if numbered and order not in ORDERS:
        message = (
            f"the numbered class folders under {place.base} do not state their order, and copies of AffectNet with two orders "
            "circulate; give order=affectnet (0 neutral, 1 happiness) or order=alphabetical (0 anger, 1 contempt); in "
            "training data the folder of happiness is the largest"
        )
        raise DatasetError(message, path=place.base, expected=tuple(ORDERS))
    numbers = {str(number): name for number, name in enumerate(ORDERS.get(order, AFFECTNET11))}
    return read_class_folders(place, folders, place.labels, numbers=numbers, ignore=set(AFFECTNET11) - set(place.labels))
