"""Images of the web: RAF-DB, AffectNet, and a pool of both with CK+.

**RAF-DB** (Li et al. 2017): 15,339 images in seven basic classes, and 3,954 in eleven compound ones. Numbered folders are read
by RAF-DB's own numbers 1 … 7. Copies sorted into 0 … 6 circulate in two orders (RAF-DB's number minus one, and AffectNet's, as
DDAMFN and Global-ROI Net need it); `order` must state which.

**AffectNet** (Mollahosseini et al. 2017): images in eight classes with valence and arousal; seven without contempt. The test
images were never published: papers report on the 4,000 (3,500) validation images, which are `test` of the protocol `held-out`.
Rows labeled none, uncertain or no face are skipped.

**Pool** of RAF-DB, AffectNet and CK+ in six classes, from the csv files of hyunyongPark/Emotion-Recognition: `train.csv`,
`valid.csv` and `test.csv` have columns `image_path` (`Data/aff/<class>/…`, `Data/RAF/img/<class>/…`, `Data/CK+48/<class>/…`)
and `label`. In these files 76 % of the validation images are training images.
"""

import hashlib
import os
import re
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import DatasetError, reason
from ...labels import AFFECTNET7, AFFECTNET11, ALPHABETICAL8, POOLED6, RAFDB, RAFDB_COMPOUND, canonical
from .cache import mapped
from .dataset import Dataset
from .folders import ListedImages, part_folders, part_of, part_of_file, read_class_folders
from .layout import Place, child
from .listing import affect, header_of, number_in, read_rows, read_table, single_precision, subfolders, texts
from .protocols import Draw, Rows, cut
from .studio import recordings_of

ATTRIBUTES = {
    "gender": ("male", "female", "unsure"),
    "race": ("Caucasian", "African-American", "Asian"),
    "age": ("0-3", "4-19", "20-39", "40-69", "70+"),
}
"""Last three lines of `Annotation/manual/<stem>_manu_attri.txt`, and what their numbers mean."""


def _raf_labels(place: Place) -> tuple[str, ...]:
    return RAFDB_COMPOUND if place.options["labels"] == "compound" else RAFDB


def read_rafdb_list(place: Place) -> Dataset:
    """Read `list_patition_label.txt`, boxes and attributes; DatasetError without the folder of the images that are wanted."""
    labels, kind = _raf_labels(place), place.options["images"]
    path = place.marked[0]
    folder = child(place.base, f"Image/{kind}", f"{kind}/{kind}", kind)
    if folder is None:
        message = f"RAF-DB under {place.base} has no images in Image/{kind}; images=aligned|original chooses the other folder"
        raise DatasetError(message)
    listed, inner = ListedImages(place, place.base), folder.relative_to(place.base).as_posix()
    manual = child(place.base, "Annotation/manual", "Annotation/Annotation/manual")
    boxes = child(place.base, "Annotation/boundingbox", "Annotation/Annotation/boundingbox") if kind == "original" else None
    for line, row in enumerate(path.read_text(errors="surrogateescape").splitlines(), 1):
        if not row.strip():
            continue
        name, _, number = row.strip().rpartition(" ")
        stem, dot, suffix = name.strip().rpartition(".")
        if not 1 <= number_in(number) <= len(labels):
            place.damage(f"{path.name} line {line}: {row.strip()!r} does not end in a label 1 … {len(labels)}")
            continue
        wanted = f"{stem}_aligned{dot}{suffix}" if kind == "aligned" else name
        image = next(filter(listed.locate, (f"{inner}/{wanted}", f"{inner}/{name}")), None)
        if image is None:
            place.damage(f"{path.name} line {line}: image not found: {wanted}")
            continue
        try:
            described, corner = _attributes(manual, stem), _box(boxes, stem)
        except ValueError as error:
            place.damage(f"annotations of {stem}: {error}")
            continue
        listed.add(image, stem, label=int(number) - 1, part=part_of_file(stem), attributes=described, corners=corner)
    attributes, corners = listed.rows["attributes"], listed.rows["corners"]
    groups = {name: texts(row[index] for row in attributes) for index, name in enumerate(ATTRIBUTES)} if manual else {}
    return listed.dataset(labels, groups=groups, boxes=single_precision(corners).reshape(-1, 4) if boxes else None)


def _attributes(folder: Path | None, stem: str) -> list[str]:
    """Return the annotations of an image, blank where missing; ValueError: the file is corrupt."""
    values = _words(folder, f"{stem}_manu_attri.txt")[-3:]
    if not values:
        return [""] * 3
    numbers = [number_in(value) for value in values]
    if len(numbers) != 3 or not all(0 <= n < len(words) for words, n in zip(ATTRIBUTES.values(), numbers, strict=True)):
        raise ValueError(f"{' '.join(values)[:40]!r} is not gender, race and age")
    return [words[number] for words, number in zip(ATTRIBUTES.values(), numbers, strict=True)]


def _box(folder: Path | None, stem: str) -> list[float]:
    """Return left, top, right, bottom, NaN for missing files; ValueError: the file is corrupt."""
    values = [float(word) for word in _words(folder, f"{stem}_boundingbox.txt")[:4]] or [np.nan] * 4
    if len(values) != 4:
        raise ValueError(f"{len(values)} numbers instead of a box")
    return values


