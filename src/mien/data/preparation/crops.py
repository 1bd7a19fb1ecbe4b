"""Aligned faces with the crop geometries of published networks, and regions of faces (eyes, nose and mouth) for Global-ROI Net.

Each crop has two variants: ours, and the published routine if there is one. Regions give `align`, `roi/eye`, `roi/nose` and
`roi/mouth` for an image, or, where a face or a region is missing, `error`: all of it or nothing.

Differences of ours from the published routines:
* the face is the largest one, or in aligned images the most central one, found by BlazeFace or RetinaFace, not the first or the
  last detection;
* `arcface112` is fitted from image to crop and never reflected (MFER fits the other way, and mirrors strong left profiles);
* `ddamfn5` uses landmarks as they are, not cut to whole pixels;
* an image without a face is resized, marked and kept in the denominator (MFER discards it);
* shrinking averages pixels instead of skipping them;
* boxes of regions are clamped to the image, and a region with a side below four pixels counts as missing (the authors' slices
  wrap); an image that fails leaves no eye or nose file behind.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...errors import ConfigError
from ...faces.alignment import TEMPLATES, apply, crop_matrix, dlib_chip_matrix, reverse_similarity, warp
from ...faces.finder import FoundFace, open_finder
from ...faces.preprocessing import resize_cv2
from ...faces.regions import SIDE, Box, global_roi_boxes, inside, resized
from ...metrics.boxes import area, centers
from ...registry import lookup
from ...types import points5, points68
from .runner import Made

Choice = Literal["largest", "central", "first", "last"]
"""Which of several faces is prepared: that with the largest box, the one nearest to the center of the image, or that with the
best or worst score, which remains if every face is written to the same file."""


Points = Literal["mesh", "detector"]  # source of the five landmarks: the face mesh or the detector


@dataclass(frozen=True, slots=True, eq=False)
class PreparedFace:
    """A face and its landmarks, in pixels of the image."""

    box: np.ndarray
    """(4,) left, top, right, bottom."""
    points5: np.ndarray
    """(5, 2) eye centers, nose tip, mouth corners, image left first."""
    points68: np.ndarray | None
    """(68, 2) in dlib's order; None where the landmarks are the detector's."""
    faces: int
    """Number of faces found in the image."""


class FacePicker:
    """Picks the face of an image that is prepared.

    `detector` is a name in `mien.faces.detection.DETECTORS`; `"whole"` where each image is a tight crop of one face. Points of
    the `"detector"` need one with five keypoints (retinaface, mtcnn, mtcnn-evolve): ConfigError of the call without them.
    """

    def __init__(
        self, detector: str = "blazeface", points: Points = "mesh", choice: Choice = "largest", threshold: float | None = None
    ) -> None:
        self.detector, self.points, self.choice = detector, points, choice
        self.find = open_finder(detector, mesh="mesh478" if points == "mesh" else None, threshold=threshold)

    def __call__(self, pixels: np.ndarray) -> PreparedFace | None:
        """Return the face of an image (H, W, 3) uint8 RGB, or None without a face."""
        faces = [face for face in self.find([pixels])[0] if self.points == "detector" or face.mesh is not None]
        if not faces:
            return None
        middle = np.array(pixels.shape[1::-1]) / 2
        merits: dict[Choice, Callable[[FoundFace], float]] = {
            "largest": lambda face: float(area(face.box)),
            "central": lambda face: -float(np.linalg.norm(centers(face.box) - middle)),
            "first": lambda face: face.score,
            "last": lambda face: -face.score,
        }
        face = max(faces, key=merits[self.choice])
        if face.mesh is not None:
            points = face.mesh.astype(np.float64)
            return PreparedFace(face.box, points5(points), points68(points), len(faces))
        if face.keypoints is None or len(face.keypoints) != 5:
            raise ConfigError(f"{self.detector} has no five keypoints; use points='mesh'", value=self.detector)
        return PreparedFace(face.box, face.keypoints.astype(np.float64), None, len(faces))


Faceless = Literal["keep", "error", "discard"]

Matrix = Callable[[PreparedFace, int], np.ndarray]  # face and side of the crop → (2, 3) from image to crop


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


def _dlib_chip(face: PreparedFace, size: int) -> np.ndarray:
    assert face.points68 is not None
    return dlib_chip_matrix(face.points68, size, padding=0.25)  # dlib's default


def _on_template(name: str) -> Matrix:
    return lambda face, size: crop_matrix(face.points5, TEMPLATES[name], size)


CROPS: Mapping[str, Crop] = {
    "arcface112": Crop("five points on ArcFace's template, as face.evoLVe has it", 112, _on_template("arcface112")),
    "ddamfn5": Crop(
        "five points on the nearest of DDAMFN++'s five poses", 112, _on_template("ddamfn5"), "retinaface", "detector"
    ),
    "dlib-chip": Crop("dlib's face chip, as Global-ROI Net has it", 224, _dlib_chip, faceless="error", folder="align"),
    "fer2013-like": Crop("a gray face where FER2013's faces are", 48, _on_template("fer2013"), gray=True),
}
"""Our variants."""

AUTHORS: Mapping[str, Crop] = {
    "arcface112": Crop(
        "MFER's alignment as published (face.evoLVe)", 112,
        # The fit from the template to the image mirrors strong left profiles by mistake.
        lambda face, size: reverse_similarity(face.points5, TEMPLATES["arcface112"].poses[0] * (size / 112), "published"),
        "mtcnn-evolve", "detector", "first", faceless="discard", antialias=False,
    ),
    "ddamfn5": Crop(
        "DDAMFN++'s alignment as published", 112,
        lambda face, size: crop_matrix(np.trunc(face.points5), TEMPLATES["ddamfn5"], size),  # landmarks cut to whole pixels
        "retinaface", "detector", "first", threshold=0.6, antialias=False,
    ),
    "dlib-chip": Crop(
        "Global-ROI Net's alignment as published: the last face that was found wins", 224, _dlib_chip,
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
            if face is None and recipe.faceless == "discard":
                return Made("no face", {})
            if face is None:
                side = (recipe.size, recipe.size)
                whole = Image.fromarray(pixels).resize(side, Image.Resampling.BILINEAR)
                image = np.asarray(whole) if recipe.antialias else resize_cv2(pixels, *side)
                return Made("no face", {"error" if recipe.faceless == "error" else recipe.folder: _colored(image, recipe)})
            matrix = recipe.matrix(face, recipe.size)
            crop = warp(pixels, matrix, recipe.size, antialias=recipe.antialias)
            facts = {"faces": face.faces, "box": face.box.round(1).tolist(), "matrix": matrix.round(6).tolist()}
            return Made("ok", {recipe.folder: _colored(crop, recipe)}, facts)

        return make


def _colored(crop: np.ndarray, recipe: Crop) -> np.ndarray:
    return np.asarray(Image.fromarray(crop).convert("L")) if recipe.gray else crop


@dataclass(frozen=True, slots=True)
class Regions:
    """A `Work` that cuts regions of the face."""

    aligned: bool = False
    """The images are aligned faces; they are resized to 224 × 224."""
    author: bool = False
    """Reproduce the published routine exactly: the last face, unclamped boxes, eye and nose files of failed images remain."""
    detector: str = "blazeface"
    """Face detector; whole if each image is a tight crop of one face."""

    def describe(self) -> dict[str, Any]:
        """Return the settings for the manifest."""
        return {"work": "regions", "aligned": self.aligned, "author": self.author, "detector": self.detector, "side": SIDE}

    def open(self) -> Callable[[np.ndarray], Made]:
        """Load the networks and return the function for one image (H, W, 3)."""
        choice = "last" if self.author else "central" if self.aligned else "largest"
        find = FacePicker(self.detector, choice=choice)

        def make(pixels: np.ndarray) -> Made:
            image = resized(pixels, SIDE) if self.aligned else pixels
            face = find(image)
            if face is None or face.points68 is None:
                return Made("no face", {"error": resized(pixels, SIDE)})
            chip, points = image, face.points68
            if not self.aligned:
                matrix = dlib_chip_matrix(points, SIDE)
                chip, points = warp(image, matrix, SIDE, antialias=not self.author), apply(matrix, points)
            boxes = global_roi_boxes(points)
            facts = {"faces": face.faces, "boxes": {name: list(box) for name, box in boxes.items()}}
            return _published(chip, boxes, facts) if self.author else _clamped(chip, boxes, facts)

        return make


def _clamped(chip: np.ndarray, boxes: dict[str, Box], facts: dict[str, Any]) -> Made:
    kept = inside(boxes)
    if kept is None:
        return Made("no region", {"error": chip}, facts)
    crops = {f"roi/{name}": chip[y0:y1, x0:x1] for name, (x0, y0, x1, y1) in kept.items()}
    return Made("ok", {"align": chip, **crops}, facts)


def _published(chip: np.ndarray, boxes: dict[str, Box], facts: dict[str, Any]) -> Made:
    """Crop with Python slices as the authors do, in the order eye, nose, mouth, until the first empty one."""
    made: dict[str, np.ndarray] = {}
    for name, (x0, y0, x1, y1) in boxes.items():
        crop = chip[y0:y1, x0:x1]
        if not crop.size:
            return Made("no region", {"error": chip, **made}, facts)
        made[f"roi/{name}"] = crop
    return Made("ok", {"align": chip, **made}, facts)


GAP = 4
LINE = 14  # height of a caption in pixels


def contact_sheet(images: Iterable[tuple[str, np.ndarray]], side: int = 112, columns: int = 10) -> Image.Image:
    """Lay out captions and images, (H, W) or (H, W, 3) uint8, in rows of squares of `side` pixels, as one RGB image."""
    cells = list(images)
    rows = max(-(-len(cells) // columns), 1)
    width, height = side + GAP, side + LINE + GAP
    sheet = Image.new("RGB", (columns * width + GAP, rows * height + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=10)
    for index, (caption, pixels) in enumerate(cells):
        x, y = GAP + index % columns * width, GAP + index // columns * height
        image = Image.fromarray(pixels).convert("RGB")
        scale = side / max(image.size)
        size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
        image = image.resize(size, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC)
        sheet.paste(image, (x + (side - size[0]) // 2, y + (side - size[1]) // 2))
        text = caption
        while text and pen.textlength(text, font) > side:
            text = text[1:]
        pen.text((x, y + side + 1), text, "black", font)
    return sheet
