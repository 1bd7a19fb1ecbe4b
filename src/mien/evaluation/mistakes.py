"""Small pictures of the most confident mistakes, kept beside the table for the report's contact sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..datasets import Dataset
from ..errors import SourceError
from ..report import PREDICTIONS
from ..report.predictions import OK, read_predictions
from ..writing import whole

FOLDER = "mistakes"
NUMBER = 24
SIDE = 112
"""Longest side of a picture that is kept, in pixels; smaller ones stay as they are."""


def keep_mistakes(out: Path, dataset: Dataset) -> list[dict[str, str]]:
    """Write the pictures of the most confident wrong answers to `mistakes/`, and return which is which."""
    table = read_predictions(out / (PREDICTIONS + ".part"))
    wrong = np.flatnonzero(table.counted & (table.status == OK) & (table.answer != table.truth))
    worst = wrong[np.argsort(-table.confidence[wrong], kind="stable")][:NUMBER]
    folder = out / FOLDER
    for old in folder.glob("*.jpg"):
        old.unlink()
    kept = []
    for row in worst.tolist():
        try:
            picture = Image.fromarray(dataset[row].read())
        except SourceError:
            continue
        picture.thumbnail((SIDE, SIDE))
        name = f"{len(kept):02d}.jpg"
        with whole(folder / name) as part:
            picture.save(part, "JPEG", quality=88)
        kept.append({"file": f"{FOLDER}/{name}", "sample": str(table.sample[row])})
    return kept
