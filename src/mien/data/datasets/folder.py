"""Images of your own in class folders: `<class>/…`, or `<train|val|test>/<class>/…`."""

import dataclasses

from ...errors import DatasetError
from ...labels import canonical, label_set
from .dataset import Dataset
from .folders import part_folders, part_of, read_class_folders
from .layout import Place
from .listing import subfolders


def read(place: Place) -> Dataset:
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
