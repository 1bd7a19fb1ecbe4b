"""Is one model better than another on the same pictures, or was it luck?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from ._checks import same_length
from .intervals import DRAWS, Interval, figures_of, percentile


@dataclass(frozen=True, slots=True)
class McNemar:
    """Pictures on which two models differ, and what that says."""

    only_first: int
    """Only the first is right."""
    only_second: int
    """Only the second is right."""
    exact: float
    """Two-sided exact binomial p."""
    mid: float
    """Two-sided mid-p, less conservative and recommended by Fagerland et al. 2013."""


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Test whether two models are right equally often.

    Args:
        first: (N,) booleans, whether the first model is right.
        second: (N,) the same of the second, on the same pictures.

    Raises:
        ValueError: empty or of different lengths.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    same_length(first, second, "answers of two models")
    if not len(first):
        raise ValueError("no pictures: there is nothing to compare")
    b, c = int((first & ~second).sum()), int((~first & second).sum())
    n, fewer = b + c, min(b, c)
    if n == 0:
        return McNemar(0, 0, 1.0, 1.0)
    # Whole numbers until the one division: thousands of discordant pictures neither overflow nor lose digits.
    tail, term = 0, 1
    for k in range(fewer + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    exact = min(1.0, 2 * tail / 2**n)
    return McNemar(b, c, exact, min(1.0, exact - comb(n, fewer) / 2**n) if b != c else 1 - comb(n, fewer) / 2**n)


def paired_bootstrap(
    label: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    classes: int,
    metric: str = "accuracy",
    cluster: np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[Interval, float]:
    """Return the difference second − first with its interval, and a two-sided p.

    Args:
        label: (N,) true classes.
        first: (N,) answers of the first model, −1 for none.
        second: (N,) answers of the second.
        classes: number of classes.
        metric: `"accuracy"`, `"uar"` or `"macro_f1"`.
        cluster: (N,) subject of each picture, where known.
        draws: bootstrap samples.
        seed: makes them repeatable.

    Returns:
        The difference, and twice the share of samples on the other side of zero, never below 1 / (draws + 1).
    """
    same_length(label, first, "label and first")
    same_length(label, second, "label and second")
    if not len(label):
        raise ValueError("no pictures: there is nothing to compare")
    width = classes * (classes + 1)
    cells = [label * (classes + 1) + np.where(guess < 0, classes, guess) for guess in (first, second)]
    random = np.random.default_rng(seed)
    _, member = np.unique(np.arange(len(label)) if cluster is None else cluster, return_inverse=True)
    groups = int(member.max()) + 1
    drawn = np.empty((draws, 2), np.float64)
    for i in range(draws):
        weight = np.bincount(random.integers(groups, size=groups), minlength=groups)[member]
        counts = np.stack([np.bincount(cell, weight, width) for cell in cells]).reshape(2, classes, classes + 1)
        drawn[i] = figures_of(counts)[metric]
    whole = np.stack([np.bincount(cell, minlength=width) for cell in cells]).reshape(2, classes, classes + 1)
    value = figures_of(whole)[metric]
    gap = drawn[:, 1] - drawn[:, 0]
    side = min((gap <= 0).sum(), (gap >= 0).sum())
    p = min(1.0, 2 * (side + 1) / (draws + 1)) if value[0] != value[1] else 1.0
    return percentile(float(value[1] - value[0]), gap), float(p)


def holm(values: Sequence[float]) -> list[float]:
    """Return p values corrected for being several (Holm 1979), in their order; not above 1.

    Raises:
        ValueError: a value outside 0 … 1.
    """
    p = np.asarray(values, np.float64)
    if p.size and not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p values lie between 0 and 1, not {list(values)}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected.tolist()


def stars(p: float) -> str:
    """Return `***` below 0.001, `**` below 0.01, `*` below 0.05, else nothing."""
    return "***" if p < 0.001 else "**" if p < 0.01 else "*" if p < 0.05 else ""
