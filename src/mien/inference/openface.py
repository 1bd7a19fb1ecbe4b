"""Tables in the format of OpenFace 2: its columns, units, signs and order, for the groups that exist here.

One file per image or video, as OpenFace writes them; separator comma and blank, readers use `skipinitialspace`. Missing groups
and action units are omitted, not zero: the 3D landmarks, the eye landmarks, and the units in
`mien.faces.action_units.UNSUPPORTED`.

    pose_T*        mm; x to the right, y down, z away from the camera
    pose_R*        radians; pitch positive down, yaw positive to the left of the image, roll positive clockwise (R = Rx·Ry·Rz)
    gaze_0, _1     unit vectors of the eye on the left and on the right of the image, in the axes of pose_T; NaN if closed
    gaze_angle_*   radians; x positive to the right of the image, y positive down
    AU*_r          0 … 5: five times the estimated intensity, blendshape-derived, not FACS-coded
    AU*_c          0 or 1: an intensity, or the probability of a trained output, of at least `PRESENT`

Source: OpenFace 2.2, lib/local/Utilities/src/RecorderCSV.cpp.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..errors import ConfigError
from ..faces.action_units import UNITS
from ..labels import ACTION_UNITS
from ..types import EyeGaze, Face, Group, Pose, Result
from .results import TextFile

GROUPS: tuple[Group, ...] = ("pose", "gaze", "landmarks68", "units")
INTENSITIES = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
"""Action units with an intensity in OpenFace, in its order."""
PRESENCES = (*INTENSITIES[:-1], 28, 45)  # action units with a presence
PRESENT = 0.5  # intensity or probability from which a unit counts as present
FLIP = np.array([1.0, -1.0, -1.0])  # from our camera axes (y up, z towards the camera) to OpenFace's (y down, z away)


class OpenFaceFiles:
    """Writes one table per source: into one file if there is one source, else into a folder.

    Example:
        >>> import mien
        >>> with OpenFaceFiles("processed") as sink:
        ...     for frame, result in mien.load().stream("clip.mp4"):
        ...         sink.write(result)
    """

    def __init__(self, path: str | os.PathLike[str], groups: Sequence[Group] = GROUPS, *, units: bool = False) -> None:
        """Write into a file (its name ends with .csv) for a single source, or into a folder.

        OpenFace has no other groups of columns than these four. `units` is whether the model has an output for action units:
        then there are presences only.
        """
        self.path, self.groups, self.units = Path(path), tuple(groups), units
        self.count = 0
        self._source: str | None = None
        self._file: TextFile | None = None
        self._names: set[str] = set()
        self._open = ExitStack()

    @property
    def part(self) -> Path:
        """The file that is being written."""
        return self.path if self._file is None else self._file.part

    def write(self, result: Result) -> None:
        """Append one result; an unreadable one is skipped.

        Raises ConfigError for a second source, where `path` is a file, and if the file cannot be written.
        """
        if result.status == "unreadable":
            return
        video = result.time is not None
        if self._file is None or result.source != self._source or not video:
            self._open.close()
            self._source = result.source
            self._file = self._open.enter_context(TextFile(self._name(result.source), _line(self.columns(video=video))))
        for face in result.faces or ((None,) if video else ()):
            self._file.append(_line(self._cells(result, face)))
        self.count += 1

    def columns(self, *, video: bool) -> list[str]:
        """Return the names of the columns, in order."""
        names = ["frame", "face_id", "timestamp", "confidence", "success"] if video else ["face", "confidence"]
        if "gaze" in self.groups:
            names += [f"gaze_{eye}_{axis}" for eye in (0, 1) for axis in "xyz"] + ["gaze_angle_x", "gaze_angle_y"]
        if "pose" in self.groups:
            names += [f"pose_{kind}{axis}" for kind in "TR" for axis in "xyz"]
        if "landmarks68" in self.groups:
            names += [f"{axis}_{i}" for axis in "xy" for i in range(68)]
        if "units" in self.groups:
            intensities, presences = self._units()
            names += [f"AU{number:02}_r" for number in intensities] + [f"AU{number:02}_c" for number in presences]
        return names

    def _units(self) -> tuple[list[int], list[int]]:
        """Return the units that have an intensity and those that have a presence."""
        known = {int(name[2:]) for name in (ACTION_UNITS if self.units else UNITS)}
        return [n for n in INTENSITIES if n in known and not self.units], [n for n in PRESENCES if n in known]

    def _cells(self, result: Result, face: Face | None) -> list[str]:
        video = result.time is not None
        confidence = f"{0 if face is None else face.detection:.2f}"
        if video:
            number = 0 if face is None else (face.track or 1) - 1
            head = [str((result.frame or 0) + 1), str(number), f"{result.time:.3f}", confidence, str(int(face is not None))]
        else:
            head = [str(0 if face is None else result.faces.index(face)), confidence]
        if face is None:  # OpenFace writes zeros for a frame without success
            return [*head, *["0"] * (len(self.columns(video=video)) - len(head))]
        return [*head, *self._measures(face)]

    def _measures(self, face: Face) -> list[str]:
        cells: list[str] = []
        if "gaze" in self.groups:
            eyes = (None, None) if face.gaze is None else (face.gaze.right, face.gaze.left)
            vectors = [_vector(eye) for eye in eyes]
            cells += [f"{value:.6f}" for vector in vectors for value in vector]
            seen = [vector for vector in vectors if np.isfinite(vector).all()]
            x, y, z = np.mean(seen, 0) if seen else np.full(3, np.nan)
            cells += [f"{np.arctan2(x, -z):.3f}", f"{np.arctan2(y, -z):.3f}"]
        if "pose" in self.groups:
            cells += _pose(face.pose)
        if "landmarks68" in self.groups:
            points = np.full((68, 2), np.nan) if face.points68 is None else face.points68
            cells += [f"{value:.1f}" for value in points.T.ravel().tolist()]
        if "units" in self.groups:
            values = (face.action_units if self.units else face.action_units_estimated) or {}
            intensities, presences = self._units()
            found = {number: values.get(f"AU{number}", np.nan) for number in {*intensities, *presences}}
            cells += [f"{5 * found[number]:.2f}" for number in intensities]
            cells += [f"{float(found[number] >= PRESENT):.2f}" for number in presences]
        return [cell.replace("nan", "NaN") for cell in cells]

    def _name(self, source: str) -> Path:
        if self.path.suffix.lower() == ".csv":
            if self._names:
                problem = f"{self.path} is one file, and OpenFace's format has one per image or video"
                raise ConfigError(f"{problem}; name a folder", path=self.path)
            self._names.add(self.path.name)
            return self.path
        stem = Path(source.strip("<>")).stem or "image"
        names = (stem, *(f"{stem}-{number}" for number in range(2, len(self._names) + 2)))
        name = next(each for each in names if each not in self._names)
        self._names.add(name)
        return self.path / f"{name}.csv"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.__exit__(kind, error, trace)


def euler_xyz(pose: Pose) -> np.ndarray:
    """Return (3,) pose_Rx, pose_Ry, pose_Rz in radians: angles of R = Rx · Ry · Rz in OpenFace's axes."""
    r = pose.rotation * FLIP * FLIP[:, None]
    return np.array([np.arctan2(-r[1, 2], r[2, 2]), np.arcsin(np.clip(r[0, 2], -1, 1)), np.arctan2(-r[0, 1], r[0, 0])])


def _pose(pose: Pose | None) -> list[str]:
    if pose is None:
        return ["NaN"] * 6
    position = 10 * FLIP * [pose.x, pose.y, pose.z]
    return [*(f"{value:.1f}" for value in position), *(f"{value:.3f}" for value in euler_xyz(pose))]


def _vector(eye: EyeGaze | None) -> np.ndarray:
    """Return (3,) the direction of an eye in OpenFace's axes."""
    if eye is None:
        return np.full(3, np.nan)
    yaw, pitch = np.radians([eye.yaw, eye.pitch])
    return np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), -np.cos(yaw) * np.cos(pitch)])


def _line(cells: Sequence[Any]) -> str:
    return ", ".join(cells) + "\n"
