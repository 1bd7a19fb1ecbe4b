"""Thresholds of action units, selected on one half of the validation split and evaluated on the other.

Videos and persons are never in both halves.

Source: the multi-task DDAMFN (arXiv 2407.12390). Differences: its authors select thresholds by the mean F1 of both classes and
evaluate on the same frames; here they are selected by the F1 of "present", the reported figure.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import unit_f1

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

    `identity` (N,) is the video or person of each row, or the name of the image if neither is known.
    """
    chosen = halves(identity)
    values = choose_thresholds(probability[chosen], present[chosen])
    rest, truth = np.nan_to_num(probability[~chosen]), present[~chosen]

    def mean_f1(thresholds: np.ndarray | float) -> float:
        scores = unit_f1(rest, truth, thresholds)
        return float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")

    named, count = dict(zip(units, values.tolist(), strict=True)), int(chosen.sum())
    return UnitThresholds(named, mean_f1(0.5), mean_f1(values), count, len(chosen) - count)
