"""RAF-DB (Li et al. 2017): 15,339 images from the web in seven basic classes, and 3,954 in eleven compound ones.

Numbered folders are read by RAF-DB's own numbers 1 … 7. Copies sorted into 0 … 6 circulate in two orders (RAF-DB's
number minus one, and AffectNet's, as DDAMFN and Global-ROI Net need it); `order` must state which.
"""

from pathlib import Path

import numpy as np

from ...errors import DatasetError
from ...labels import AFFECTNET7, RAFDB, RAFDB_COMPOUND
from .dataset import Dataset
from .folders import ListedImages, part_folders, part_of_file, read_class_folders
from .layout import Place, child
from .listing import number_in, single_precision, texts

ATTRIBUTES = {
    "gender": ("male", "female", "unsure"),
    "race": ("Caucasian", "African-American", "Asian"),
    "age": ("0-3", "4-19", "20-39", "40-69", "70+"),
}
"""Last three lines of `Annotation/manual/<stem>_manu_attri.txt`, and what their numbers mean."""


def _labels(place: Place) -> tuple[str, ...]:
    return RAFDB_COMPOUND if place.options["labels"] == "compound" else RAFDB


def read_list(place: Place) -> Dataset:
    """Read `list_patition_label.txt`, boxes and attributes; DatasetError without the folder of the images that are wanted."""
    labels, kind = _labels(place), place.options["images"]
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


def read_folders(place: Place) -> Dataset:
    """Read `<part>/<class>/…`; folders 0 … 6 need the option `order`, otherwise DatasetError."""
    labels, folders = _labels(place), part_folders(place.base)
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
