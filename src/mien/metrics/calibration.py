"""Calibration: temperature scaling and abstention threshold, fitted on validation data and stored in the card."""

from __future__ import annotations

import numpy as np

BINS = 15
"""Default number of bins of the calibration error."""

SMALLEST = 1e-12
"""Lower bound of probabilities in the log loss."""


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


def fit_temperature(logits: np.ndarray, label: np.ndarray) -> float:
    """Return the temperature that minimizes the log loss of `softmax(logits / temperature)` (Guo et al. 2017).

    Golden-section search over log temperature in [1/8, 8]; the loss has a single minimum there.

    Args:
        logits: (N, K), at least one row.
        label: (N,) true classes.

    Raises:
        ValueError: no rows, or a logit is NaN or infinite.
    """
    if not len(logits):
        raise ValueError("fitting a temperature needs at least one validation image")
    if len(bad := np.flatnonzero(~np.isfinite(logits).all(1))):
        raise ValueError(f"{len(bad):,} rows of the logits are NaN or infinite, first row {bad[0]}; exclude such images")
    low, high = -np.log(8), np.log(8)
    ratio = (5**0.5 - 1) / 2

    def loss(position: float) -> float:
        return log_loss(softmax(logits / np.exp(position)), label)

    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-5:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = loss(right)
    return float(np.exp((low + high) / 2))


def bin_of(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return (N,) int, which of `bins` equal-width bins over (0, 1] each of (N,) confidences falls into, from 0."""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def expected_calibration_error(probabilities: np.ndarray, label: np.ndarray, bins: int = BINS) -> float:
    """Return the mean gap between confidence and accuracy over equal-width confidence bins, weighted by their size.

    Args:
        probabilities: (N, K).
        label: (N,) true classes.
        bins: number of bins over (0, 1].
    """
    if not len(label):
        return float("nan")
    confidence, right = probabilities.max(1), probabilities.argmax(1) == label
    index = bin_of(confidence, bins)
    gap = np.bincount(index, right, bins) - np.bincount(index, confidence, bins)
    return float(np.abs(gap).sum() / len(label))


def abstention_threshold(probabilities: np.ndarray, label: np.ndarray, accuracy: float) -> float:
    """Return the lowest confidence threshold at which predictions reach an accuracy.

    Args:
        probabilities: (N, K), calibrated.
        label: (N,) true classes.
        accuracy: target accuracy of predictions with at least the returned confidence.

    Returns:
        A confidence in [0, 1]; 1.0 if no threshold reaches it.
    """
    confidence = probabilities.max(1)
    value, group = np.unique(-confidence, return_inverse=True)
    right = np.bincount(group, probabilities.argmax(1) == label).cumsum()
    reached = np.flatnonzero(right / np.bincount(group).cumsum() >= accuracy)
    return float(-value[reached[-1]]) if len(reached) else 1.0
