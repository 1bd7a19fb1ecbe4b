"""Risk-coverage curves of selective prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
    does not depend on the order of rows.

    Raises:
        ValueError: a confidence is NaN.
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
