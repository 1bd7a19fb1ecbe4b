"""Face Research Lab London Set (DeBruine and Jones 2017): 102 adults from the front, neutral and smiling.

For evaluation, not for training: smiles against neutral faces, and the difference between groups of self-reported gender,
ethnicity and age. `labels.csv` joins `image, subject, expression, face_age, face_gender, face_eth`. Group
sizes of 9 to 13 allow only wide intervals.
"""

import numpy as np

from ...labels import FER2013, canonical
from .dataset import Dataset
from .folders import ListedImages
from .layout import Place
from .listing import read_table, texts

COLUMNS = ("image", "subject", "expression", "face_age", "face_gender", "face_eth")
SHOWN = ("neutral", "happiness")
BANDS = (18, 25, 35, 120)  # ages at which the bands of the group `age` begin


def read(place: Place) -> Dataset:
    """Read the images of `labels.csv`, with the groups gender, ethnicity and age."""
    labels = SHOWN if place.options["classes"] == "two" else FER2013
    table = read_table(place.base / "labels.csv", *COLUMNS)
    listed = ListedImages(place, place.base, (row.get("image", "") for _, row in table))
    for line, row in table:
        where = f"labels.csv line {line}"
        if missing := [name for name in COLUMNS if name not in row]:
            place.damage(f"{where}: no cell for {missing[0]}")
        elif (kind := canonical(row["expression"])) not in SHOWN:
            place.damage(f"{where}: expression {row['expression'][:40]!r} is neither neutral nor happy")
        else:
            listed.add(row["image"], where, label=labels.index(kind), part="test", row=row)
    column = {name: texts(row[name] for row in listed.rows["row"]) for name in COLUMNS}
    age = texts(map(_band, column["face_age"]))
    groups = {"gender": column["face_gender"], "ethnicity": column["face_eth"], "age": age}
    return listed.dataset(labels, subject=column["subject"], groups=groups)


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
