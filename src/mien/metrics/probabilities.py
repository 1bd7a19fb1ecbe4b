"""Figures of probabilities: can they be trusted?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .calibration import BINS, bin_of, expected_calibration_error, log_loss, log_losses

__all__ = [
    "ReliabilityBin",
    "brier",
    "checked_probabilities",
    "expected_calibration_error",
    "log_losses",
    "negative_log_likelihood",
    "reliability",
]

TOLERANCE = 1e-3
"""How far a row may be from summing to one: half precision and tables with four decimals stay within."""


def checked_probabilities(values: np.ndarray, labels: Sequence[str], what: str = "the model") -> np.ndarray:
    """Return probabilities as (N, K) float64, after validation.

    Raises:
        ValueError: the shape is not (N, len(labels)), a value is NaN, infinite or outside 0 … 1, or a row does not sum to one.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] != len(labels):
        raise ValueError(
            f"{what} gave probabilities of shape {values.shape} for {len(labels)} classes ({', '.join(labels)}); "
            f"one row an image and one column a class are needed"
        )
    close = np.abs(values.sum(1) - 1) <= TOLERANCE
    if close.all() and values.min(initial=0) >= -TOLERANCE and values.max(initial=0) <= 1 + TOLERANCE:
        return values
    if len(bad := np.flatnonzero(~np.isfinite(values).all(1))):
        raise ValueError(f"{what} gave NaN or infinite probabilities for {len(bad):,} images, first in row {bad[0]}")
    if values.min() < -TOLERANCE or values.max() > 1 + TOLERANCE:
        raise ValueError(
            f"{what} gave values from {values.min():.3g} to {values.max():.3g}; probabilities are within 0 … 1 (logits?)"
        )
    bad = np.flatnonzero(~close)
    raise ValueError(f"{what} gave probabilities that do not sum to one, first in row {bad[0]}: {values[bad[0]].sum():.4f}")


negative_log_likelihood = log_loss


def squared_errors(probabilities: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return (N,) the squared distance between the probabilities and the true class, summed over classes, 0 … 2."""
    wanted = np.zeros_like(probabilities, dtype=np.float64)
    wanted[np.arange(len(label)), label] = 1
    return ((probabilities - wanted) ** 2).sum(1)


def brier(probabilities: np.ndarray, label: np.ndarray) -> float:
    """Return the Brier score of several classes (Brier 1950), 0 … 2: the mean of `squared_errors`; NaN without images.

    Args:
        probabilities: (N, K).
        label: (N,) indices of the true classes.
    """
    return float(squared_errors(probabilities, label).mean()) if len(label) else float("nan")


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bar of a reliability diagram."""

    low: float
    """Confidences above this …"""
    high: float
    """… and up to this."""
    n: int
    """Images."""
    confidence: float
    """Their mean confidence; NaN if there are none."""
    accuracy: float
    """Fraction of correct predictions; NaN without any."""


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Compare confidence with accuracy in bins of equal width over (0, 1]: the bins of `expected_calibration_error`.

    Args:
        confidence: (N,) probability of the predicted class.
        right: (N,) bool.
        bins: their number.
    """
    index = bin_of(confidence, bins)
    size = np.bincount(index, minlength=bins)
    sums = np.bincount(index, confidence, bins), np.bincount(index, right, bins)
    means = [np.divide(total, size, out=np.full(bins, np.nan), where=size > 0) for total in sums]
    return tuple(
        ReliabilityBin(k / bins, (k + 1) / bins, int(size[k]), float(means[0][k]), float(means[1][k])) for k in range(bins)
    )
