"""Several boxes on one face become one: overlap measures, non-maximum suppression, score-weighted averaging.

Boxes are (N, 4): left, top, right, bottom, any unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

Overlap = Callable[[np.ndarray, np.ndarray], np.ndarray]


def area(boxes: np.ndarray) -> np.ndarray:
    """Return (...) the area of every box (..., 4); 0 where it is turned inside out."""
    return np.maximum(boxes[..., 2] - boxes[..., 0], 0) * np.maximum(boxes[..., 3] - boxes[..., 1], 0)


def intersection(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the area (N,) that one box (4,) shares with every box (N, 4)."""
    width = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    height = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    return np.maximum(width, 0) * np.maximum(height, 0)


def iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return intersection over union (N,), in [0, 1], of one box with every box; 0 where both are empty."""
    shared = intersection(box, boxes)
    return shared / np.maximum(area(box) + area(boxes) - shared, 1e-9)


def containment(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return intersection over the smaller area (N,), in [0, 1]: 1 where one of the two lies inside the other."""
    return intersection(box, boxes) / np.maximum(np.minimum(area(box), area(boxes)), 1e-9)


def groups(boxes: np.ndarray, scores: np.ndarray, limit: float, overlap: Overlap = iou) -> Iterator[np.ndarray]:
    """Yield the indices of every group: the best box left, first, and all boxes left that overlap it by more than `limit`.

    Args:
        boxes: (N, 4), as `overlap` takes them.
        scores: (N,).
        limit: overlap above which boxes are of one group.
        overlap: one box (4,) and (M, 4) boxes → (M,) how much they overlap, 0 … 1.
    """
    order = np.argsort(-scores, kind="stable")
    while order.size:
        same = overlap(boxes[order[0]], boxes[order]) > limit
        same[0] = True
        yield order[same]
        order = order[~same]


def suppress(boxes: np.ndarray, scores: np.ndarray, limit: float, overlap: Overlap = iou) -> np.ndarray:
    """Return (M,) the indices that greedy non-maximum suppression keeps, best first: no two overlap by more than `limit`.

    Arguments as of `groups`.
    """
    return np.array([group[0] for group in groups(boxes, scores, limit, overlap)], dtype=np.intp)


def average(boxes: np.ndarray, scores: np.ndarray, values: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return one row of `values` (N, D) for every group, averaged by score, and the best score of the group.

    MediaPipe's weighted suppression: the neighbors of the best box refine it instead of being thrown away.

    Differences from MediaPipe: neighbors that score less than half of the best do not count. It never sees those below its
    threshold; here the answers below the threshold are kept, and would blur the others.
    """
    rows, best = [], []
    for group in groups(boxes, scores, limit):
        near = group[scores[group] >= scores[group[0]] / 2]
        rows.append(scores[near] @ values[near] / scores[near].sum())
        best.append(scores[group[0]])
    return np.array(rows, values.dtype).reshape(-1, values.shape[1]), np.array(best, scores.dtype)
