"""Results of inference: `Result`, `Face`, and the measures of a face.

They hold no pixels, so they compare, pickle and serialize cheaply. `to_dict` gives plain JSON values, `rows` flat rows for
tables; `json_schema` describes the JSON.
"""

import dataclasses
import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np

from .errors import needs

FACE = 468  # points of the face mesh without irises; the points after them are the irises


class View:
    """A subset of landmarks, each a mesh point or the mean of several.

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
        chosen = mesh[..., self.indices, :2]
        if len(self._starts) == len(self.indices):
            return chosen
        return np.add.reduceat(chosen, self._starts, -2) / self.counts.astype(mesh.dtype)


EYES = ((33, 133), (263, 362))
"""Outer and inner corner of the eye on the left and of the eye on the right of the image. The line between the outer corners
gives the in-plane rotation of the face."""

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


SCHEMA_VERSION = "2"

Points = Literal["none", "5", "68", "all"]
Status = Literal["ok", "no face", "unreadable"]
Group = Literal["expression", "pose", "gaze", "units", "blendshapes", "landmarks68", "mesh"]  # a group of columns in tables
GROUPS: tuple[Group, ...] = get_args(Group)
Layer = Literal["pose", "gaze", "mesh"]  # a layer of annotated images
LAYERS: tuple[Layer, ...] = get_args(Layer)
_UNITS = ("action_units", "action_units_estimated")

FOV = 63.0  # default vertical field of view in degrees: that of MediaPipe's virtual camera
CONTACT = 10.0
"""Angle in degrees between the gaze and the direction to the camera up to which the gaze counts as directed at the camera."""


@dataclass(frozen=True, slots=True)
class Box:
    """A bounding box in image pixels; it may reach beyond the image's edges."""

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


