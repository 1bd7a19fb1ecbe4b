"""JAFFE (Lyons et al. 1998): 213 images of ten Japanese women posing six expressions and neutral.

A file name such as `KA.AN1.39.tiff` names the subject, the posed expression, and the row of the semantic
ratings. `labels=rated` takes the expression that 60 observers rated highest instead: six classes, neutral faces among
them, which is what the Global-ROI authors seem to use (54, 39, 41, 8, 41 and 30 images).
"""

import re
from pathlib import Path

from ...errors import DatasetError
from ...labels import ALPHABETICAL7, JAFFE6
from .dataset import Dataset
from .folders import of_files
from .layout import Place
from .listing import images_below, texts

NAME = re.compile(r"([A-Z]{2})[.-](AN|DI|FE|HA|NE|SA|SU)(\d)", re.IGNORECASE)
CODES = dict(zip(("AN", "DI", "FE", "HA", "NE", "SA", "SU"), ALPHABETICAL7, strict=True))
RATED = {"HAP": "happiness", "SAD": "sadness", "SUR": "surprise", "ANG": "anger", "DIS": "disgust", "FEA": "fear"}
"""Columns of the table of semantic ratings."""


def read(place: Place) -> Dataset:
    """Read the images with the labels of their names, or of the table of ratings."""
    rated = place.options["labels"] == "rated"
    labels, ratings = (JAFFE6, _ratings(place.base)) if rated else (ALPHABETICAL7, {})
    names, label, subject = [], [], []
    for name in images_below(place.base):
        match = NAME.match(name.rpartition("/")[2])
        rating = ratings.get(f"{match[1]}-{match[2]}{match[3]}".upper()) if match else None
        if not match:
            place.damage(f"{name} is not named like KA.AN1.39.tiff")
        elif rated and rating is None:
            place.damage(f"the ratings have no row for {name}")
        else:
            kind = CODES[match[2].upper()] if rating is None else max(rating, key=rating.__getitem__)
            names.append(name)
            label.append(labels.index(kind))
            subject.append(match[1].upper())
    return of_files(place.base, labels, names, label, [""] * len(names), subject=texts(subject))


def _ratings(base: Path) -> dict[str, dict[str, float]]:
    """Image (`KA-AN1`) → class → mean rating, from the text file that holds the table.

    The file ends with a second table, of a study without fear, which is another measurement and is not read.
    """
    for path in sorted(base.glob("*.txt")) + sorted(base.glob("*.csv")):
        columns: list[str] = []
        found: dict[str, dict[str, float]] = {}
        for line in path.read_text(encoding="latin-1").replace(",", " ").splitlines():
            words = line.replace("#", " ").split()
            if "HAP" in words:
                columns = [word for word in words if word in RATED]
            elif len(columns) == len(RATED) and len(words) == len(columns) + 2 and NAME.match(words[-1]):
                try:
                    values = [float(word) for word in words[1:-1]]
                except ValueError:
                    continue  # then the image has no rating, which is reported where it is needed
                found[words[-1].upper()] = {RATED[name]: value for name, value in zip(columns, values, strict=True)}
        if found:
            return found
    raise DatasetError(
        f"no text file in {base} holds JAFFE's semantic ratings (columns HAP SAD SUR ANG DIS FEA PIC); put the table of "
        "JAFFE's README_FIRST.txt there, or use labels=posed"
    )
