"""Losses for valence, arousal and action units, in the form of the ABAW challenges.

CCC: Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45 (1989). The batch form is that of
the multi-task net of the 7th ABAW (arXiv 2407.12390): see `ccc`.

Differences from that paper: rows and units without annotation can be masked, where the paper drops every frame that lacks any
field (63 % of its training set).
"""

from typing import Literal

from torch import Tensor
from torch.nn import functional

Moments = Literal["biased", "mixed"]


def ccc(prediction: Tensor, target: Tensor, *, moments: Moments = "biased") -> Tensor:
    """Return Lin's concordance correlation coefficient over the first axis: (N,) gives a scalar, (N, K) gives (K,), in [-1, 1].

    2·cov / (var_target + var_prediction + (mean_target - mean_prediction)² + 1e-8), N > 1. Give the whole set's predictions to
    evaluate: the mean of per-batch coefficients is another, usually smaller, number. The moments "biased" divide covariance and
    variances by N: perfect agreement is 1. "mixed" is the ABAW authors' form, biased covariance but unbiased variances: perfect
    agreement is (N - 1) / N, .969 in their batches of 32.

    Example:
        >>> import torch
        >>> scores = torch.tensor([-0.5, 0.0, 0.5, 1.0])
        >>> round(ccc(scores, scores).item(), 4), round(ccc(scores, scores, moments="mixed").item(), 4)
        (1.0, 0.75)
    """
    correction = {"biased": 0, "mixed": 1}[moments]
    offset = prediction.mean(0) - target.mean(0)
    covariance = ((prediction - prediction.mean(0)) * (target - target.mean(0))).mean(0)
    variances = prediction.var(0, correction=correction) + target.var(0, correction=correction)
    return 2 * covariance / (variances + offset.square() + 1e-8)


def ccc_loss(prediction: Tensor, target: Tensor, *, moments: Moments = "biased", valid: Tensor | None = None) -> Tensor:
    """Return 1 - the mean CCC of the K columns (N, K) in [-1, 1], in [0, 2]; "mixed" moments reproduce the ABAW authors.

    Rows that are not `valid` (N,), those without annotation, are excluded. With fewer than two rows left the loss and its
    gradients are 0.
    """
    if valid is not None:
        prediction, target = prediction[valid], target[valid]
    if len(prediction) < 2:
        return prediction.sum() * 0
    return 1 - ccc(prediction, target, moments=moments).mean()


def action_unit_loss(prediction: Tensor, target: Tensor, *, from_logits: bool = False) -> Tensor:
    """Return the mean binary cross-entropy over the annotated units of (N, K) probabilities, or logits.

    Targets are 1 active, 0 not active, negative (the dataset writes -1) not annotated: excluded from the mean. Without any
    annotation the loss is 0.

    Example:
        >>> import torch
        >>> round(action_unit_loss(torch.tensor([[0.5, 0.9]]), torch.tensor([[1, -1]])).item(), 4)
        0.6931
    """
    known = target >= 0
    if not known.any():
        return prediction.sum() * 0
    entropy = functional.binary_cross_entropy_with_logits if from_logits else functional.binary_cross_entropy
    return entropy(prediction[known], target[known].to(prediction.dtype))
