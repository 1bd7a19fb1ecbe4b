"""Regions of eyes, nose and mouth from the 68 landmarks, for networks that take parts of the face as inputs.

Source of `global_roi_boxes`: the published preprocessing of the Global-ROI Net (tzu-tsen/code, `get_roi/face_roi.py`).
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from ..registry import lookup

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels, the last two exclusive, as in the slice `image[y0:y1, x0:x1]`
EYES = [*range(17, 27), *range(36, 48)]  # brows and eyes
NOSE = [*range(27, 36)]
OUTER_LIP = [*range(48, 60)]
MOUTH = [*range(48, 68)]

SIDE = 224  # side of an aligned face; the formulas of `global_roi_boxes` are in its pixels
SMALLEST = 4  # minimum side of a region in pixels; a smaller one counts as missing


def global_roi_boxes(points68: np.ndarray) -> dict[str, Box]:
    """Return the boxes `eye`, `nose` and `mouth` of the Global-ROI Net, for landmarks (68, 2) on a face of 224 × 224.

    The landmarks are rounded to whole pixels, as the authors' are. Boxes may extend beyond the image; use `clamp`: the authors'
    slices wrap around there, and the image fails.
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
    """Return the boxes of eyes and brows, nose, and mouth, enlarged by `scale` and clamped to a height × width image.

    Unlike those of `global_roi_boxes` they scale with the face, so the face may have any size.
    """
    boxes = {}
    for name, indices in {"eye": EYES, "nose": NOSE, "mouth": MOUTH}.items():
        low, high = points68[indices].min(0), points68[indices].max(0)
        center, half = (low + high) / 2, (high - low) / 2 * scale
        x0, y0, x1, y1 = np.rint([*(center - half), *(center + half)]).astype(int).tolist()
        boxes[name] = clamp((x0, y0, x1, y1), height, width)
    return boxes


def clamp(box: Box, height: int, width: int) -> Box:
    """Return the intersection of a box with a height × width image, at least one pixel large."""
    x0, y0 = min(max(box[0], 0), width - 1), min(max(box[1], 0), height - 1)
    return x0, y0, max(min(box[2], width), x0 + 1), max(min(box[3], height), y0 + 1)


AVERAGE: Mapping[str, Box] = {"eye": (26, 46, 195, 102), "nose": (85, 79, 139, 150), "mouth": (72, 152, 152, 195)}
"""Median boxes of 383 evenly spaced images of FER2013's training split, resized to 224 × 224."""


def inside(boxes: Mapping[str, Box]) -> dict[str, Box] | None:
    """Return `global_roi_boxes` clamped to the 224 × 224 face; None if one of them is too small then."""
    kept = {name: clamp(box, SIDE, SIDE) for name, box in boxes.items()}
    return None if any(min(x1 - x0, y1 - y0) < SMALLEST for x0, y0, x1, y1 in kept.values()) else kept


def region_crops(image: np.ndarray, points68: np.ndarray | None, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Crop regions of an aligned face (H, W) or (H, W, 3) uint8 as inputs of the Global-ROI Net.

    The face is resized to 224 × 224, cropped by `global_roi_boxes`, and each crop is resized bilinearly to its side in `sizes`.
    Without landmarks (68, 2), or where a region is missing, the mean boxes are used. Raises UnknownName: unknown region.

    Example:
        >>> crops = region_crops(np.zeros((48, 48), np.uint8), None, {"eye": 90, "mouth": 60})
        >>> {name: crop.shape for name, crop in crops.items()}
        {'eye': (90, 90), 'mouth': (60, 60)}
    """
    boxes = find_boxes(image, points68) or AVERAGE
    face = resized(image, SIDE)
    crops = {}
    for name, side in sizes.items():
        x0, y0, x1, y1 = lookup(name, boxes, "region", plugins=False)
        crops[name] = resized(face[y0:y1, x0:x1], side)
    return crops


def find_boxes(image: np.ndarray, points68: np.ndarray | None) -> dict[str, Box] | None:
    """Return the boxes of `region_crops` in the aligned face at 224 × 224; None where the mean boxes are used."""
    if points68 is None:
        return None
    scale = SIDE / np.array([image.shape[1], image.shape[0]])
    # Pixel centers are integers on both grids.
    return inside(global_roi_boxes((points68 + 0.5) * scale - 0.5))


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image resized to side × side, bilinearly."""
    if image.shape[:2] == (side, side):
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
