"""What a reading gives back: `Box`, `Face` and `Result`.

They hold no pixels, so they compare, pickle and serialize cheaply. `to_dict` gives plain JSON values;
`schemas/result.json`, generated from these classes by `json_schema`, describes them.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

FACE = 468
"""Points of the mesh without irises; in the larger mesh the rest are the irises."""


class View:
    """A smaller set of points, each a mesh point or the mean of several.

    Example:
        >>> nose_and_mouth = View(4, (61, 291))
        >>> nose_and_mouth(np.zeros((3, 478, 3))).shape
        (3, 2, 2)
    """

    def __init__(self, *groups: int | tuple[int, ...]) -> None:
        lists = [(group,) if isinstance(group, int) else group for group in groups]
        self.counts = np.array([len(group) for group in lists], np.float32)[:, None]
        self.indices = np.concatenate([np.array(group, np.intp) for group in lists])
        self._starts = np.cumsum([0, *(len(group) for group in lists[:-1])])

    def __call__(self, mesh: np.ndarray) -> np.ndarray:
        """Return (…, K, 2) x and y for a mesh of (…, P, 2 or 3)."""
        return np.add.reduceat(mesh[..., self.indices, :2], self._starts, -2) / self.counts.astype(mesh.dtype)


EYES = ((33, 133), (263, 362))
"""Outer and inner corner of the left and the right eye. The outer ones say how far a face is turned in the image."""
SIDES = (234, 454, 10, 152)
"""Left and right edge of the face, top of the forehead, chin: the lines between them give the head's turn in depth."""

points5 = View((33, 133, 159, 145), (263, 362, 386, 374), 4, 61, 291)
"""Left eye, right eye (each the mean of two corners and two lids), nose tip, left and right corner of the mouth."""

# fmt: off
points68 = View(
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # jaw
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lip
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lip
)
"""The 68 points of the iBUG scheme in dlib's order."""

blendshape_points = View(
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80, 81, 82, 84,
    87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159,
    160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283,
    284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361,
    362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415,
    454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)
"""The 146 points that the blendshapes are computed from, in their network's order."""
# fmt: on

irises = View(468, 469, 470, 471, 472, 473, 474, 475, 476, 477)
"""Center of the left iris and four points on its rim, then the right one's; only the 478-point mesh has them."""


SCHEMA_VERSION = "1"

Points = Literal["none", "5", "68", "all"]
Status = Literal["ok", "no face", "unreadable"]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in image pixels; it may reach beyond the image's edges."""

    left: float
    """x of the left edge."""
    top: float
    """y of the upper edge."""
    right: float
    """x of the right edge."""
    bottom: float
    """y of the lower edge."""

    @property
    def width(self) -> float:
        """Width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Height in pixels."""
        return self.bottom - self.top

    def __str__(self) -> str:
        return f"{self.left:.0f},{self.top:.0f} {self.width:.0f}×{self.height:.0f}"


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face and what is read in it."""

    box: Box
    """Where the face is, brow to chin for the default detector."""
    detection: float
    """Score of the detector, 0 … 1."""
    scores: Mapping[str, float]
    """Calibrated probability of each expression, summing to one, in the order of the model's card."""
    label: str
    """The most probable expression."""
    confidence: float
    """Its probability."""
    certain: bool
    """False where the model abstains: the confidence is below the threshold of its card."""
    points: np.ndarray | None = field(default=None, repr=False)
    """(P, 3) float32 mesh points: x and y in image pixels, z in the same unit, smaller is nearer. None if not computed."""
    blendshapes: Mapping[str, float] | None = field(default=None, repr=False)
    """52 blendshapes (blendshapes), 0 … 1; left and right are the person's. None if not computed."""
    valence: float | None = None
    """−1 … 1, where the model has that output."""
    arousal: float | None = None
    """−1 … 1, where the model has that output."""
    action_units: Mapping[str, float] | None = None
    """Probability of each facial action unit, where the model has that output."""
    track: int | None = None
    """Number that a face keeps through a video, from 1."""
    unsmoothed: Face | None = None
    """In a video that is smoothed: the face as this frame alone gave it, else None."""

    @property
    def points68(self) -> np.ndarray | None:
        """(68, 2) the mesh in the usual 68-point order, or None."""
        return None if self.points is None else points68(self.points)

    @property
    def points5(self) -> np.ndarray | None:
        """(5, 2) eye centers (image left first), nose tip, mouth corners (image left first), or None."""
        return None if self.points is None else points5(self.points)

    def to_dict(self, points: Points = "5") -> dict[str, Any]:
        """Return plain JSON values; `points` chooses how many of the mesh points are listed."""
        chosen = {"none": None, "5": self.points5, "68": self.points68, "all": self.points}[points]
        return {
            "box": dataclasses.asdict(self.box),
            "detection": self.detection,
            "scores": dict(self.scores),
            "label": self.label,
            "confidence": self.confidence,
            "certain": self.certain,
            "points": None if chosen is None else np.round(chosen.astype(float), 2).tolist(),
            "blendshapes": None if self.blendshapes is None else dict(self.blendshapes),
            "valence": self.valence,
            "arousal": self.arousal,
            "action_units": None if self.action_units is None else dict(self.action_units),
            "track": self.track,
            "unsmoothed": None if self.unsmoothed is None else self.unsmoothed.to_dict(points),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Face:
        """Return the face that `to_dict` described; points only if it listed them all."""
        points, unsmoothed = values["points"], values["unsmoothed"]
        whole = points is not None and len(points) > 68
        fields: dict[str, Any] = {
            **values,
            "box": Box(**values["box"]),
            "points": np.array(points, np.float32) if whole else None,
            "unsmoothed": None if unsmoothed is None else cls.from_dict(unsmoothed),
        }
        return cls(**fields)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Face) and self.to_dict("all") == other.to_dict("all")

    __hash__ = None  # pyrefly: ignore


