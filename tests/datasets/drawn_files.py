"""Drawn faces and tables in files, for small copies of datasets."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mien.data.datasets.synthetic import draw_face
from mien.labels import FER2013

Counts = Mapping[str, Mapping[str, int]]
"""Part → class → number of images."""

_seeds = itertools.count(1000)


def face(label: str = "neutral", side: int = 48) -> np.ndarray:
    """A (side, side) uint8 face unlike all others that this process has drawn."""
    return draw_face(label if label in FER2013 else "neutral", next(_seeds), side)


def write(path: Path, pixels: np.ndarray | None = None, label: str = "neutral") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(face(label) if pixels is None else pixels).save(path)
    return path


def write_csv(path: Path, header: Sequence[str] | None, rows: Iterable[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        if header:
            writer.writerow(header)
        writer.writerows(rows)
    return path


def counts(rows: Iterable[tuple[str, str]]) -> Counts:
    """(part, class) pairs → counts."""
    found: dict[str, Counter[str]] = {}
    for part, label in rows:
        found.setdefault(part, Counter())[label] += 1
    return found


def deal(labels: Sequence[str], parts: Mapping[str, int]) -> list[tuple[str, str]]:
    """`parts[part]` images of every class for each part, plus one more of the first class, so that classes differ."""
    return [(part, label) for part, number in parts.items() for label in (*labels * number, labels[0])]