def _words(folder: Path | None, name: str) -> list[str]:
    path = folder / name if folder else None
    return path.read_text(encoding="utf-8").split() if path and path.is_file() else []


def read_rafdb_folders(place: Place) -> Dataset:
    """Read `<part>/<class>/…`; folders 0 … 6 need the option `order`, otherwise DatasetError."""
    labels, folders = _raf_labels(place), part_folders(place.base)
    first = 0 if any((place.base / folder / "0").is_dir() for folder in folders) else 1
    order: tuple[str, ...] = labels
    if first == 0:
        orders = {"rafdb": RAFDB, "affectnet": AFFECTNET7}
        if place.options["order"] not in orders:
            raise DatasetError(
                f"the class folders 0 … 6 under {place.base} do not state their order; give order=rafdb (label minus one: "
                "0 surprise, 3 happiness) or order=affectnet (0 neutral, 1 happiness), whichever makes happiness the largest"
            )
        order = orders[place.options["order"]]
    numbers = {str(number): name for number, name in enumerate(order, first)}
    return read_class_folders(place, folders, labels, numbers=numbers, parts_in_names=True)


AFFECTNET_COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks",
    "expression", "valence", "arousal",
)  # fmt: skip
"""Columns of `training.csv` and `validation.csv`, for the copies whose files lack the header line."""
LISTS = {
    "train": "training.csv|Manually_Annotated_file_lists/training.csv",
    "validation": "validation.csv|Manually_Annotated_file_lists/validation.csv",
}
ANNOTATIONS = ("stem", "expression", "valence", "arousal")  # arrays of the copies with one file per value


def read_affectnet_lists(place: Place) -> Dataset:
    """Read `training.csv` and `validation.csv`, in which some copies lack the line of the header."""
    folder = child(
        place.base, "Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images", "Manually_Annotated", "images"
    )
    root = folder or place.base
    files = {where: path for where, mark in LISTS.items() if (path := child(place.base, *mark.split("|")))}
    tables = {
        where: list(read_rows(path, None if AFFECTNET_COLUMNS[0] in header_of(path) else AFFECTNET_COLUMNS))
        for where, path in files.items()
    }
    listed = ListedImages(place, root, (row.get(AFFECTNET_COLUMNS[0], "") for table in tables.values() for _, row in table))
    for where, path in files.items():
        for line, row in tables[where]:
            try:
                expression = int(row["expression"])
                x, y, width, height, valence, arousal = (
                    float(row[name]) for name in (*AFFECTNET_COLUMNS[1:5], "valence", "arousal")
                )
                kind = AFFECTNET11[expression]
            except (KeyError, ValueError, IndexError) as error:
                place.damage(f"{path.name} line {line}: {error}")
                continue
            if kind in place.labels:
                numbers = (x, y, x + width, y + height, valence, arousal)
                listed.add(row[AFFECTNET_COLUMNS[0]], f"{path.name} line {line}", label=expression, part=where, numbers=numbers)
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


def read_affectnet_folders(place: Place) -> Dataset:
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


SOURCES = {"affectnet": r"(^|/)aff(ectnet)?(/|$)", "rafdb": r"(^|/)raf(-?db)?(/|$)", "ckplus": r"(^|/)ck\+?(48)?(/|$)"}
"""The source of an image, from its path."""


def read_pool(place: Place) -> Dataset:
    """Read the three files; the groups `source` and `official part` come from the paths."""
    tables = {path.name: read_table(path, "image_path", "label") for path in place.marked}
    listed = ListedImages(place, place.base, (row.get("image_path", "") for table in tables.values() for _, row in table))
    for name, table in tables.items():
        part = part_of(Path(name).stem)
        for line, row in table:
            kind = row.get("label", "")
            kind = POOLED6[number] if 0 <= (number := number_in(kind)) < len(POOLED6) else canonical(kind)
            if kind not in POOLED6:
                place.damage(f"{name} line {line}: label {row.get('label')!r} is none of 0 … 5 or {', '.join(POOLED6)}")
            else:
                listed.add(row.get("image_path", ""), f"{name} line {line}", label=POOLED6.index(kind), part=part)
    sources = (next((source for source, path in SOURCES.items() if re.search(path, name.lower())), "") for name in listed.names)
    groups = {"source": texts(sources), "official part": texts(map(part_of_file, listed.names))}
    return listed.dataset(POOLED6, groups=groups, **recordings_of(listed.names))


def leak_free(data: Dataset, draw: Draw) -> Rows:
    """Each image once; test is RAF-DB's official test part, the AffectNet images of `test.csv`, and whole CK+ subjects."""
    _, first = np.unique(data.names, return_index=True)
    source, official_part = data.groups["source"][first], data.groups["official part"][first]
    in_test_file = np.isin(data.names[first], data.names[data.part == "test"])
    test = np.where(source == "rafdb", official_part == "test", in_test_file & (source != "ckplus"))
    people = first[source == "ckplus"]
    test |= np.isin(first, cut(data, people, draw)) if len(people) else False
    rest = np.sort(first[~test])
    validation = cut(data, rest, draw)
    return {"train": np.setdiff1d(rest, validation), "validation": validation, "test": np.sort(first[test])}
