"""What every metric asks of its input, and how it says so."""

from __future__ import annotations

import numpy as np

UNANSWERED = -1
"""The guess that stands for a picture without an answer: no face found, not readable. It is never right."""


def indices(values: np.ndarray, classes: int, what: str, *, unanswered: bool = False) -> np.ndarray:
    """Return (N,) int64 class indices.

    Raises:
        ValueError: empty, not one-dimensional, not whole numbers, or outside 0 … classes − 1 (−1 too if `unanswered`).
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{what} must be (N,), not of shape {array.shape}")
    if not len(array):
        raise ValueError(f"{what} is empty: there is nothing to measure")
    if array.dtype.kind not in "iub":
        if array.dtype.kind != "f" or not np.array_equal(array, np.floor(array)):
            raise ValueError(f"{what} must be whole class numbers; it holds NaN, fractions or text")
    array = array.astype(np.int64)
    low = UNANSWERED if unanswered else 0
    if array.min() < low or array.max() >= classes:
        wrong = array[(array < low) | (array >= classes)][0]
        raise ValueError(f"{what} holds class {wrong}; with {classes} classes they count from {low} to {classes - 1}")
    return array


def probabilities(values: np.ndarray, rows: int | None = None) -> np.ndarray:
    """Return (N, K) float64 probabilities.

    Raises:
        ValueError: empty, another number of rows, not finite, negative, or rows that do not sum to one.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"probabilities must be (N, K), not of shape {array.shape}")
    if not len(array):
        raise ValueError("probabilities are empty: there is nothing to measure")
    if rows is not None and len(array) != rows:
        raise ValueError(f"{len(array)} rows of probabilities for {rows} labels")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(1))[0])
        raise ValueError(f"probabilities of row {row} are not finite: {array[row].tolist()}")
    if array.min() < -1e-6:
        raise ValueError(f"probabilities go down to {array.min():.4g}; were logits given?")
    off = np.abs(array.sum(1) - 1)
    if off.max() > 1e-2:
        row = int(off.argmax())
        raise ValueError(f"probabilities of row {row} sum to {array[row].sum():.4g}, not to one; were logits given?")
    return array


def same_length(first: np.ndarray, second: np.ndarray, what: str) -> None:
    """Raise ValueError unless both have the same number of rows."""
    if len(first) != len(second):
        raise ValueError(f"{what}: {len(first)} rows against {len(second)}")
