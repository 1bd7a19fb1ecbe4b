"""RAF-DB, AffectNet and CK+ pooled into six classes, from the csv files of hyunyongPark/Emotion-Recognition.

`train.csv`, `valid.csv` and `test.csv` have columns `image_path` (`Data/aff/<class>/…`, `Data/RAF/img/<class>/…`,
`Data/CK+48/<class>/…`) and `label`. In these files 76 % of the validation images are training images.
"""

import re
from pathlib import Path

import numpy as np

from ...labels import POOLED6, canonical
from .dataset import Dataset
from .folders import ListedImages, part_of, part_of_file
from .layout import Place
from .listing import number_in, read_table, texts
from .protocols import Draw, Rows, cut
from .studio import recordings_of

SOURCES = {"affectnet": r"(^|/)aff(ectnet)?(/|$)", "rafdb": r"(^|/)raf(-?db)?(/|$)", "ckplus": r"(^|/)ck\+?(48)?(/|$)"}
"""The source of an image, from its path."""


def read(place: Place) -> Dataset:
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
