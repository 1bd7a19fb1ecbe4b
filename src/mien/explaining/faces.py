"""A cropped face, and predictions for modified versions of it: the basis of all methods."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import ConfigError
from ..faces.alignment import apply, warp
from ..faces.preprocessing import Preprocess
from ..faces.regions import SIDE
from ..inference.recognizer import Recognizer

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
