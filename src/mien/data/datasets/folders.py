"""Images in one folder per class, the layout of most copies of most datasets, and images of a list."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DatasetError
from ...labels import canonical, label_set
from .dataset import Dataset, Files
from .layout import Place
from .listing import Locator, images_below, subfolders, texts

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


def read_own(place: Place) -> Dataset:
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
