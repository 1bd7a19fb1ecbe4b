"""A cropped face, predictions for modified versions of it, and what follows for any model: occlusion and region importance.

Occlusion: a patch of the mean color slides over the face; the map is the drop of the log-odds of the class while a location is
covered (Zeiler and Fergus, ECCV 2014). Region importance: eyes with brows, nose, mouth, and the rest are blurred in turn.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ..errors import ConfigError
from ..faces.alignment import apply, warp
from ..faces.preprocessing import Preprocess
from ..faces.regions import SIDE, region_boxes
from ..inference.recognizer import Recognizer
from ..types import points68

BATCH = 32  # modified faces per network call


@dataclass(frozen=True, slots=True, eq=False)
class SeenFace:
    """One face, cropped according to the card, in color and before normalization."""

    image: np.ndarray  # (H, W, 3) uint8 RGB, the photograph
    pixels: np.ndarray  # (S, S, 3) uint8 RGB, the face
    matrix: np.ndarray  # (2, 3) affine transform from the photo to the crop
    mesh: np.ndarray | None  # (P, 2) face mesh in pixels of the crop, if known


def see(preprocess: Preprocess, image: np.ndarray, mesh: np.ndarray | None, *, whole: bool = False) -> SeenFace:
    """Crop a face for the network, but keep its colors.

    `image` is (H, W, 3) uint8 RGB, a face crop if `whole`; `mesh` (P, 2 or 3) is in its pixels and may be None for crops.
    """
    height, width = (SIDE, SIDE) if preprocess.regions else preprocess.size
    if whole or mesh is None:
        scale = np.array([width / image.shape[1], height / image.shape[0]])
        matrix = np.concatenate([np.diag(scale), scale[:, None] / 2 - 0.5], 1)  # Pixel centers have integer coordinates.
        pixels = preprocess.resize(image, height, width)
    else:
        matrix = preprocess.matrix(mesh, width)
        pixels = warp(image, matrix, width)
    return SeenFace(image, pixels, matrix, None if mesh is None else apply(matrix, mesh[:, :2].astype(np.float64)))


SMALLEST = 1e-7  # lower bound of probabilities in log-odds


class Probe:
    """A model that is run on modified faces; `layers` are modules for Grad-CAM, by default those of the architecture."""

    def __init__(self, recognizer: Recognizer, layers: Sequence[str] = ()) -> None:
        self.recognizer, self.layers = recognizer, tuple(layers)
        self.card, self.preprocess = recognizer.card, recognizer.preprocess

    def batch(self, face: SeenFace, variants: Sequence[np.ndarray]) -> np.ndarray | dict[str, np.ndarray]:
        """Return the network input for variants (S, S, 3) of a face; regions are cropped from each variant."""
        return self.preprocess.batch([self.preprocess.take(variant, face.mesh) for variant in variants])

    def probabilities(self, face: SeenFace, variants: Sequence[np.ndarray]) -> np.ndarray:
        """Return (N, classes) probabilities of variants (S, S, 3) uint8 of a face."""
        name = self.card.outputs["scores"]
        parts = [variants[start : start + BATCH] for start in range(0, len(variants), BATCH)]
        return np.concatenate([self.recognizer.runtime(self.batch(face, part))[name] for part in parts])

    def drops(self, face: SeenFace, variants: Sequence[np.ndarray], target: int) -> np.ndarray:
        """Return (N,) by how much the log-odds of a class are lower in variants (S, S, 3) uint8 than in the face itself."""
        odds = log_odds(self.probabilities(face, [face.pixels, *variants]), target)
        return odds[0] - odds[1:]

    def target(self, label: str | None, probabilities: np.ndarray) -> int:
        """Return the index of the given class, or of the most probable one; raises ConfigError if the model lacks the class."""
        if label is None:
            return int(probabilities.argmax())
        if label not in self.card.labels:
            message = f"{self.card.name} has no class {label!r}; expected one of {', '.join(self.card.labels)}"
            raise ConfigError(message, value=label, expected=self.card.labels)
        return self.card.labels.index(label)


def log_odds(probabilities: np.ndarray, target: int) -> np.ndarray:
    """Return (N,) log p/(1 − p) of a class for (N, K) probabilities; they change where a probability near 0 or 1 hardly moves.

    The odds against the class are the sum of the other classes, since 1 − p of a float32 probability rounds to zero.
    """
    others = np.delete(probabilities, target, 1).astype(np.float64).sum(1)
    return np.log(np.maximum(probabilities[:, target], SMALLEST)) - np.log(np.maximum(others, SMALLEST))


def enlarged(map_hw: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a map to (height, width) float32, bicubic."""
    image = Image.fromarray(np.asarray(map_hw, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def smoothed(map_hw: np.ndarray, deviation: float) -> np.ndarray:
    """Return (h, w), a map filtered by a Gaussian of this standard deviation in pixels; borders are replicated."""
    reach = max(int(np.ceil(3 * deviation)), 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(deviation, 1e-6)) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(map_hw, [(reach, reach) if axis == each else (0, 0) for each in (0, 1)], mode="edge")
        map_hw = np.apply_along_axis(np.convolve, axis, padded, kernel, "valid")
    return map_hw


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
    places = list(itertools.product(*([*range(0, side - window, stride), side - window] for side in (height, width))))
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
