"""Losses for one label per face: cross-entropy with label smoothing and class-balanced weights.

Label smoothing: Szegedy et al., "Rethinking the Inception Architecture" (CVPR 2016). Class-balanced weights: Cui et al.,
"Class-Balanced Loss Based on Effective Number of Samples" (CVPR 2019).
"""

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(
    logits: Tensor, labels: Tensor, *, smoothing: float = 0.0, weight: Tensor | None = None, ignore: int = -1
) -> Tensor:
    """Return the mean cross-entropy of logits (N, K) against class indices (N,), weighted by those of the classes (K,).

    The published multi-task net hands over its *softmax* instead of logits: give that to reproduce it (the loss then cannot
    fall below log(1 + 8/e) = 1.371 with its 9 classes). Rows labeled `ignore` (Aff-Wild2 writes -1), or of a class of weight 0,
    do not count; if none counts, the loss is 0. Smoothing s gives (1 - s)·NLL + s·mean over classes of -log p; Global-ROI Net
    and MFER use 0.1.
    """
    counted = labels != ignore
    if weight is not None:
        counted = counted & (weight[labels.where(counted, 0)] > 0)
    if not counted.any():
        return logits.sum() * 0
    return functional.cross_entropy(logits, labels, weight=weight, ignore_index=ignore, label_smoothing=smoothing)


def class_balanced_weights(counts: Tensor, *, beta: float = 0.999) -> Tensor:
    """Return (K,) one weight per class with n images, (1 - β) / (1 - β^n), scaled to sum to the number of classes that occur.

    A class without images gets weight 0. A β of 0 weighs all classes equally; towards 1 the weights approach 1/n. Raises
    ValueError: `beta` is outside.

    Example:
        >>> [round(w, 3) for w in class_balanced_weights(torch.tensor([1000, 10, 0])).tolist()]
        [0.031, 1.969, 0.0]
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta is {beta}; it must be at least 0 and less than 1")
    counts = counts.to(torch.float64)
    present = counts > 0
    weights = torch.where(present, (1 - beta) / (1 - beta ** counts.clamp(min=1)), 0.0)
    return (weights * present.sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)).to(torch.get_default_dtype())
