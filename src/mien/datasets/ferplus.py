"""FERPlus: ten crowd votes for each picture of FER2013 (Barsoum et al. 2016), and Microsoft's rules for turning them into labels.

Votes are columns in the order of `mien.labels.FERPLUS_VOTES`. The rules are those of `src/ferplus.py` in
microsoft/FERPlus (MIT): a class with a single vote loses it; a picture whose winner is `unknown` or `NF` is dropped.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Mode = Literal["majority", "probability"]


def targets(votes: np.ndarray, mode: Mode = "majority") -> tuple[np.ndarray, np.ndarray]:
    """Turn votes into label distributions.

    Args:
        votes: (N, 10) counts.
        mode: `"majority"`: the winner, if it holds more than half of the votes left after single votes are removed.
            `"probability"`: classes in order of votes until three quarters of the votes are covered or three classes
            are taken, stopping at `unknown` or `NF`; kept if they hold more than half of the votes.

    Returns:
        `(distribution, kept)`: (N, 8) float64 rows that sum to one where kept and are zero elsewhere, and (N,) bool.
    """
    counts = np.where(np.asarray(votes) <= 1, 0, votes).astype(np.float64)
    total = counts.sum(1)
    if mode == "majority":
        taken = np.zeros_like(counts)
        rows = np.flatnonzero(counts.max(1, initial=0) > total / 2)
        winner = counts[rows].argmax(1)
        taken[rows, winner] = counts[rows, winner]
    else:
        taken = np.stack([_covering(row) for row in counts]) if len(counts) else counts
    kept = taken.any(1) & (taken.argmax(1) < 8)
    distribution = np.where(kept[:, None], taken[:, :8], 0)
    return distribution / np.where(kept, distribution.sum(1), 1)[:, None], kept


def _covering(row: np.ndarray) -> np.ndarray:
    """The classes that the probability mode takes from one row of cleaned counts, or zeros if it drops the row."""
    left, total = row.copy(), row.sum()
    taken, covered, number, stop = np.zeros_like(row), 0.0, 0, False
    while covered < 0.75 * total and number < 3 and not stop:
        best = left.max()
        for index in np.flatnonzero(left == best):  # classes with equal votes are taken together
            taken[index], left[index] = best, 0
            covered, number = covered + best, number + 1
            if index >= 8:  # unknown and NF end the taking, and count only when nothing better came before
                stop = True
                if taken.sum() > best:
                    taken[index], number = 0, number - 1
                break
    return np.zeros_like(row) if taken.sum() <= 0.5 * total or number > 3 else taken
