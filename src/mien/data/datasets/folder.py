"""Images of your own in class folders: `<class>/…`, or `<train|val|test>/<class>/…`."""

import dataclasses

from ...errors import DatasetError
from ...labels import canonical, label_set
from .dataset import Dataset
from .folders import part_folders, part_of, read_class_folders
from .layout import Layout, Place
from .listing import subfolders
from .protocols import CROSS_DATASET, Protocol, held_out, named_parts, validation_is_test
from .reader import Option, Reader


def _read(place: Place) -> Dataset:
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


READER = Reader(
    name="folder",
    title="a folder of class folders",
    obtain="Arrange images as <class>/… or <train|val|test>/<class>/….",
    labels=(),
    layouts=(Layout("class folders", ("*/",), _read),),
    protocols={
        "official": Protocol("the parts that the folders name; if they name none, all images are for test", named_parts),
        "held-out": Protocol(
            "the folder test (or validation) is the test split; a tenth of every class of train is for validation", held_out
        ),
        "author:poster": Protocol(
            "the test (or validation) images choose the epoch and give the result",
            validation_is_test,
            flaws=("selected on test",),
        ),
        "cross-dataset": CROSS_DATASET,
    },
    options={"labels": Option("a label set of mien.labels; without it the classes are the folder names in alphabetical order")},
)
