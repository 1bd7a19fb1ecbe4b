"""Metrics of a confusion matrix.

Every function takes counts (…, K, K) or (…, K, K + 1): rows are true classes, columns predicted classes, and an additional last
column means "no prediction", which is wrong for every class. Leading axes are kept, so that bootstrap samples are evaluated at
once. Means over classes ignore classes without images, as scikit-learn's `balanced_accuracy_score` does; without any image the
value is NaN.
"""

import numpy as np


def divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, broadcast; NaN where the denominator is 0 or not finite."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    shape = np.broadcast_shapes(part.shape, whole.shape)
    return np.divide(part, whole, out=np.full(shape, np.nan), where=np.isfinite(whole) & (whole != 0))


def confusion(label: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return the confusion matrix.

    Args:
        label: (N,) true classes, 0 … classes − 1.
        predicted: (N,) predicted classes, −1 for no prediction.
        classes: number of classes K.

    Returns:
        (K, K + 1) int64; the last column counts images without a prediction.

    Raises:
        ValueError: a label or prediction is out of range, or the lengths differ.

    Example:
        >>> confusion(np.array([0, 0, 1]), np.array([0, 1, -1]), 2).tolist()
        [[1, 1, 0], [0, 0, 1]]
    """
    label, predicted = np.asarray(label), np.asarray(predicted)
    if label.shape != predicted.shape or label.ndim != 1:
        raise ValueError(f"labels of shape {label.shape} and predictions of shape {predicted.shape} must both be (N,)")
    if len(label) and (label.min() < 0 or label.max() >= classes):
        raise ValueError(f"labels from {label.min()} to {label.max()} must be within 0 … {classes - 1}")
    if len(predicted) and (predicted.min() < -1 or predicted.max() >= classes):
        raise ValueError(f"predictions from {predicted.min()} to {predicted.max()} must be within −1 … {classes - 1}")
    column = np.where(predicted < 0, classes, predicted)
    cells = np.bincount(label * (classes + 1) + column, minlength=classes * (classes + 1))
    return cells.reshape(classes, classes + 1)


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Return (…) the accuracy, 0 … 1."""
    return divide(_hits(counts).sum(-1), counts.sum((-2, -1)))


def recalls(counts: np.ndarray) -> np.ndarray:
    """Return (…, K) the recall of each class; NaN for a class without images."""
    return divide(_hits(counts), counts.sum(-1))


def precisions(counts: np.ndarray) -> np.ndarray:
    """Return (…, K) the precision of each class; 0 for a class that is never predicted."""
    classes = counts.shape[-2]
    named = counts[..., :classes].sum(-2)
    return np.where(named > 0, divide(_hits(counts), named), 0.0)


def f1_scores(counts: np.ndarray) -> np.ndarray:
    """Return (…, K) the harmonic mean of precision and recall; NaN for a class without images."""
    classes = counts.shape[-2]
    real, named = counts.sum(-1), counts[..., :classes].sum(-2)
    return np.where(real > 0, divide(2 * _hits(counts), real + named), np.nan)


def uar(counts: np.ndarray) -> np.ndarray:
    """Return (…) the unweighted average recall, 0 … 1, also called balanced accuracy, over the classes that occur."""
    return _mean(recalls(counts))


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Return (…) the unweighted mean F1, 0 … 1, over the classes that occur."""
    return _mean(f1_scores(counts))


def kappa(counts: np.ndarray) -> np.ndarray:
    """Return (…) Cohen's kappa, −1 … 1: agreement beyond what the frequencies of labels and predictions would give by chance.

    "No prediction" counts as an additional class. NaN if chance alone gives full agreement.
    """
    classes = counts.shape[-2]
    total = counts.sum((-2, -1)).astype(np.float64)
    real, named = counts.sum(-1), counts[..., :classes].sum(-2)
    chance = divide((real * named).sum(-1), total * total)
    return divide(accuracy(counts) - chance, 1 - chance)


def _hits(counts: np.ndarray) -> np.ndarray:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _mean(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    return divide(np.where(known, values, 0).sum(-1), known.sum(-1))
