"""Risk and coverage: what is gained by not answering when unsure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class RiskCoverage:
    """How the share of errors grows with the share of images that are answered, the surest first."""

    coverage: np.ndarray
    """(M,) share of images answered, rising, one value for each distinct confidence."""
    risk: np.ndarray
    """(M,) share of wrong answers among them."""
    threshold: np.ndarray
    """(M,) the confidence from which on images are answered."""
    area: float
    """Area under the curve (AURC, Geifman and El-Yaniv 2017): the mean risk over all numbers of answers; 0 is best."""


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> RiskCoverage:
    """Return the curve of (N,) confidences and (N,) bool answers.

    Images of equal confidence are answered together: within such a group the area takes the risk to change evenly, so that
    it does not depend on the order of the rows.

    Raises:
        ValueError: a confidence is NaN.
    """
    confidence = np.asarray(confidence, np.float64)
    if np.isnan(confidence).any():
        raise ValueError(f"{int(np.isnan(confidence).sum())} confidences are NaN; risk and coverage need numbers")
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
