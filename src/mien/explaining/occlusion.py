"""Occlusion maps and region importance, for any model.

Occlusion: a patch of the mean color slides over the face; the map is the drop of the log-odds of the class while a location is
covered (Zeiler and Fergus, ECCV 2014). Region importance: eyes with brows, nose, mouth, and the rest are blurred in turn.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ..faces.regions import region_boxes
from ..types import points68
from .faces import Probe, SeenFace, smoothed

PATCH = 1 / 6  # side of the patch relative to the face
NAMES = {"eye": "eyes", "nose": "nose", "mouth": "mouth"}
ELSEWHERE = "elsewhere"  # the face without eyes, nose and mouth
BLUR = 1 / 10  # standard deviation of the blur relative to the face: removes features, keeps colors


def occlusion(probe: Probe, face: SeenFace, target: int) -> dict[str, np.ndarray]:
    """Return one map (S, S): the mean drop of the log-odds over the patches that cover a location, smoothed."""
    window = max(round(face.pixels.shape[0] * PATCH), 2)
    stride = max(window // 2, 1)
    return {"": smoothed(patches(probe, face, target, window, stride), stride / 2)}


def patches(probe: Probe, face: SeenFace, target: int, window: int, stride: int) -> np.ndarray:
    """Return the (S, S) map of `occlusion` for patches of `window` pixels, `stride` apart, the last ones at the edge."""
    height, width = face.pixels.shape[:2]
    places = [(y, x) for y in _starts(height, window, stride) for x in _starts(width, window, stride)]
    fill = face.pixels.mean((0, 1)).round().astype(np.uint8)
    variants = []
    for y, x in places:
        variant = face.pixels.copy()
        variant[y : y + window, x : x + window] = fill
        variants.append(variant)
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for (y, x), drop in zip(places, probe.drops(face, variants, target), strict=True):
        total[y : y + window, x : x + window] += drop
        count[y : y + window, x : x + window] += 1
    return total / count


def _starts(side: int, window: int, stride: int) -> list[int]:
    return [*range(0, side - window, stride), side - window]


def region_importance(probe: Probe, face: SeenFace, target: int) -> dict[str, float]:
    """Return the drop of the target's log-odds when eyes, nose, mouth or the rest are blurred.

    Negative if the class becomes more probable. Empty if the mesh of the face is unknown.
    """
    if face.mesh is None:
        return {}
    height, width = face.pixels.shape[:2]
    boxes = region_boxes(points68(face.mesh), height, width, 1.2)
    masks = {NAMES[name]: _soft(box, height, width) for name, box in boxes.items()}
    masks[ELSEWHERE] = 1 - np.max(list(masks.values()), 0)
    blurred = np.asarray(Image.fromarray(face.pixels).filter(ImageFilter.GaussianBlur(max(height * BLUR, 1))), np.float64)
    variants = [
        np.rint(face.pixels * (1 - mask[..., None]) + blurred * mask[..., None]).astype(np.uint8) for mask in masks.values()
    ]
    return dict(zip(masks, probe.drops(face, variants, target).tolist(), strict=True))


def _soft(box: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
    """Return a (height, width) mask, 1 in the box, with soft edges: a hard edge would be a new feature."""
    mask = Image.new("L", (width, height))
    x0, y0, x1, y1 = box
    ImageDraw.Draw(mask).rectangle((x0, y0, x1 - 1, y1 - 1), 255)
    return np.asarray(mask.filter(ImageFilter.GaussianBlur(height / 60)), np.float64) / 255
