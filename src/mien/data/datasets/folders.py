"""Images in one folder per class, the layout of most copies of most datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...labels import canonical
from .dataset import Dataset
from .images import Files
from .layout import Damage, Place
from .listing import images_below, subfolders, texts

PARTS = {
    "train": "train",
    "training": "train",
    "train_set": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "val_set": "validation",
    "dev": "validation",
    "publictest": "validation",
    "test": "test",
    "testing": "test",
    "privatetest": "test",
}
"""Names of the parts of a dataset in files and folders, in lower case → our name."""


def part_of(text: str) -> str:
    """Return `"train"`, `"validation"`, `"test"`, or the empty string for any other word."""
    return PARTS.get(text.strip().lower(), "")


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
    part_from_name: Callable[[str], str] = lambda name: "",
) -> Dataset:
    """Read `<folder>/<class>/…` for each folder.

    Args:
        place: the base that the folders are in.
        folders: folder → part; the folder `""` is the base itself.
        labels: class names in order.
        numbers: number → class, for folders named by numbers.
        ignore: known classes to skip.
        part_from_name: file name → part, empty for the part of the folder.
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
            part += [part_from_name(name.rpartition("/")[2]) or where for name in found]
    skipped = ", ".join(f"{count} {extension}" for extension, count in others.most_common(5))
    notes = (f"files that are not images were skipped: {skipped}",) if others else ()
    return of_files(place.base, labels, names, label, part, notes=notes)


def of_files(
    root: Path, labels: tuple[str, ...], names: list[str], label: Sequence[int], part: Sequence[str], **columns: Any
) -> Dataset:
    """Return a dataset of image files; `columns` are further fields."""
    array = texts(names)
    return Dataset(
        name="",
        labels=labels,
        images=Files(root, array),
        names=array,
        label=np.array(label, np.int64),
        part=texts(part),
        **columns,
    )


def existing(locate: Callable[[str], str | None], text: str, where: str, damage: Damage) -> str | None:
    """Return the path of an image in a list, or report it as missing."""
    path = locate(text)
    if path is None:
        damage(f"{where}: image not found: {text}")
    return path
