"""Small copies of the layouts of FER2013 and FERPlus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from drawn_files import Counts, counts, deal, face, write, write_csv

from mien.labels import (
    FER2013,
    FERPLUS_VOTES,
)

FER_PARTS = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
FER_ROWS = deal(FER2013, {"train": 2, "validation": 1, "test": 1})


def pixels_text(pixels: np.ndarray) -> str:
    return " ".join(map(str, pixels.ravel().tolist()))


def fer2013_csv(root: Path) -> Counts:
    rows = [(FER2013.index(label), pixels_text(face(label)), FER_PARTS[part]) for part, label in FER_ROWS]
    write_csv(root / "fer2013.csv", ["emotion", "pixels", "Usage"], rows)
    return counts(FER_ROWS)


def fer2013_icml(root: Path) -> Counts:
    rows = [(FER2013.index(label), FER_PARTS[part], pixels_text(face(label))) for part, label in FER_ROWS]
    write_csv(root / "icml_face_data.csv", ["emotion", " Usage", " pixels"], rows)
    return counts(FER_ROWS)


def fer2013_three(root: Path) -> Counts:
    for part, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        rows = [(FER2013.index(label), pixels_text(face(label))) for where, label in FER_ROWS if where == part]
        write_csv(root / f"{name}.csv", ["emotion", "pixels"], rows)
    return counts(FER_ROWS)


def fer2013_npz(root: Path) -> Counts:
    root.mkdir(parents=True, exist_ok=True)
    np.savez(
        root / "fer2013.npz",
        images=np.stack([face(label) for _, label in FER_ROWS]),
        label=np.array([FER2013.index(label) for _, label in FER_ROWS], np.uint8),
        usage=np.array([list(FER_PARTS).index(part) for part, _ in FER_ROWS], np.uint8),
        ferplus_votes=np.array([votes_for(label) for _, label in FER_ROWS], np.uint8),
    )
    return counts(FER_ROWS)


FER_FOLDERS = dict(zip(FER2013, ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"), strict=True))


def fer2013_kaggle_folders(root: Path) -> Counts:
    """Kaggle's folder version: both test parts in `test`, told apart by the file names."""
    for number, (part, label) in enumerate(FER_ROWS):
        folder = "train" if part == "train" else "test"
        write(root / folder / FER_FOLDERS[label] / f"{FER_PARTS[part]}_{number * 37}.jpg", label=label)
    return counts(FER_ROWS)


def fer2013_part_folders(root: Path) -> Counts:
    for number, (part, label) in enumerate(FER_ROWS):
        write(root / FER_PARTS[part] / str(FER2013.index(label)) / f"{number}.png", label=label)
    return counts(FER_ROWS)


def votes_for(label: str) -> list[int]:
    """Ten votes with a clear majority."""
    return [
        8 if name == label else 1 if name in ("unknown", "fear" if label != "fear" else "anger") else 0
        for name in FERPLUS_VOTES
    ]


def ferplus_rows() -> tuple[list[list[object]], Counts]:
    """Rows of `fer2013new.csv` beside `FER_ROWS`: the second is unknown, the third has no face, the fourth is torn."""
    special = {1: [2, 0, 0, 0, 0, 0, 0, 0, 8, 0], 2: [0] * 9 + [10], 3: [3, 3, 2, 2, 0, 0, 0, 0, 0, 0]}
    rows, kept = [], []
    for number, (part, label) in enumerate(FER_ROWS):
        votes = special.get(number, votes_for(label))
        rows.append([FER_PARTS[part], "" if number == 2 else f"fer{number:07d}.png", *votes])
        if number not in special:
            kept.append((part, label))
    return rows, counts(kept)


FERPLUS_HEADER = ["Usage", "Image name", *FERPLUS_VOTES]


def ferplus_csv(root: Path) -> Counts:
    fer2013_csv(root)
    rows, kept = ferplus_rows()
    write_csv(root / "fer2013new.csv", FERPLUS_HEADER, rows)
    return kept


def ferplus_npz(root: Path) -> Counts:
    return fer2013_npz(root)


def ferplus_microsoft(root: Path) -> Counts:
    rows, kept = ferplus_rows()
    folders = {"Training": "FER2013Train", "PublicTest": "FER2013Valid", "PrivateTest": "FER2013Test"}
    for usage, folder in folders.items():
        mine = [row for row in rows if row[0] == usage and row[1]]
        for row in mine:
            write(root / folder / str(row[1]))
        write_csv(root / folder / "label.csv", None, [[row[1], "(0, 0, 48, 48)", *row[2:]] for row in mine])
    return kept


def ferplus_class_folders(root: Path) -> Counts:
    rows, kept = ferplus_rows()
    for row, (_, label) in zip(rows, FER_ROWS, strict=True):
        if row[1]:
            write(root / str(row[0]) / FER_FOLDERS[label] / str(row[1]))
    write_csv(root / "fer2013new.csv", FERPLUS_HEADER, rows)
    return kept
