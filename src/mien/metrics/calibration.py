"""Probabilities: validation, scores, calibration, and selective prediction.

Temperature and abstention threshold are fitted on validation data and stored in the card.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

BINS = 15
"""Default number of bins of the calibration error."""

SMALLEST = 1e-12
"""Lower bound of probabilities in the log loss."""

TOLERANCE = 1e-3
"""Maximum deviation of the sum of probabilities from one: half precision and tables with four decimals stay within."""


def checked_probabilities(values: np.ndarray, labels: Sequence[str], what: str = "the model") -> np.ndarray:
    """Return probabilities as (N, K) float64, after validation.

    Raises ValueError: the shape is not (N, len(labels)), a value is NaN, infinite or outside 0 … 1, or a row does not sum to
    one.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] != len(labels):
        raise ValueError(
            f"{what} returned probabilities of shape {values.shape} for {len(labels)} classes ({', '.join(labels)}); "
            f"expected one row per image and one column per class"
        )
    close = np.abs(values.sum(1) - 1) <= TOLERANCE
    if close.all() and values.min(initial=0) >= -TOLERANCE and values.max(initial=0) <= 1 + TOLERANCE:
        return values
    if len(bad := np.flatnonzero(~np.isfinite(values).all(1))):
        raise ValueError(f"{what} returned NaN or infinite probabilities for {len(bad):,} images, first in row {bad[0]}")
    low, high = values.min(), values.max()
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ValueError(f"{what} returned values from {low:.3g} to {high:.3g}; probabilities are within 0 … 1 (logits?)")
    bad = np.flatnonzero(~close)
    total = values[bad[0]].sum()
    raise ValueError(f"{what} returned probabilities that do not sum to one, first in row {bad[0]}: {total:.4f}")


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return (…, K) probabilities that sum to one over the last axis, for (…, K) logits, computed without overflow."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def log_losses(probabilities: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return (N,) the negative log probability of the true class; (N, K) probabilities, (N,) indices."""
    return -np.log(np.maximum(probabilities[np.arange(len(label)), label], SMALLEST))


def log_loss(probabilities: np.ndarray, label: np.ndarray) -> float:
    """Return the mean of `log_losses` for (N, K) probabilities and (N,) indices; NaN without images."""
    return float(log_losses(probabilities, label).mean()) if len(label) else float("nan")


def squared_errors(probabilities: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return (N,) the squared distance between the probabilities and the true class, summed over classes, 0 … 2."""
    return ((probabilities - np.eye(probabilities.shape[1])[label]) ** 2).sum(1)


def brier(probabilities: np.ndarray, label: np.ndarray) -> float:
    """Return the Brier score of several classes (Brier 1950), 0 … 2: the mean of `squared_errors`; NaN without images."""
    return float(squared_errors(probabilities, label).mean()) if len(label) else float("nan")


def fit_temperature(logits: np.ndarray, label: np.ndarray) -> float:
    """Return the temperature that minimizes the log loss of `softmax(logits / temperature)` (Guo et al. 2017).

    Golden-section search over log temperature in [1/8, 8], where the loss of logits (N, K) for true classes (N,) has a single
    minimum. Raises ValueError: no rows, or a logit is NaN or infinite.
    """
    if not len(logits):
        raise ValueError("fitting a temperature needs at least one validation image")
    if len(bad := np.flatnonzero(~np.isfinite(logits).all(1))):
        raise ValueError(f"{len(bad):,} rows of the logits are NaN or infinite, first row {bad[0]}; exclude such images")

    @lru_cache
    def loss(position: float) -> float:
        return log_loss(softmax(logits / np.exp(position)), label)

    low, high, ratio = -np.log(8), np.log(8), (5**0.5 - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    while high - low > 1e-5:
        if loss(left) < loss(right):
            high, right = right, left
            left = high - ratio * (high - low)
        else:
            low, left = left, right
            right = low + ratio * (high - low)
    return float(np.exp((low + high) / 2))


def bin_of(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return (N,) int, which of `bins` equal-width bins over (0, 1] each of (N,) confidences falls into, from 0."""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def expected_calibration_error(probabilities: np.ndarray, label: np.ndarray, bins: int = BINS) -> float:
    """Return the mean gap between confidence and accuracy over equal bins of confidence in (0, 1], weighted by their size.

    Probabilities are (N, K), true classes (N,).
    """
    if not len(label):
        return float("nan")
    confidence, right = probabilities.max(1), probabilities.argmax(1) == label
    index = bin_of(confidence, bins)
    gap = np.bincount(index, right, bins) - np.bincount(index, confidence, bins)
    return float(np.abs(gap).sum() / len(label))


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bin of a reliability diagram: confidences above `low`, up to `high`."""

    low: float
    high: float
    n: int
    """Number of images."""
    confidence: float
    """Their mean confidence; NaN without images."""
    accuracy: float
    """Their accuracy; NaN without images."""


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Return the bins of a reliability diagram, those of `expected_calibration_error`.

    `confidence` (N,) is the probability of the predicted class, `right` (N,) bool whether it is the true one.
    """
    index = bin_of(confidence, bins)
    size = np.bincount(index, minlength=bins)
    sums = np.bincount(index, confidence, bins), np.bincount(index, right, bins)
    means = [np.divide(total, size, out=np.full(bins, np.nan), where=size > 0) for total in sums]
    return tuple(
        ReliabilityBin(k / bins, (k + 1) / bins, int(size[k]), float(means[0][k]), float(means[1][k])) for k in range(bins)
    )


def abstention_threshold(probabilities: np.ndarray, label: np.ndarray, accuracy: float) -> float:
    """Return the lowest confidence in [0, 1] from which predictions reach an accuracy; 1.0 if no threshold reaches it.

    Calibrated probabilities are (N, K), true classes (N,).
    """
    confidence = probabilities.max(1)
    value, group = np.unique(-confidence, return_inverse=True)
    right = np.bincount(group, probabilities.argmax(1) == label).cumsum()
    reached = np.flatnonzero(right / np.bincount(group).cumsum() >= accuracy)
    return float(-value[reached[-1]]) if len(reached) else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class RiskCoverage:
    """Error rate as a function of coverage, in order of decreasing confidence."""

    coverage: np.ndarray
    """(M,) coverage, ascending, one value per distinct confidence."""
    risk: np.ndarray
    """(M,) error rate among the covered images."""
    threshold: np.ndarray
    """(M,) confidence threshold."""
    area: float
    """Area under the curve (AURC, Geifman and El-Yaniv 2017): the mean risk over all coverages; 0 is best."""


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> RiskCoverage:
    """Return the curve for (N,) confidences and (N,) bool correctness.

    Images of equal confidence are covered together; within such a group the area interpolates the risk linearly, so that it
    does not depend on the order of rows. Raises ValueError: a confidence is NaN.
    """
    confidence = np.asarray(confidence, np.float64)
    if np.isnan(confidence).any():
        raise ValueError(f"{int(np.isnan(confidence).sum())} confidences are NaN")
    if not len(confidence):
        empty = np.empty(0)
        return RiskCoverage(empty, empty, empty, float("nan"))
    value, group = np.unique(-confidence, return_inverse=True)
    size = np.bincount(group)
    wrong = np.bincount(group, ~np.asarray(right, bool))
    answered = size.cumsum()
    errors = np.repeat(wrong / size, size).cumsum()
    total = len(confidence)
    area = float((errors / np.arange(1, total + 1)).mean())
    return RiskCoverage(answered / total, wrong.cumsum() / answered, -value, area)
