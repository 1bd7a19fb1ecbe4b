"""Boxes around eyes, nose and mouth from the 68 points, for networks that look at parts of the face.

Source of `global_roi_boxes`: the published preprocessing of the Global-ROI Net (tzu-tsen/code, `get_roi/face_roi.py`).
"""

from __future__ import annotations

import numpy as np

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, the last two outside, as in the slice `image[y0:y1, x0:x1]`."""

EYES = [*range(17, 27), *range(36, 48)]
"""Brows and eyes."""
NOSE = [*range(27, 36)]
OUTER_LIP = [*range(48, 60)]
MOUTH = [*range(48, 68)]


def global_roi_boxes(points68: np.ndarray) -> dict[str, Box]:
    """Return the boxes `eye`, `nose` and `mouth` of the Global-ROI Net.

    Args:
        points68: (68, 2) on a face aligned to 224 × 224; rounded to whole pixels, as the authors' landmarks are.

    Returns:
        Boxes that may reach beyond the picture. The authors' slices then wrap around, and the picture counts as failed; here
        `clamp` is for that.
    """
    points = np.rint(points68).astype(int)

    def around(indices: list[int], left: int, top: int, right: int, bottom: int) -> Box:
        (x0, y0), (x1, y1) = points[indices].min(0).tolist(), points[indices].max(0).tolist()
        return x0 - left, y0 - top, x1 + right, y1 + bottom

    left, middle, right = points[[31, 33, 35], 0].tolist()  # nostrils and the point between them
    return {
        "eye": around(EYES, 3, 3, 3, 6),
        "nose": around(NOSE, int((middle - left) / 2), 4, int((right - middle) / 2), 4),
        "mouth": around(OUTER_LIP, 6, 6, 6, 6),
    }


def region_boxes(points68: np.ndarray, height: int, width: int, scale: float = 1.3) -> dict[str, Box]:
    """Return boxes `scale` times as large as the points of eyes and brows, nose, and mouth, inside a height × width picture.

    Unlike `global_roi_boxes` they grow with the face, so the face need not be aligned to a given size.
    """
    boxes = {}
    for name, indices in {"eye": EYES, "nose": NOSE, "mouth": MOUTH}.items():
        low, high = points68[indices].min(0), points68[indices].max(0)
        centre, half = (low + high) / 2, (high - low) / 2 * scale
        x0, y0, x1, y1 = np.rint([*(centre - half), *(centre + half)]).astype(int).tolist()
        boxes[name] = clamp((x0, y0, x1, y1), height, width)
    return boxes


def clamp(box: Box, height: int, width: int) -> Box:
    """Return the part of a box that lies in a height × width picture, at least one pixel large."""
    x0, y0 = min(max(box[0], 0), width - 1), min(max(box[1], 0), height - 1)
    return x0, y0, max(min(box[2], width), x0 + 1), max(min(box[3], height), y0 + 1)
