"""A face as a network sees it, and the network's answer when the face is changed: the ground that all methods stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import ConfigError
from ..faces.alignment import apply, warp
from ..faces.preprocessing import Preprocess
from ..faces.regions import SIDE
from ..inference.recognizer import Recognizer

BATCH = 32
"""Changed faces in one call of the network."""


@dataclass(frozen=True, slots=True, eq=False)
class SeenFace:
    """One face, cut out as its card says, in color and before the value range."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB, the photograph."""
    pixels: np.ndarray
    """(S, S, 3) uint8 RGB, the face."""
    matrix: np.ndarray
    """(2, 3) from the photograph to the face."""
    mesh: np.ndarray | None
    """(P, 2) points of the face mesh in the pixels of the face, if known."""


def see(preprocess: Preprocess, image: np.ndarray, mesh: np.ndarray | None, *, whole: bool = False) -> SeenFace:
    """Cut a face out as a network is fed, but keep its colors.

    Args:
        preprocess: of the network's card.
        image: (H, W, 3) uint8 RGB.
        mesh: (P, 2 or 3) points of the face in its pixels; may be None if the image is the face.
        whole: whether the image is the face.
    """
    height, width = (SIDE, SIDE) if preprocess.regions else preprocess.size
    if whole or mesh is None:
        scale = np.array([width / image.shape[1], height / image.shape[0]])
        matrix = np.concatenate([np.diag(scale), scale[:, None] / 2 - 0.5], 1)  # centers of pixels are whole numbers
        pixels = preprocess.resize(image, height, width)
    else:
        matrix = preprocess.matrix(mesh, width)
        pixels = warp(image, matrix, width)
    return SeenFace(image, pixels, matrix, None if mesh is None else apply(matrix, mesh[:, :2].astype(np.float64)))


class Asked:
    """A model that is asked about changed faces.

    Args:
        read: the model, made by `mien.load`.
        layers: modules that Grad-CAM looks at; none for those that suit the architecture.
    """

    def __init__(self, read: Recognizer, layers: Sequence[str] = ()) -> None:
        self.read, self.card, self.preprocess, self.layers = read, read.card, read.preprocess, tuple(layers)

    def batch(self, face: SeenFace, variants: Sequence[np.ndarray]) -> np.ndarray | dict[str, np.ndarray]:
        """Return what the network is fed for variants (S, S, 3) of a face; its regions are cut from each anew."""
        return self.preprocess.batch([self.preprocess.take(variant, face.mesh) for variant in variants])

    def probabilities(self, face: SeenFace, variants: Sequence[np.ndarray]) -> np.ndarray:
        """Return (N, classes) probabilities of variants (S, S, 3) uint8 of a face."""
        name = self.card.outputs["scores"]
        parts = [variants[start : start + BATCH] for start in range(0, len(variants), BATCH)]
        return np.concatenate([self.read.runtime(self.batch(face, part))[name] for part in parts])

    def target(self, label: str | None, probabilities: np.ndarray) -> int:
        """Return the index of the class to explain: the one named, or the most probable one of (classes,).

        Raises:
            ConfigError: the model has no such class.
        """
        if label is None:
            return int(probabilities.argmax())
        if label not in self.card.labels:
            raise ConfigError(f"{self.card.name} has no class {label!r}; it has {', '.join(self.card.labels)}")
        return self.card.labels.index(label)


def enlarged(map_hw: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return (height, width) float32, a map at another size, bicubic."""
    image = Image.fromarray(np.asarray(map_hw, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def smoothed(map_hw: np.ndarray, deviation: float) -> np.ndarray:
    """Return (h, w), a map under a Gaussian of this standard deviation in pixels; the edge is repeated outwards."""
    reach = max(int(np.ceil(3 * deviation)), 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(deviation, 1e-6)) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(map_hw, [(reach, reach) if axis == each else (0, 0) for each in (0, 1)], mode="edge")
        map_hw = np.apply_along_axis(np.convolve, axis, padded, kernel, "valid")
    return map_hw
