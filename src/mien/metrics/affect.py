"""Metrics of valence and arousal, of action units, and the ABAW multi-task score.

NaN in a float column and −1 in a column of action units mean "not annotated"; such rows are ignored.
"""

import numpy as np

from .classification import divide


def concordance(prediction: np.ndarray, target: np.ndarray) -> float:
    """Return Lin's concordance correlation coefficient of two (N,), −1 … 1; it also measures agreement of mean and spread.

    With variances over N, as the ABAW challenges compute it. 0 where one side is constant, as it is with a single row; NaN
    without rows, or where both are constant and equal.
    """
    return float(concordance_of(_summed(prediction, target)))


def pearson(prediction: np.ndarray, target: np.ndarray) -> float:
    """Return Pearson's correlation of two (N,), −1 … 1; NaN for fewer than two rows or where one side is constant."""
    return float(pearson_of(_summed(prediction, target)))


def root_mean_square_error(prediction: np.ndarray, target: np.ndarray) -> float:
    """Return the root of the mean squared difference of two (N,); NaN without rows."""
    return float(rmse_of(_summed(prediction, target)))


def sign_agreement(prediction: np.ndarray, target: np.ndarray) -> float:
    """Return the share of rows on which both have the same sign (SAGR, Nicolaou et al. 2011), with zero as a third sign."""
    return float(sign_agreement_of(_summed(prediction, target)))


def moments(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return (N, 7) the terms whose sums give `concordance_of`, `pearson_of` and `rmse_of`; rows not annotated are zero."""
    p, t = np.asarray(prediction, np.float64), np.asarray(target, np.float64)
    known = np.isfinite(p) & np.isfinite(t)
    p, t = np.where(known, p, 0), np.where(known, t, 0)
    same = known & (np.sign(p) == np.sign(t))
    return np.stack([known, p, t, p * p, t * t, p * t, same], -1).astype(np.float64)


def concordance_of(sums: np.ndarray) -> np.ndarray:
    """Return the concordance of sums (…, 7) of `moments`."""
    mean_p, mean_t, var_p, var_t, covariance = _spread(sums)
    return divide(2 * covariance, var_p + var_t + (mean_p - mean_t) ** 2)


def pearson_of(sums: np.ndarray) -> np.ndarray:
    """Return the correlation of sums (…, 7) of `moments`."""
    _, _, var_p, var_t, covariance = _spread(sums)
    return divide(covariance, np.sqrt(var_p * var_t))


def rmse_of(sums: np.ndarray) -> np.ndarray:
    """Return the root mean square error of sums (…, 7) of `moments`."""
    n, _, _, pp, tt, pt, _ = np.moveaxis(sums, -1, 0)
    return np.sqrt(np.maximum(divide(pp + tt - 2 * pt, n), 0))


def sign_agreement_of(sums: np.ndarray) -> np.ndarray:
    """Return the share of equal signs of sums (…, 7) of `moments`."""
    return divide(sums[..., 6], sums[..., 0])


def unit_f1(probability: np.ndarray, present: np.ndarray, threshold: float | np.ndarray = 0.5) -> np.ndarray:
    """Return (U,) the F1 of "present" of each action unit, for probabilities (N, U) and annotations (N, U).

    Annotations are 1 present, 0 absent, −1 none; a unit is predicted as present above the threshold, one or (U,). The F1 is 0
    for units that are annotated but neither present nor predicted, NaN for units without annotation.
    """
    return unit_f1_of(unit_counts(probability, present, threshold).sum(0))


def unit_counts(probability: np.ndarray, present: np.ndarray, threshold: float | np.ndarray = 0.5) -> np.ndarray:
    """Return (N, U, 4) hits, predicted, present and annotated, whose sums are the input of `unit_f1_of`."""
    present = np.asarray(present)
    known = (present >= 0) & np.isfinite(probability)
    named = (np.where(known, probability, 0) > threshold) & known
    real = (present == 1) & known
    return np.stack([named & real, named, real, known], -1).astype(np.float64)


def unit_f1_of(sums: np.ndarray) -> np.ndarray:
    """Return (…, U) the F1 of sums (…, U, 4) of `unit_counts`."""
    hits, named, real, known = np.moveaxis(sums, -1, 0)
    f1 = np.divide(2 * hits, named + real, out=np.zeros_like(hits, np.float64), where=named + real > 0)
    return np.where(known > 0, f1, np.nan)


def abaw_p(ccc_valence: float, ccc_arousal: float, expression_f1: float, mean_unit_f1: float) -> float:
    """Return the ABAW multi-task score: mean concordance + macro-F1 of expressions + mean F1 of action units, at most 3."""
    return (ccc_valence + ccc_arousal) / 2 + expression_f1 + mean_unit_f1


def _summed(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the sums (7,) of `moments`."""
    shapes = np.shape(prediction), np.shape(target)
    if shapes[0] != shapes[1] or len(shapes[0]) != 1:
        raise ValueError(f"predictions of shape {shapes[0]} and targets of shape {shapes[1]} must be (N,) with equal N")
    return moments(prediction, target).sum(0)


def _spread(sums: np.ndarray) -> tuple[np.ndarray, ...]:
    n, p, t, pp, tt, pt, _ = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
    mean_p, mean_t = divide(p, n), divide(t, n)
    variances = []
    for squares, mean in ((pp, mean_p), (tt, mean_t)):
        variance = divide(squares, n) - mean * mean
        # Rounding errors of differences of large sums must not count as variance of a constant.
        variances.append(np.where(variance <= 1e-13 * (1 + mean * mean), 0.0, variance))
    return mean_p, mean_t, *variances, divide(pt, n) - mean_p * mean_t
