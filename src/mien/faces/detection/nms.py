"""Non-maximum suppression (NMS) over the boxes of one image, and its averaging variant."""

from collections.abc import Callable, Iterator

import numpy as np

from ...metrics.boxes import iou

Overlap = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`iou` or `containment` of `mien.metrics.boxes`: one box (4,) and boxes (M, 4) → (M,) 0 … 1."""


def groups(boxes: np.ndarray, scores: np.ndarray, limit: float, overlap: Overlap = iou) -> Iterator[np.ndarray]:
    """Yield the indices of each group: the best remaining of boxes (N, 4), then those that overlap it by more than `limit`."""
    order = np.argsort(-scores, kind="stable")
    while order.size:
        same = overlap(boxes[order[0]], boxes[order]) > limit
        same[0] = True  # An empty box does not even overlap itself.
        yield order[same]
        order = order[~same]


def suppress(boxes: np.ndarray, scores: np.ndarray, limit: float, overlap: Overlap = iou) -> np.ndarray:
    """Return (M,) the indices of boxes (N, 4) that greedy NMS keeps, best first: no two overlap by more than `limit`."""
    return np.array([group[0] for group in groups(boxes, scores, limit, overlap)], dtype=np.intp)


def average(boxes: np.ndarray, scores: np.ndarray, values: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the score-weighted mean of `values` (N, D) of each group, and the group's best score.

    MediaPipe's weighted NMS: the neighbors of the best box refine it instead of being discarded.

    Differences from MediaPipe: neighbors with less than half of the best score are ignored. MediaPipe discards everything below
    its threshold beforehand; here detections below the threshold take part and would blur the others.
    """
    rows, best = [], []
    for group in groups(boxes, scores, limit):
        near = group[scores[group] >= scores[group[0]] / 2]
        rows.append(scores[near] @ values[near] / scores[near].sum())
        best.append(scores[group[0]])
    return np.array(rows, values.dtype).reshape(-1, values.shape[1]), np.array(best, scores.dtype)
