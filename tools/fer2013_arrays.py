"""FER2013 and FERPlus's votes as plain arrays, straight from `fer2013.npz`, for the tools that make weights and figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mien.data.datasets.fer2013 import SPLITS


@dataclass(frozen=True, slots=True)
class Fer2013:
    """One split; row i is row i of the split in the original csv."""

    images: np.ndarray
    """(N, 48, 48) uint8, gray."""
    label: np.ndarray
    """(N,) int64, index into `mien.labels.FER2013`."""
    votes: np.ndarray
    """(N, 10) uint8, columns as `mien.labels.FERPLUS_VOTES`."""
    unique: np.ndarray
    """(N,) bool: the same pixels occur in no other split."""


def open_arrays(root: str | Path, split: str) -> Fer2013:
    """Return one split (a key of `SPLITS`) of `fer2013.npz` in a folder."""
    with np.load(Path(root) / "fer2013.npz", allow_pickle=False) as file:
        rows, group = file["usage"] == SPLITS[split], file["content_group"]
        return Fer2013(
            file["images"][rows],
            file["label"][rows].astype(np.int64),
            file["ferplus_votes"][rows],
            ~np.isin(group[rows], group[~rows]),
        )
