"""Geometry of bounding boxes: size, area, intersection, IoU and containment.

Boxes are (…, 4) arrays: left, top, right, bottom, in any unit. Functions of two arguments broadcast, so one box against many is
`iou(box, boxes)` and a table of all pairs `iou(a[:, None], b[None])`.
"""

import numpy as np

SMALLEST = 1e-9  # lower bound of a denominator: empty boxes have overlap 0 instead of a division by zero


def sides(boxes: np.ndarray) -> np.ndarray:
    """Return (…, 2) width and height; 0 where a box is inverted."""
    return np.maximum(boxes[..., 2:] - boxes[..., :2], 0)


def area(boxes: np.ndarray) -> np.ndarray:
    """Return (…) areas; 0 where a box is inverted."""
    return sides(boxes).prod(-1)


def centers(boxes: np.ndarray) -> np.ndarray:
    """Return (…, 2) x and y of the centers."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (…) the common area; 0 where either box holds NaN."""
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    return np.fmax(width, 0) * np.fmax(height, 0)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (…) intersection over union, 0 … 1; 0 where both boxes are empty.

    Example:
        >>> boxes = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10]])
        >>> iou(boxes[:, None], boxes[None]).round(2).tolist()
        [[1.0, 0.33], [0.33, 1.0]]
    """
    shared = intersection(a, b)
    return shared / np.maximum(area(a) + area(b) - shared, SMALLEST)


def containment(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (…) intersection over the smaller area, 0 … 1: 1 where one box contains the other."""
    return intersection(a, b) / np.maximum(np.minimum(area(a), area(b)), SMALLEST)