@dataclass(frozen=True, slots=True)
class Result:
    """What one image, or one frame of a video, gave."""

    source: str
    """Path, URL or a name for what was given in memory."""
    width: int
    """Width of the image in pixels, after its EXIF rotation; 0 if it could not be read."""
    height: int
    """Height likewise."""
    faces: tuple[Face, ...]
    """The faces, best detection first."""
    status: Status
    """`"ok"`, `"no face"`, or `"unreadable"` (then `message` says why)."""
    model: str
    """Name and version of the model card that gave the scores."""
    time: float | None = None
    """Seconds from the start of a video; None for an image."""
    message: str | None = None
    """Why the image could not be read."""
    notes: tuple[str, ...] = ()
    """What a careful reader should know: `"first of 12 frames"`."""
    schema_version: str = SCHEMA_VERSION
    """Version of this layout."""

    def to_dict(self, points: Points = "5") -> dict[str, Any]:
        """Return plain JSON values; `points` chooses how many mesh points each face lists."""
        return {
            "schema_version": self.schema_version,
            "source": self.source,
            "width": self.width,
            "height": self.height,
            "time": self.time,
            "status": self.status,
            "message": self.message,
            "notes": list(self.notes),
            "model": self.model,
            "faces": [face.to_dict(points) for face in self.faces],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Result:
        """Return the result that `to_dict` described; faces have points only if it listed them all."""
        faces = tuple(Face.from_dict(face) for face in values["faces"])
        fields: dict[str, Any] = {**values, "faces": faces, "notes": tuple(values["notes"])}
        return cls(**fields)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of `Result.to_dict`, derived from the classes of this module."""
    definitions = {kind.__name__: _object(kind) for kind in (Box, Face)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Result",
        "description": Result.__doc__,
        **_object(Result),
        "$defs": definitions,
    }


def _object(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    properties = {f.name: _schema(hints[f.name]) for f in dataclasses.fields(kind)}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _schema(hint: Any) -> dict[str, Any]:
    plain = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    if hint in plain:
        return {"type": plain[hint]}
    if hint is np.ndarray:
        return {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 3}}
    if dataclasses.is_dataclass(hint):
        return {"$ref": f"#/$defs/{hint.__name__}"}
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _schema(args[0])}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(arg) for arg in args]}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(args[1])}
    raise TypeError(f"no JSON Schema for {hint!r}")  # pragma: no cover - for whoever adds a field of a new type