@dataclass(frozen=True, slots=True)
class Pose:
    """Head pose in camera coordinates: x to the right of the image, y up, z from the scene towards the camera."""

    pitch: float
    """Degrees; positive: the face looks down."""
    yaw: float
    """Degrees; positive: the face is turned to the right of the image (the person's left)."""
    roll: float
    """Degrees; positive: the head is rotated counterclockwise in the image."""
    x: float
    """Position in cm, to the right of the image center."""
    y: float
    """Position in cm, above the image center."""
    z: float
    """Position in cm; negative: in front of the camera. Distances scale with the field of view."""
    fov: float = FOV
    """Vertical field of view of the camera, in degrees, that was assumed."""

    @property
    def rotation(self) -> np.ndarray:
        """(3, 3) rotation of the canonical face: Rz(roll) · Ry(yaw) · Rx(pitch)."""
        (sx, sy, sz), (cx, cy, cz) = (turn(np.radians([self.pitch, self.yaw, self.roll])) for turn in (np.sin, np.cos))
        return np.array([
            [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
            [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
            [-sy, cy * sx, cy * cx],
        ])  # fmt: skip

    @property
    def matrix(self) -> np.ndarray:
        """(4, 4) rigid transform from the canonical face to the camera, in cm."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.rotation, (self.x, self.y, self.z)
        return matrix

    def project(self, points: np.ndarray, width: int, height: int) -> np.ndarray:
        """Return (…, 2) pixels in a width × height image for points (…, 3) of the canonical face, in cm."""
        camera = points @ self.rotation.T + [self.x, self.y, self.z]
        focal = height / 2 / np.tan(np.radians(self.fov) / 2)
        return camera[..., :2] / -np.minimum(camera[..., 2:], -1e-6) * [focal, -focal] + [width / 2, height / 2]


@dataclass(frozen=True, slots=True)
class EyeGaze:
    """Gaze direction of one eye, in degrees; signs as for `Pose`."""

    yaw: float
    """Relative to the camera axis; positive: to the right of the image."""
    pitch: float
    """Relative to the camera axis; positive: down."""
    head_yaw: float
    """Relative to the head; positive: to the person's left."""
    head_pitch: float
    """Relative to the head; positive: down."""


@dataclass(frozen=True, slots=True)
class Gaze(EyeGaze):
    """Gaze direction of a face, in degrees: the mean of its open eyes."""

    camera_angle: float
    """Angle between the gaze and the direction from the eyes to the camera, 0 … 180."""
    at_camera: bool
    """Whether the gaze is directed at the camera: `camera_angle` is at most `CONTACT`."""
    left: EyeGaze | None
    """The person's left eye; None if it is closed."""
    right: EyeGaze | None
    """The person's right eye; None if it is closed."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face: where it is, its expression and its measures."""

    box: Box
    """Bounding box, brow to chin for the default detector."""
    detection: float
    """Detection score, 0 … 1."""
    scores: Mapping[str, float]
    """Calibrated probability of each expression, summing to one, in the order of the model's card."""
    label: str
    """The most probable expression."""
    confidence: float
    """Its probability."""
    certain: bool
    """False where the model abstains: the confidence is below the threshold of its card, or the quality too low."""
    quality: float | None = None
    """Quality of the face image, 0 … 1: size, sharpness, frontal and upright pose, and whether it surely shows a face. None
    without a mesh."""
    points: np.ndarray | None = field(default=None, repr=False)
    """(P, 3) float32 mesh points: x and y in image pixels, z in the same unit, smaller is nearer. None if not computed."""
    blendshapes: Mapping[str, float] | None = field(default=None, repr=False)
    """52 blendshapes by their ARKit names, 0 … 1; left and right are the person's. None if not computed."""
    valence: float | None = None
    """−1 … 1, if the model has that output."""
    arousal: float | None = None
    """−1 … 1, if the model has that output."""
    action_units: Mapping[str, float] | None = None
    """Probability of each FACS action unit, if the model was trained for them."""
    action_units_estimated: Mapping[str, float] | None = field(default=None, repr=False)
    """Intensity, 0 … 1, of action units estimated from blendshapes and mesh, not FACS-coded: `"AU1"`, or `"AU12"` with
    `"AU12_left"` and `"AU12_right"`, the person's sides. None if not computed, or if the model has `action_units`."""
    pose: Pose | None = None
    """Head pose; None without a mesh."""
    gaze: Gaze | None = None
    """Gaze direction; None with both eyes closed, or without a mesh that has irises."""
    track: int | None = None
    """Number that a face keeps through a video, from 1."""
    unsmoothed: "Face | None" = None
    """In a smoothed video: the values of the frame alone, else None."""

    @property
    def points68(self) -> np.ndarray | None:
        """(68, 2) landmarks in the iBUG order, or None."""
        return None if self.points is None else points68(self.points)

    @property
    def points5(self) -> np.ndarray | None:
        """(5, 2) eye centers (image left first), nose tip, mouth corners (image left first), or None."""
        return None if self.points is None else points5(self.points)

    def to_dict(self, points: Points = "5", groups: Sequence[Group] = GROUPS) -> dict[str, Any]:
        """Return plain JSON values.

        Args:
            points: how many landmarks are listed.
            groups: measures to include; the others are None. The expression is always included.
        """
        chosen = {"none": None, "5": self.points5, "68": self.points68, "all": self.points}[points]
        omitted = [*_UNITS] * ("units" not in groups) + [name for name in ("pose", "gaze", "blendshapes") if name not in groups]
        values: dict[str, Any] = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        values |= dict.fromkeys(omitted)
        values = {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}
        for name in ("box", "pose", "gaze"):
            values[name] = values[name] and dataclasses.asdict(values[name])
        return values | {
            "points": None if chosen is None else np.round(chosen.astype(float), 2).tolist(),
            "unsmoothed": None if self.unsmoothed is None else self.unsmoothed.to_dict(points, groups),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the face that `to_dict` described; points only if it listed them all."""
        points, unsmoothed, pose, gaze = (values[name] for name in ("points", "unsmoothed", "pose", "gaze"))
        whole = points is not None and len(points) > 68
        if gaze is not None:
            eyes: dict[str, Any] = {side: gaze[side] and EyeGaze(**gaze[side]) for side in ("left", "right")}
            gaze = Gaze(**{**gaze, **eyes})
        fields: dict[str, Any] = {
            **values,
            "box": Box(**values["box"]),
            "points": np.array(points, np.float32) if whole else None,
            "pose": None if pose is None else Pose(**pose),
            "gaze": gaze,
            "unsmoothed": None if unsmoothed is None else cls.from_dict(unsmoothed),
        }
        return cls(**fields)

    def row(self, groups: Sequence[Group] = GROUPS) -> dict[str, Any]:
        """Return one flat row, column → value, of the groups that this face has."""
        row: dict[str, Any] = {"track": self.track, **dataclasses.asdict(self.box), "detection": self.detection}
        row["quality"] = self.quality
        if "expression" in groups:
            row |= {name: getattr(self, name) for name in ("label", "confidence", "certain", "valence", "arousal")}
            row |= {f"score_{label}": score for label, score in self.scores.items()}
            if self.unsmoothed is not None:
                row |= {f"unsmoothed_{label}": score for label, score in self.unsmoothed.scores.items()}
        if "pose" in groups and self.pose is not None:
            row |= {f"pose_{name}": getattr(self.pose, name) for name in ("pitch", "yaw", "roll", "x", "y", "z")}
        if "gaze" in groups and self.gaze is not None:
            values: dict[str, Any] = dataclasses.asdict(self.gaze)
            for side in ("left", "right"):
                values |= {f"{side}_{name}": value for name, value in (values.pop(side) or {}).items()}
            row |= {f"gaze_{name}": value for name, value in values.items()}
        if "units" in groups:
            row |= {f"unit_{name}": value for name, value in (self.action_units or {}).items()}
            row |= {f"estimated_{name}": value for name, value in (self.action_units_estimated or {}).items()}
        if "blendshapes" in groups:
            row |= {f"blendshape_{name}": value for name, value in (self.blendshapes or {}).items()}
        for group, prefix, points in (("landmarks68", "", self.points68), ("mesh", "mesh_", self.points)):
            if group in groups and points is not None:
                for axis, column in zip("xyz", np.round(points.T.astype(float), 2).tolist(), strict=False):
                    row |= {f"{prefix}{axis}_{i}": value for i, value in enumerate(column)}
        return row

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Face) and self.to_dict("all") == other.to_dict("all")

    __hash__ = None  # pyrefly: ignore


@dataclass(frozen=True, slots=True)
class Result:
    """Result for one image, or for one frame of a video."""

    source: str
    """Path or URL; a placeholder such as `<array>` for data in memory."""
    width: int
    """Width of the image in pixels, after its EXIF rotation; 0 if it could not be read."""
    height: int
    """Height likewise."""
    faces: tuple[Face, ...]
    """The faces, best detection first."""
    status: Status
    """`"ok"`, `"no face"`, or `"unreadable"` (then `message` gives the reason)."""
    model: str
    """Name and version of the model card."""
    time: float | None = None
    """Seconds from the start of a video; None for an image."""
    message: str | None = None
    """Why the image could not be read."""
    notes: tuple[str, ...] = ()
    """Warnings: `"first of 12 frames"`."""
    frame: int | None = None
    """Number of the frame in a video, from 0 at the start time; None for an image."""
    schema_version: str = SCHEMA_VERSION
    """Version of this layout."""

    def to_dict(self, points: Points = "5", groups: Sequence[Group] = GROUPS) -> dict[str, Any]:
        """Return plain JSON values; the arguments are those of `Face.to_dict`."""
        order = ("schema_version", "source", "width", "height", "frame", "time", "status", "message")
        values = {name: getattr(self, name) for name in order}
        faces = [face.to_dict(points, groups) for face in self.faces]
        return {**values, "notes": list(self.notes), "model": self.model, "faces": faces}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the result that `to_dict` described; faces have points only if it listed them all."""
        faces = tuple(Face.from_dict(face) for face in values["faces"])
        fields: dict[str, Any] = {**values, "faces": faces, "notes": tuple(values["notes"])}
        return cls(**fields)

    def rows(self, groups: Sequence[Group] = GROUPS) -> list[dict[str, Any]]:
        """Return flat rows, column → value: one per face, or one without a face; see `Face.row`."""
        head = {name: getattr(self, name) for name in ("source", "status", "width", "height", "frame", "time")}
        tail = {"model": self.model, "message": self.message, "notes": "; ".join(self.notes) or None}
        rows = [{**head, "face": number, **face.row(groups), **tail} for number, face in enumerate(self.faces, 1)]
        return rows or [{**head, "face": None, **tail}]

    def to_frame(self, groups: Sequence[Group] = GROUPS) -> Any:
        """Return a `pandas.DataFrame`; see `to_frame`."""
        return to_frame([self], groups)

    def plot(self, image: Any = None, **options: Any) -> Any:
        """Return the annotated image (PIL), for notebooks.

        Args:
            image: the image; by default it is read again from `source`.
            options: as for `mien.draw`; by default the axes of the pose and the rays of the gaze are drawn too.

        Raises:
            SourceError: the image was given in memory and is not given now, or can no longer be read.
        """
        return _notebook().plot(self, image, **options)

    def _repr_html_(self) -> str:
        """Return the annotated image, where it can be read again, and a table of the faces."""
        return _notebook().html(self)


def to_frame(results: Result | Iterable[Result], groups: Sequence[Group] = GROUPS) -> Any:
    """Return a tidy `pandas.DataFrame`: one row per face, and one for each image without a face.

    Args:
        results: as `Recognizer`, `Recognizer.many` or `Recognizer.stream` give them; of the last, also with their frames.
        groups: groups of columns; those that no face has are missing.

    Raises:
        MissingExtra: pandas is not installed.

    Example:
        >>> import mien
        >>> frame = mien.to_frame(mien.load()(mien.sample()), ["expression", "pose"])
        >>> frame.loc[0, "label"]
        'happiness'
    """
    with needs("tables", "pandas"):
        import pandas
    given = [results] if isinstance(results, Result) else results
    # Frames of a stream come as pairs of frame and result.
    rows = [row for each in given for row in (each[1] if isinstance(each, tuple) else each).rows(groups)]
    return pandas.DataFrame(rows)


def _notebook() -> Any:
    """Return the module that draws for notebooks. Drawing builds on the types, so they find it by name when it is needed."""
    return importlib.import_module(f"{__package__}.visualization.faces")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of `Result.to_dict`, which `tools/generate.py` derives from these classes."""
    return json.loads((Path(__file__).parent / "assets/schemas/result.json").read_text(encoding="utf-8"))
