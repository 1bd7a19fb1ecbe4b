"""Metrics of valence and arousal and of action units, the thresholds of units, and the ABAW multi-task score.

NaN in a float column and −1 in a column of action units mean "not annotated"; such rows are ignored.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


def mean_unit_f1(probability: np.ndarray, present: np.ndarray, threshold: float | np.ndarray = 0.5) -> float:
    """Return the mean of `unit_f1` over the annotated units; NaN if there are none."""
    scores = unit_f1(probability, present, threshold)
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")


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


GRID = np.arange(10, 90) / 100  # candidate thresholds, as in the authors' code


@dataclass(frozen=True, slots=True)
class UnitThresholds:
    """Thresholds of action units and their mean F1 of "present"."""

    values: Mapping[str, float]  # action unit → probability above which it is present
    f1_half: float  # f1 at one half, on the evaluation half
    f1: float  # f1 at the thresholds, on the same
    chosen_on: int  # number of faces of the selection half
    judged_on: int  # number of faces of the evaluation half

    def figures(self) -> dict[str, Any]:
        """Return the entries of a card's `figures`; reports read `unit_thresholds`."""
        return {
            "unit_thresholds": {name: round(value, 2) for name, value in self.values.items()},
            "unit_thresholds_fit": {
                "objective": "f1",
                "chosen_on": f"{self.chosen_on} faces of validation",
                "judged_on": f"the other {self.judged_on}",
                "f1_at_half": round(self.f1_half, 6),
                "f1_at_thresholds": round(self.f1, 6),
            },
        }


def choose_thresholds(probability: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return the threshold of `GRID` with the best F1 of "present" for each unit (U,), one half for a unit without "present".

    `probability` is (N, U), with NaN ignored, `present` (N, U) 1, 0, or −1 where not annotated. Ties go towards 0.5.
    """
    known = (present >= 0) & np.isfinite(probability)
    yes, no = (present == 1) & known, (present == 0) & known
    named = probability > GRID[:, None, None]
    hits, alarms = (named & yes).sum(1), (named & no).sum(1)
    f1 = 2 * hits / np.maximum(hits + alarms + yes.sum(0), 1)
    nearest = np.lexsort((np.abs(GRID - 0.5),))
    best = GRID[nearest[f1[nearest].argmax(0)]]
    return np.where(yes.any(0), best, 0.5)


def halves(identity: Sequence[str]) -> np.ndarray:
    """Split rows into two halves, returned as (N,) bool; all rows of one identity (a video, a person) are in the same half.

    The split depends on the names alone: identities are assigned in the order of their sha256 to the half with fewer rows.
    """
    names, member, count = np.unique(np.asarray(identity, dtype=str), return_inverse=True, return_counts=True)
    side, load = np.zeros(len(names), bool), [0, 0]
    for index in sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode(errors="surrogateescape")).digest()):
        side[index] = load[1] < load[0]
        load[int(side[index])] += count[index]
    return side[member]


def tune_units(probability: np.ndarray, present: np.ndarray, units: Sequence[str], identity: Sequence[str]) -> UnitThresholds:
    """Select thresholds on one half of a validation split and evaluate them on the other; arguments as for `choose_thresholds`.

    `identity` (N,) is the video or person of each row, never in both halves, or the name of the image if neither is known. The
    multi-task DDAMFN (arXiv 2407.12390) selects by the mean F1 of both classes instead, and evaluates on the same frames.
    """
    chosen = halves(identity)
    values = choose_thresholds(probability[chosen], present[chosen])
    rest, truth = np.nan_to_num(probability[~chosen]), present[~chosen]
    named, count = dict(zip(units, values.tolist(), strict=True)), int(chosen.sum())
    return UnitThresholds(named, mean_unit_f1(rest, truth), mean_unit_f1(rest, truth, values), count, len(chosen) - count)
