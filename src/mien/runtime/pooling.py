"""Pool the outputs of an ensemble's members.

The rule `"logits"` is a weighted sum of logits: softmax(Σ wᵢ log pᵢ) = softmax(Σ wᵢ zᵢ), since the logits zᵢ and log pᵢ differ
by a constant for each face. The rule `"probabilities"` is a weighted mean.
"""

from collections.abc import Sequence

import numpy as np

from ..metrics.calibration import softmax

RULES = ("logits", "probabilities")
SMALLEST = 1e-7  # lower bound of probabilities before their logarithm


def pooled(
    probabilities: Sequence[np.ndarray], weights: np.ndarray, rule: str = "logits", temperature: float = 1.0
) -> np.ndarray:
    """Return the pooled probabilities (N, K), for those of M members and their weights (M,) or (N, M), by a rule of `RULES`."""
    stacked = np.stack(probabilities, 1).astype(np.float64)
    shares = np.broadcast_to(weights, stacked.shape[:2])[..., None]
    if rule == "logits":
        logits = (shares * np.log(np.maximum(stacked, SMALLEST))).sum(1)
    else:
        logits = np.log(np.maximum((shares * stacked).sum(1) / shares.sum(1), SMALLEST))
    return softmax(logits / temperature)


def votes(weights: np.ndarray, regional: np.ndarray, found: np.ndarray | None) -> np.ndarray:
    """Return the weights (N, M) of members for each face: those that read regions have none where these were not found.

    The others then share the whole weight, as the authors of Global-ROI do it; if all members read regions, all keep it.
    `weights` and `regional`, whether a member reads regions, are (M,). `found` is (N,), 1 where the landmarks are known,
    otherwise 0; None if no member reads regions.
    """
    if found is None or regional.all():
        return weights
    left = np.where(regional & (found[:, None] < 0.5), 0.0, weights)
    total = left.sum(1, keepdims=True)
    return np.where(total > 0, left * weights.sum() / np.maximum(total, SMALLEST), weights)


def columns(labels: Sequence[str], member: Sequence[str]) -> list[int]:
    """Return the index of each label among the labels of a member."""
    return [list(member).index(label) for label in labels]


def selected(probabilities: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    """Return the chosen classes (N, len(chosen)), rescaled to sum to one if some are dropped."""
    part = probabilities[:, list(chosen)]
    return part if len(chosen) == probabilities.shape[1] else part / np.maximum(part.sum(1, keepdims=True), SMALLEST)
