"""Storage of a dataset's images: files below a folder, or rows of one array; both are decoded on access."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class Files:
    """Images that are files."""

    root: Path
    """Folder of the names."""
    names: np.ndarray
    """(N,) str: paths below `root`, with `/`."""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Path:
        return self.root / str(self.names[index])

    def take(self, rows: np.ndarray) -> Files:
        """Return these rows."""
        return Files(self.root, self.names[rows])

    def fingerprint(self) -> bytes:
        """Return the sha256 over the sha256 of every file, in order; the names play no part."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            with self[index].open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Pixels:
    """Images that are rows of an array. An array mapped from a file stays there, and pickles as the path of that file."""

    array: np.ndarray
    """(M, H, W) or (M, H, W, 3) uint8, of which `rows` are meant."""
    rows: np.ndarray
    """(N,) int64."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.array[self.rows[index]]

    def take(self, rows: np.ndarray) -> Pixels:
        """Return these rows."""
        return Pixels(self.array, self.rows[rows])

    def stack(self) -> np.ndarray:
        """Return (N, H, W[, 3]) uint8: a view of the mapped file where the rows follow one another, else a copy."""
        if len(self.rows) and np.all(np.diff(self.rows) == 1):
            return self.array[self.rows[0] : self.rows[-1] + 1]
        return self.array[self.rows]

    def __reduce__(self) -> tuple:
        if isinstance(self.array, np.memmap):
            return _mapped, (str(self.array.filename), self.rows)
        return Pixels, (self.array, self.rows)


def _mapped(path: str, rows: np.ndarray) -> Pixels:
    return Pixels(np.load(path, mmap_mode="r"), rows)
