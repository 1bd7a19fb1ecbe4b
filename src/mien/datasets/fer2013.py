"""FER2013 (Goodfellow et al. 2013): 35,887 grey 48 × 48 faces in seven classes, with the votes of FERPlus where they are known."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DatasetError

SPLITS = {"train": 0, "validation": 1, "test": 2}
"""Our split names and the numbers of `usage`: Training, PublicTest, PrivateTest."""


@dataclass(frozen=True, slots=True)
class Fer2013:
    """One split as arrays; row i is row i of the split in the original csv."""

    images: np.ndarray
    """(N, 48, 48) uint8, grey."""
    label: np.ndarray
    """(N,) int64, index into `mien.labels.FER2013`."""
    votes: np.ndarray
    """(N, 10) uint8, columns as `mien.labels.FERPLUS_VOTES`."""
    unique: np.ndarray
    """(N,) bool: the same pixels occur in no other split."""

    @property
    def digest(self) -> str:
        """sha256 of pixels and labels: the fingerprint that tells copies of the data apart."""
        return hashlib.sha256(self.images.tobytes() + self.label.astype(np.uint8).tobytes()).hexdigest()


def open_arrays(root: str | Path, split: str) -> Fer2013:
    """Read one split of `fer2013.npz` under `root`.

    Raises:
        DatasetError: the file is not there, or `split` is not one of `SPLITS`.
    """
    path = Path(root)
    path = path / "fer2013.npz" if path.is_dir() else path
    if not path.is_file():
        raise DatasetError(f"no fer2013.npz at {path}; give the folder that holds it")
    if split not in SPLITS:
        raise DatasetError(f"FER2013 has no split {split!r}; it has {', '.join(SPLITS)}")
    with np.load(path, allow_pickle=False) as file:
        usage, group = file["usage"], file["content_group"]
        rows = usage == SPLITS[split]
        return Fer2013(
            file["images"][rows],
            file["label"][rows].astype(np.int64),
            file["ferplus_votes"][rows],
            ~np.isin(group[rows], group[~rows]),
        )
