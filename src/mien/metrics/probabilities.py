"""How good probabilities are: their loss, their calibration, and what abstaining on the unsure ones buys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._checks import indices, probabilities

FLOOR = 1e-12
"""Smallest probability inside a logarithm."""


def _checked(scores: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores = probabilities(scores)
    label = indices(label, scores.shape[1], "label")
    return probabilities(scores, len(label)), label


def nll(scores: np.ndarray, label: np.ndarray) -> float:
    """Return the mean negative log probability (natural) of the true class; (N, K) probabilities, (N,) indices."""
    scores, label = _checked(scores, label)
    return float(-np.log(np.maximum(scores[np.arange(len(label)), label], FLOOR)).mean())


def brier(scores: np.ndarray, label: np.ndarray) -> float:
    """Return the Brier score of several classes: the mean squared distance to the one-hot truth, 0 … 2."""
    scores, label = _checked(scores, label)
    wanted = np.eye(scores.shape[1])[label]
    return float(((scores - wanted) ** 2).sum(1).mean())


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence against accuracy in equal-width bins; bins without pictures have NaN means."""

    edges: np.ndarray
    """(bins + 1,) from 0 to 1; a bin holds low < confidence ≤ high."""
    size: np.ndarray
    """(bins,) int64 pictures."""
    confidence: np.ndarray
    """(bins,) mean confidence."""
    accuracy: np.ndarray
    """(bins,) share of right answers."""

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean gap, weighted by size (Naeini et al. 2015, Guo et al. 2017)."""
        filled = self.size > 0
        gap = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float((gap * self.size[filled]).sum() / self.size.sum())

    @property
    def mce(self) -> float:
        """Maximum calibration error: the largest gap of any bin."""
        filled = self.size > 0
        return float(np.abs(self.accuracy[filled] - self.confidence[filled]).max())


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> Reliability:
    """Return the reliability diagram of (N,) confidences and (N,) booleans."""
    confidence, right = _answers(confidence, right)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    size = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(index, values, bins) / size for values in (confidence, right)]
    return Reliability(np.linspace(0, 1, bins + 1), size, *means)


def ece(scores: np.ndarray, label: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error of (N, K) probabilities."""
    scores, label = _checked(scores, label)
    return reliability(scores.max(1), scores.argmax(1) == label, bins).ece


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what share is wrong if only the surest are answered (El-Yaniv and Wiener 2010).

    Pictures of equal confidence are answered together or not at all, so the order of rows plays no part.

    Returns:
        (M,) coverage, rising to 1, and (M,) risk at it, for each different confidence.
    """
    confidence, right = _answers(confidence, right)
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    wrong = np.cumsum(~right[order])[last]
    return (last + 1) / len(order), wrong / (last + 1)


def aurc(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the area under the risk-coverage curve: the mean of the risk over the number answered (Geifman et al. 2019).

    Within pictures of equal confidence the risk is that of the whole group.
    """
    coverage, risk = risk_coverage(confidence, right)
    return float((np.diff(coverage, prepend=0) * risk).sum())


def _answers(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, bool)
    if confidence.ndim != 1 or confidence.shape != right.shape:
        raise ValueError(f"confidence and right must both be (N,), not {confidence.shape} and {right.shape}")
    if not len(confidence):
        raise ValueError("no confidences: there is nothing to measure")
    if not np.isfinite(confidence).all():
        raise ValueError("confidences hold NaN or infinite values")
    return confidence, right
