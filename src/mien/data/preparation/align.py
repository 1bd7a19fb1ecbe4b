"""Aligned faces in the geometry that published networks were trained on.

Each crop comes in two forms: ours, and, where there is a published routine, the authors' with its oddities.

Differences from the published routines, in our form:
* the face is the largest one, found by BlazeFace or RetinaFace, not the first or the last detection;
* `arcface112` is fitted from image to crop and never reflected (MFER fits the other way, and mirrors strong left profiles);
* `ddamfn5` uses landmarks as they are, not cut to whole pixels;
* an image without a face is kept, resized, and marked, so that it stays in the denominator (MFER discards it);
* shrinking averages pixels instead of skipping them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from ...faces.alignment import TEMPLATES, crop_matrix, dlib_chip_matrix, reverse_similarity, warp
from ...faces.preprocessing import resize_cv2
from ...registry import lookup
from .faces import FacePicker, Points, PreparedFace
from .runner import Made

Faceless = Literal["keep", "error", "discard"]

Matrix = Callable[[PreparedFace, int], np.ndarray]
"""Face and side of the crop → (2, 3) from image to crop."""


def on_template(name: str) -> Matrix:
    """Return what lays the five points on a template of `mien.faces.alignment`."""
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
    """How a crop is made."""

    says: str
    """What it is."""
    size: int
    """Side in pixels."""
    matrix: Matrix
    """Where the face goes."""
    detector: str = "blazeface"
    """What finds faces."""
    points: Points = "mesh"
    """What finds their points."""
    choice: str = "largest"
    """Which face is meant."""
    threshold: float | None = None
    """Score from which something is a face."""
    faceless: Faceless = "keep"
    """What becomes of an image without a face: resized and kept, resized and put into `error`, or left out."""
    folder: str = ""
    """Folder of the crops inside the folder of the split."""
    gray: bool = False
    """Whether the crop is gray."""
    antialias: bool = True
    """Whether shrinking averages pixels."""


CROPS: Mapping[str, Crop] = {
    "arcface112": Crop("five points on ArcFace's template, as face.evoLVe has it", 112, on_template("arcface112")),
    "ddamfn5": Crop(
        "five points on the nearest of DDAMFN++'s five poses",
        112,
        on_template("ddamfn5"),
        detector="retinaface",
        points="detector",
    ),
    "dlib-chip": Crop("dlib's face chip, as Global-ROI Net has it", 224, dlib_chip, faceless="error", folder="align"),
    "fer2013-like": Crop("a gray face where FER2013's faces are", 48, on_template("fer2013"), gray=True),
}
"""Our form of each crop."""

AUTHORS: Mapping[str, Crop] = {
    "arcface112": Crop(
        "MFER's alignment as published (face.evoLVe)",
        112,
        published_arcface,
        detector="mtcnn-evolve",
        points="detector",
        choice="first",
        faceless="discard",
        antialias=False,
    ),
    "ddamfn5": Crop(
        "DDAMFN++'s alignment as published",
        112,
        published_ddamfn,
        detector="retinaface",
        points="detector",
        choice="first",
        threshold=0.6,
        antialias=False,
    ),
    "dlib-chip": Crop(
        "Global-ROI Net's alignment as published: the last face that was found wins",
        224,
        dlib_chip,
        choice="last",
        faceless="error",
        folder="align",
        antialias=False,
    ),
}
"""The authors' form, where there is one."""


@dataclass(frozen=True, slots=True)
class Align:
    """A `Work` that cuts aligned faces."""

    crop: str
    """Key of `CROPS`."""
    author: bool = False
    """The authors' form."""
    detector: str | None = None
    """Instead of the crop's own detector."""
    points: Points | None = None
    """Instead of the crop's own points."""
    size: int | None = None
    """Instead of the crop's own side."""
    faceless: Faceless | None = None
    """Instead of what the crop does with images without a face."""

    def recipe(self) -> Crop:
        """Return the crop with its changes.

        Raises:
            UnknownName: there is no such crop, or it has no authors' form.
        """
        plain: Crop = lookup(
            self.crop, AUTHORS if self.author else CROPS, "crop of the authors" if self.author else "crop", plugins=False
        )
        changes = {
            name: value for name in ("detector", "points", "size", "faceless") if (value := getattr(self, name)) is not None
        }
        return dataclasses.replace(plain, **changes)

    def describe(self) -> dict[str, Any]:
        """Return the settings for the manifest."""
        recipe = self.recipe()
        told = ("says", "size", "detector", "points", "choice", "threshold", "faceless", "gray", "antialias")
        return {"work": "align", "crop": self.crop, "author": self.author, **{name: getattr(recipe, name) for name in told}}

    def open(self) -> Callable[[np.ndarray], Made]:
        """Load the networks and return the function that prepares one image (H, W, 3)."""
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
    if recipe.antialias:
        whole = np.asarray(Image.fromarray(pixels).resize((recipe.size, recipe.size), Image.Resampling.BILINEAR))
    else:
        whole = resize_cv2(pixels, recipe.size, recipe.size)
    folder = "error" if recipe.faceless == "error" else recipe.folder
    return Made("no face", {folder: _colored(whole, recipe)})


def _colored(crop: np.ndarray, recipe: Crop) -> np.ndarray:
    return np.asarray(Image.fromarray(crop).convert("L")) if recipe.gray else crop
