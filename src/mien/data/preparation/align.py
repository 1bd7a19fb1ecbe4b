"""Aligned faces with the crop geometries of published networks.

Each crop has two variants: ours, and the published routine if there is one.

Differences of ours from the published routines:
* the face is the largest one, found by BlazeFace or RetinaFace, not the first or the last detection;
* `arcface112` is fitted from image to crop and never reflected (MFER fits the other way, and mirrors strong left profiles);
* `ddamfn5` uses landmarks as they are, not cut to whole pixels;
* an image without a face is resized, marked and kept in the denominator (MFER discards it);
* shrinking averages pixels instead of skipping them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from ...faces.alignment import TEMPLATES, crop_matrix, dlib_chip_matrix, reverse_similarity, warp
from ...faces.preprocessing import resize_cv2
from ...registry import lookup
from .faces import Choice, FacePicker, Points, PreparedFace
from .runner import Made

Faceless = Literal["keep", "error", "discard"]

Matrix = Callable[[PreparedFace, int], np.ndarray]  # face and side of the crop → (2, 3) from image to crop


def on_template(name: str) -> Matrix:
    """Return the transform of the five points to a template of `mien.faces.alignment`."""
    return lambda face, size: crop_matrix(face.points5, TEMPLATES[name], size)


def dlib_chip(face: PreparedFace, size: int) -> np.ndarray:
    """Return (2, 3) from image to the face chip of dlib with its default padding."""
    assert face.points68 is not None
    return dlib_chip_matrix(face.points68, size, padding=0.25)


def published_arcface(face: PreparedFace, size: int) -> np.ndarray:
    """Return (2, 3) by face.evoLVe's fit from the template to the image, which mirrors strong left profiles by mistake."""
    return reverse_similarity(face.points5, TEMPLATES["arcface112"].poses[0] * (size / 112), "published")


def published_ddamfn(face: PreparedFace, size: int) -> np.ndarray:
    """Return (2, 3) by DDAMFN++'s five poses, landmarks cut to whole pixels."""
    return crop_matrix(np.trunc(face.points5), TEMPLATES["ddamfn5"], size)


@dataclass(frozen=True, slots=True)
class Crop:
    """Definition of a crop."""

    says: str  # description
    size: int  # side in pixels
    matrix: Matrix  # transform
    detector: str = "blazeface"  # face detector
    points: Points = "mesh"  # source of the landmarks
    choice: Choice = "largest"  # which face is used
    threshold: float | None = None  # detection score threshold
    faceless: Faceless = "keep"  # images without a face: resized and kept, resized and moved to `error`, or excluded
    folder: str = ""  # folder of the crops inside the folder of the split
    gray: bool = False  # whether the crop is gray
    antialias: bool = True  # whether shrinking averages pixels


CROPS: Mapping[str, Crop] = {
    "arcface112": Crop("five points on ArcFace's template, as face.evoLVe has it", 112, on_template("arcface112")),
    "ddamfn5": Crop(
        "five points on the nearest of DDAMFN++'s five poses", 112, on_template("ddamfn5"), "retinaface", "detector"
    ),
    "dlib-chip": Crop("dlib's face chip, as Global-ROI Net has it", 224, dlib_chip, faceless="error", folder="align"),
    "fer2013-like": Crop("a gray face where FER2013's faces are", 48, on_template("fer2013"), gray=True),
}
"""Our variants."""

AUTHORS: Mapping[str, Crop] = {
    "arcface112": Crop(
        "MFER's alignment as published (face.evoLVe)", 112, published_arcface,
        "mtcnn-evolve", "detector", "first", faceless="discard", antialias=False,
    ),
    "ddamfn5": Crop(
        "DDAMFN++'s alignment as published", 112, published_ddamfn,
        "retinaface", "detector", "first", threshold=0.6, antialias=False,
    ),
    "dlib-chip": Crop(
        "Global-ROI Net's alignment as published: the last face that was found wins", 224, dlib_chip,
        choice="last", faceless="error", folder="align", antialias=False,
    ),
}  # fmt: skip
"""The published variants."""


@dataclass(frozen=True, slots=True)
class Align:
    """A `Work` that cuts aligned faces."""

    crop: Literal["arcface112", "ddamfn5", "dlib-chip", "fer2013-like"] = "arcface112"
    """Geometry: ArcFace's five points, DDAMFN++'s five poses, dlib's face chip, or FER2013's."""
    author: bool = False
    """Reproduce the published routine exactly."""
    detector: str | None = None
    """Face detector, instead of the crop's default; whole if each image is a tight crop of one face."""
    points: Points | None = None
    """Source of the landmarks, instead of the crop's default."""
    size: int | None = None
    """Side of the crop in pixels, instead of the crop's default."""
    faceless: Faceless | None = None
    """Images without a face: resized and kept (keep), moved to a folder (error), or excluded (discard)."""

    def recipe(self) -> Crop:
        """Return the crop with its changes; UnknownName for an unknown crop, or one without a published variant."""
        table, kind = (AUTHORS, "crop of the authors") if self.author else (CROPS, "crop")
        given = {name: getattr(self, name) for name in ("detector", "points", "size", "faceless")}
        return dataclasses.replace(
            lookup(self.crop, table, kind, plugins=False), **{name: value for name, value in given.items() if value is not None}
        )

    def describe(self) -> dict[str, Any]:
        """Return the settings for the manifest."""
        recipe = self.recipe()
        fields = ("says", "size", "detector", "points", "choice", "threshold", "faceless", "gray", "antialias")
        return {"work": "align", "crop": self.crop, "author": self.author, **{name: getattr(recipe, name) for name in fields}}

    def open(self) -> Callable[[np.ndarray], Made]:
        """Load the networks and return the function for one image (H, W, 3)."""
        recipe = self.recipe()
        find = FacePicker(recipe.detector, recipe.points, recipe.choice, recipe.threshold)

        def make(pixels: np.ndarray) -> Made:
            face = find(pixels)
            if face is None:
                return _faceless(pixels, recipe)
            matrix = recipe.matrix(face, recipe.size)
            crop = warp(pixels, matrix, recipe.size, antialias=recipe.antialias)
            facts = {"faces": face.faces, "box": face.box.round(1).tolist(), "matrix": matrix.round(6).tolist()}
            return Made("ok", {recipe.folder: _colored(crop, recipe)}, facts)

        return make


def _faceless(pixels: np.ndarray, recipe: Crop) -> Made:
    if recipe.faceless == "discard":
        return Made("no face", {})
    size = recipe.size
    if recipe.antialias:
        whole = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    else:
        whole = resize_cv2(pixels, size, size)
    return Made("no face", {"error" if recipe.faceless == "error" else recipe.folder: _colored(whole, recipe)})


def _colored(crop: np.ndarray, recipe: Crop) -> np.ndarray:
    return np.asarray(Image.fromarray(crop).convert("L")) if recipe.gray else crop
