"""Face Research Lab London Set (DeBruine and Jones 2017): 102 adults from the front, neutral and smiling.

For evaluation, not for training: smiles against neutral faces, and the difference between groups of self-reported gender,
ethnicity and age. `labels.csv` joins `image, subject, expression, face_age, face_gender, face_eth`. Group
sizes of 9 to 13 allow only wide intervals.
"""

from __future__ import annotations

import numpy as np

from ...errors import DatasetError
from ...labels import FER2013, canonical
from .dataset import Dataset
from .folders import ListedImages
from .layout import Layout, Place
from .listing import header_of, read_rows, texts
from .protocols import Protocol, all_test
from .reader import Option, Reader

COLUMNS = ("image", "subject", "expression", "face_age", "face_gender", "face_eth")
SHOWN = ("neutral", "happiness")
BANDS = (18, 25, 35, 120)  # ages at which the bands of the group `age` begin


def _read(place: Place) -> Dataset:
    path = place.base / "labels.csv"
    if missing := [name for name in COLUMNS if name not in header_of(path)]:
        raise DatasetError(f"{path} lacks the columns {', '.join(missing)}; take it as published")
    labels = SHOWN if place.options["classes"] == "two" else FER2013
    table = list(read_rows(path))
    listed = ListedImages(place, place.base, (row.get("image", "") for _, row in table))
    for line, row in table:
        where = f"labels.csv line {line}"
        if missing := [name for name in COLUMNS if name not in row]:
            place.damage(f"{where}: no cell for {missing[0]}")
        elif (kind := canonical(row["expression"])) not in SHOWN:
            place.damage(f"{where}: expression {row['expression'][:40]!r} is neither neutral nor happy")
        else:
            listed.add(row["image"], where, label=labels.index(kind), part="test", row=row)
    rows = listed.rows["row"]
    return listed.dataset(
        labels,
        subject=texts(row["subject"] for row in rows),
        groups={
            "gender": texts(row["face_gender"] for row in rows),
            "ethnicity": texts(row["face_eth"] for row in rows),
            "age": texts(_band(row["face_age"]) for row in rows),
        },
    )


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


READER = Reader(
    name="london",
    title="Face Research Lab London Set (DeBruine and Jones 2017)",
    obtain="The London Set is doi:10.6084/m9.figshare.5047666 (CC BY 4.0); write labels.csv beside the images.",
    labels=FER2013,
    layouts=(
        Layout(
            "labels.csv and images",
            ("labels.csv", "images"),
            _read,
            copies="doi:10.6084/m9.figshare.5047666 with a table joined by this project",
        ),
    ),
    protocols={"cross-dataset": Protocol("all images, for a model trained on another dataset", all_test)},
    options={
        "classes": Option(
            "whether a prediction may be any of seven classes, of which two occur, or only one of these two", ("seven", "two")
        )
    },
)
