"""Valence and arousal, action units, and ABAW's sum of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def _pairs(prediction: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    prediction, truth = np.asarray(prediction, np.float64), np.asarray(truth, np.float64)
    if prediction.ndim != 1 or prediction.shape != truth.shape:
        raise ValueError(f"prediction and truth must both be (N,), not {prediction.shape} and {truth.shape}")
    if not len(truth):
        raise ValueError("nothing is annotated: there is nothing to measure")
    for what, values in (("prediction", prediction), ("truth", truth)):
        if not np.isfinite(values).all():
            raise ValueError(f"{what} holds NaN or infinite values; leave out the rows that are not annotated")
    return prediction, truth


def ccc(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return Lin's concordance correlation coefficient with population variances; NaN if both are the same constant."""
    p, t = _pairs(prediction, truth)
    below = p.var() + t.var() + (p.mean() - t.mean()) ** 2
    return float(2 * ((p - p.mean()) * (t - t.mean())).mean() / below) if below else float("nan")


def pearson(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return Pearson's correlation; NaN if either is constant."""
    p, t = _pairs(prediction, truth)
    spread = p.std() * t.std()
    return float(((p - p.mean()) * (t - t.mean())).mean() / spread) if spread else float("nan")


def rmse(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return the root of the mean squared error."""
    p, t = _pairs(prediction, truth)
    return float(np.sqrt(((p - t) ** 2).mean()))


def sign_agreement(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of pictures on whose side of zero both agree (SAGR, Nicolaou et al. 2011); zero is its own side."""
    p, t = _pairs(prediction, truth)
    return float((np.sign(p) == np.sign(t)).mean())


def unit_f1(
    probability: np.ndarray, truth: np.ndarray, names: Sequence[str], thresholds: Sequence[float] | float = 0.5
) -> Mapping[str, float]:
    """Return the F1 of "present" for every action unit, over the pictures where it is annotated.

    Args:
        probability: (N, U) probability of presence.
        truth: (N, U): 1 present, 0 absent, −1 not annotated.
        names: the units.
        thresholds: probability from which on a unit counts as present, one for all or one for each.

    Returns:
        Unit → F1; NaN where the unit is neither present nor named in any annotated picture.

    Raises:
        ValueError: shapes that do not fit, NaN probabilities, or a truth beyond −1, 0, 1.
    """
    probability, truth = np.asarray(probability, np.float64), np.asarray(truth)
    if probability.ndim != 2 or probability.shape != truth.shape or probability.shape[1] != len(names):
        raise ValueError(f"{len(names)} units need (N, {len(names)}) arrays, not {probability.shape} and {truth.shape}")
    limits = np.broadcast_to(np.asarray(thresholds, np.float64), (len(names),))
    if not np.isin(truth, (-1, 0, 1)).all():
        raise ValueError("action units are 1 (present), 0 (absent) or -1 (not annotated)")
    known = truth >= 0
    if np.isnan(probability[known]).any():
        raise ValueError("probabilities of action units hold NaN")
    named = (probability >= limits) & known
    hits, total = (named & (truth == 1)).sum(0), named.sum(0) + (truth == 1).sum(0)
    return {name: float(2 * hits[u] / total[u]) if total[u] else float("nan") for u, name in enumerate(names)}


def abaw_p(ccc_valence: float, ccc_arousal: float, expression_f1: float, units_f1: float) -> float:
    """Return P of the ABAW multi-task challenges: mean CCC plus macro-F1 of expressions plus mean F1 of units, −1 … 3."""
    return (ccc_valence + ccc_arousal) / 2 + expression_f1 + units_f1
