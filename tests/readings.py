"""Results made by hand, for tests of what is done with results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mien.types import Box, Face, Result

LABELS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")

SOLVAY = [
    (425, 258, 468, 313), (185, 308, 231, 367), (503, 308, 548, 366), (1369, 264, 1412, 320), (592, 257, 637, 314),
    (1237, 153, 1273, 201), (1114, 158, 1150, 206), (1065, 254, 1108, 310), (1312, 304, 1355, 357), (775, 247, 814, 298),
    (1430, 322, 1472, 376), (306, 119, 343, 168), (137, 262, 177, 311), (1225, 261, 1268, 316), (342, 310, 393, 377),
    (635, 165, 677, 219), (1026, 298, 1072, 357), (869, 296, 916, 356), (895, 157, 931, 202), (678, 308, 728, 374),
    (1141, 296, 1184, 351), (504, 195, 543, 245), (1003, 161, 1044, 214), (278, 274, 318, 327), (916, 244, 955, 294),
    (1382, 155, 1422, 206), (1323, 113, 1358, 156), (767, 188, 805, 236), (422, 154, 458, 202),
]  # fmt: skip
"""Boxes of the 29 faces in the photograph of the Solvay conference of 1927, 1600 × 806 pixels."""


def face(box: Sequence[float], label: str = "happiness", confidence: float = 0.9, **fields: Any) -> Face:
    """A face whose other classes share the rest of the probability."""
    scores = {name: confidence if name == label else (1 - confidence) / (len(LABELS) - 1) for name in LABELS}
    left, top, right, bottom = map(float, box)
    fields = {"certain": confidence >= 0.5} | fields
    return Face(Box(left, top, right, bottom), 0.875, scores, label, confidence, **fields)


def reading(size: tuple[int, int], *faces: Face, source: str = "photo.jpg", **fields: Any) -> Result:
    """The result of an image of this size."""
    return Result(source, *size, faces, "ok" if faces else "no face", "mien-base 1", **fields)


def mesh(box: Sequence[float], seed: int = 0) -> np.ndarray:
    """478 points somewhere in a box."""
    left, top, right, bottom = box
    points = np.random.default_rng(seed).random((478, 3), np.float32)
    return (points * [right - left, bottom - top, 1] + [left, top, 0]).astype(np.float32)
