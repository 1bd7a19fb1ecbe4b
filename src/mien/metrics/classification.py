"""Single-label classification, with pictures that got no answer kept in the denominator.

Everything here follows from one count: `confusion(label, guess)` has a row for each true class and a column for each
guess, the last column holding the pictures without an answer. UAR, macro-F1 and kappa are over the classes that occur.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._checks import indices, same_length


def confusion(label: np.ndarray, guess: np.ndarray, classes: int) -> np.ndarray:
    """Count guesses.

    Args:
        label: (N,) true classes.
        guess: (N,) classes, −1 where there is no answer.
        classes: number of classes.

    Returns:
        (classes, classes + 1) int64: rows true, columns guessed; the last column counts pictures without an answer.

    Raises:
        ValueError: empty, of different lengths, or with classes out of range.

    Example:
        >>> confusion(np.array([0, 0, 1]), np.array([0, 1, -1]), 2).tolist()
        [[1, 1, 0], [0, 0, 1]]
    """
    label, guess = indices(label, classes, "label"), indices(guess, classes, "guess", unanswered=True)
    same_length(label, guess, "label and guess")
    column = np.where(guess < 0, classes, guess)
    return np.bincount(label * (classes + 1) + column, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def accuracy(counts: np.ndarray) -> float:
    """Return the share of right answers among all pictures of a `confusion`, those without an answer included."""
    return float(np.trace(counts) / _total(counts))


def uar(counts: np.ndarray) -> float:
    """Return unweighted average recall, also called balanced accuracy: the mean recall of the classes that occur."""
    occurring = counts.sum(1) > 0
    return float(np.mean((np.diag(counts) / np.maximum(counts.sum(1), 1))[occurring]))


def f1_scores(counts: np.ndarray) -> np.ndarray:
    """Return (K,) F1; NaN for a class that neither occurs nor is guessed."""
    square = counts[:, : len(counts)]
    named = square.sum(0) + counts.sum(1)
    return np.where(named > 0, 2 * np.diag(square) / np.maximum(named, 1), np.nan)


def macro_f1(counts: np.ndarray) -> float:
    """Return the mean F1 of the classes that occur.

    A class without pictures has no recall and is left out, as in published FER figures; scikit-learn agrees when given
    these classes as `labels`.
    """
    return float(np.mean(f1_scores(counts)[counts.sum(1) > 0]))


def kappa(counts: np.ndarray) -> float:
    """Return Cohen's kappa; "no answer" counts as one more category. NaN if chance alone agrees fully."""
    total = _total(counts)
    square = np.vstack([counts, np.zeros(counts.shape[1], counts.dtype)])
    chance = float((square.sum(0) / total) @ (square.sum(1) / total))
    return float("nan") if chance == 1 else (float(np.trace(square)) / total - chance) / (1 - chance)


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """One class."""

    label: str
    """Name."""
    pictures: int
    """How many show it."""
    guessed: int
    """How often it was named."""
    precision: float
    """Share of right answers among those that name it; NaN if never named."""
    recall: float
    """Share of its pictures that are named right; NaN if it does not occur."""
    f1: float
    """Harmonic mean of both; NaN if it neither occurs nor is named."""


def per_class(counts: np.ndarray, labels: Sequence[str]) -> tuple[ClassFigures, ...]:
    """Return the figures of every class.

    Raises:
        ValueError: as many names as classes are needed.
    """
    if len(labels) != len(counts):
        raise ValueError(f"{len(labels)} class names for {len(counts)} classes")
    hits, real, named = np.diag(counts), counts.sum(1), counts[:, : len(counts)].sum(0)
    f1 = f1_scores(counts)
    return tuple(
        ClassFigures(
            label=name,
            pictures=int(real[k]),
            guessed=int(named[k]),
            precision=float(hits[k] / named[k]) if named[k] else float("nan"),
            recall=float(hits[k] / real[k]) if real[k] else float("nan"),
            f1=float(f1[k]),
        )
        for k, name in enumerate(labels)
    )


def _total(counts: np.ndarray) -> int:
    if not (total := int(counts.sum())):
        raise ValueError("the confusion matrix is empty: there is nothing to measure")
    return total
