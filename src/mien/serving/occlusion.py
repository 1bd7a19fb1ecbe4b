"""Which parts of a face its reading rests on, by covering them one after the other (Zeiler and Fergus 2014); no torch.

What is covered is blurred beyond recognition rather than painted over: a grey patch has edges of its own, which networks read.
The importance of a part is the share of the probability that goes with it; below zero, the reading is surer without it.

Once `mien.explaining` offers the same it belongs there, and this file goes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from ..alignment import TEMPLATES, apply, crop_matrix, invert
from ..errors import SourceError
from ..images import Picture
from ..recognizer import Recognizer
from ..topology import points5, points68

CELLS = 12
"""Cells of the map along each side."""
REACH = 2.0
"""A window covers so many cells to each side of a cell's centre."""

PARTS = {
    "brows": [*range(17, 27)],
    "eyes": [*range(36, 48)],
    "nose": [*range(27, 36)],
    "mouth": [*range(48, 68)],
}
"""Part → its points among the 68."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a reading rests on."""

    label: str
    """The expression that is explained."""
    probability: float
    """Its probability with nothing covered."""
    parts: dict[str, float]
    """Part of the face → importance, at most 1; `rest` is all that belongs to no part."""
    values: np.ndarray
    """(CELLS, CELLS) importance of each place of the crop that the network saw."""
    corners: np.ndarray
    """(3, 2) upper left, upper right and lower left corner of that crop in picture pixels."""


def explain(reader: Recognizer, picture: Picture, face: int, label: str | None = None) -> Explanation:
    """Explain the reading of one face.

    Args:
        reader: reads it; its model has a crop contract.
        picture: where the face is.
        face: its place among the faces that `reader` finds, from 0.
        label: the expression to explain; by default the most probable one.

    Raises:
        SourceError: there is no such face.
        ValueError: the model has no such class.
    """
    faces = reader(picture).faces
    if face >= len(faces):
        raise SourceError(f"there is no face {face}: {len(faces)} were found, counted from 0")
    found, prepare = faces[face], reader.preprocess
    if found.points is None or prepare.crop is None:
        raise ValueError("the reader gives no points or cuts no faces")
    label = label or found.label
    index = reader.card.labels.index(label)
    side = prepare.size[0]
    matrix = crop_matrix(
        points5(found.points), TEMPLATES[prepare.crop.template], side, fit=prepare.crop.fit, margin=prepare.crop.margin
    )
    crop = prepare.face(picture.pixels, points5(found.points))
    masks, names = _windows(side), list(PARTS)
    parts = _parts(apply(matrix, points68(found.points)), side)
    covered = np.concatenate([np.zeros((1, side, side)), masks, parts]).astype(np.float32)[..., None]
    crops = crop * (1 - covered) + _blurred(crop) * covered
    scores = reader.runtime(prepare.tensor(np.rint(crops).astype(np.uint8)))[reader.card.outputs["scores"]][:, index]
    loss = 1 - scores[1:] / max(float(scores[0]), 1e-6)
    weight = masks.reshape(len(masks), -1)
    dense = (loss[: len(masks), None] * weight).sum(0) / np.maximum(weight.sum(0), 1e-6)
    values = np.asarray(
        Image.fromarray(dense.reshape(side, side).astype(np.float32)).resize((CELLS, CELLS), Image.Resampling.BOX)
    )
    importances = dict(zip([*names, "rest"], loss[len(masks) :].tolist(), strict=True))
    corners = apply(invert(matrix), np.array([[0, 0], [side, 0], [0, side]], np.float64) - 0.5)
    return Explanation(label, float(scores[0]), importances, values, corners)


def _windows(side: int) -> np.ndarray:
    """(CELLS², side, side) masks, 1 inside a window around each cell and falling to 0 at its border."""
    pixels = (np.arange(side) + 0.5) / side * CELLS
    centres = np.arange(CELLS) + 0.5
    line = np.clip((REACH + 0.5 - np.abs(pixels - centres[:, None])), 0, 1)
    return (line[:, None, :, None] * line[None, :, None, :]).reshape(-1, side, side)


def _parts(points: np.ndarray, side: int) -> np.ndarray:
    """(5, side, side) masks of the parts and of the rest."""
    rows, columns = np.mgrid[:side, :side]
    margin, masks = side / 24, []
    for indices in PARTS.values():
        low, high = points[indices].min(0) - margin, points[indices].max(0) + margin
        masks.append((columns >= low[0]) & (columns <= high[0]) & (rows >= low[1]) & (rows <= high[1]))
    return np.stack([*masks, ~np.any(masks, 0)]).astype(np.float64)


def _blurred(crop: np.ndarray) -> np.ndarray:
    channels = [Image.fromarray(crop[..., i]).filter(ImageFilter.GaussianBlur(len(crop) / 5)) for i in range(crop.shape[2])]
    return np.stack([np.asarray(channel) for channel in channels], -1)
