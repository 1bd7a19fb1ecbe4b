"""Head pose, gaze and estimated action units: on MediaPipe's own data, synthetic faces and real portraits."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mien
from mien.errors import ConfigError
from mien.faces import gaze as gaze_model
from mien.faces.action_units import COLUMNS, UNITS, UNSUPPORTED, estimate
from mien.faces.gaze import gazes
from mien.faces.pose import canonical_face, metric_faces
from mien.inference.recognizer import Recognizer
from mien.labels import BLENDSHAPES
from mien.types import Face, Pose

SIZE = (640, 480)


@pytest.fixture(scope="module")
def read() -> Recognizer:
    return mien.load()


def seen(pose: Pose, points: np.ndarray | None = None, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return (478, 3) mesh points of the canonical face in an image, with depth as the mesh network gives it: orthographic."""
    model = canonical_face()[0] if points is None else points
    camera = model @ pose.rotation.T
    focal = size[1] / 2 / np.tan(np.radians(pose.fov) / 2)
    depth = -(camera[:, 2:] - camera[:468, 2].mean()) * focal / -pose.z
    return np.concatenate([pose.project(model, *size) - 0.5, depth], 1)


def turned_eyes(yaw: float, pitch: float) -> np.ndarray:
    """Return the canonical face with both irises turned on their eyeballs, to the person's left and down."""
    model = canonical_face()[0].copy()
    x, y = np.radians([yaw, pitch])
    to = np.array([np.sin(x) * np.cos(y), -np.sin(y), np.cos(x) * np.cos(y)])
    for eye, side in ((gaze_model.LEFT, 1), (gaze_model.RIGHT, -1)):
        rest = model[eye[4]] + [side * gaze_model.OUTWARD + gaze_model.SHIFT, gaze_model.UP, 0]
        model[eye[4]] = rest + gaze_model.RADIUS * (to - [0, 0, 1])
    return model


@pytest.mark.shared
@pytest.mark.parametrize("name", ["face_geometry_expected_out.pbtxt"])
def test_the_matrix_is_that_of_mediapipe(name: str, shared: Path) -> None:
    folder = shared / "golden" / "mediapipe"
    text = (folder / "face_blendshapes_in_landmarks.prototxt").read_text()
    points = np.array(re.findall(r"x: (\S+)\s+y: (\S+)\s+z: (\S+)", text), float) * [820, 1024, 820] - [0.5, 0.5, 0]
    packed = re.findall(r"packed_data: (\S+)", (folder / name).read_text())
    (pose,) = metric_faces(points[None], np.array([[820, 1024]])).poses
    assert pose.matrix == pytest.approx(np.array(packed, float).reshape(4, 4).T, abs=1e-4)
    assert (pose.pitch, pose.yaw, pose.roll) == pytest.approx((1.45, 0.43, 0.36), abs=0.01)


@pytest.mark.parametrize(
    "angles", [(-20, 0, 0), (0, 40, 0), (15, -30, 10), (-15, 60, 0), (30, 0, -45), (0, -50, 0), (-25, 25, 25), (0, 0, 170)]
)
def test_synthetic_turns(angles: tuple[float, float, float]) -> None:
    truth = Pose(*angles, 3.0, -2.0, -60.0)
    (pose,) = metric_faces(seen(truth)[None], np.array([SIZE])).poses
    assert (pose.pitch, pose.yaw, pose.roll) == pytest.approx(angles, abs=1.5)
    assert (pose.x, pose.y, pose.z) == pytest.approx((3, -2, -60), abs=2.5)


def test_distance_scales_with_the_field_of_view() -> None:
    points, size = seen(Pose(5, 10, 0, 0, 0, -60))[None], np.array([SIZE])
    (wide,), (narrow,) = metric_faces(points, size).poses, metric_faces(points, size, 30).poses
    assert narrow.fov == 30 and narrow.z / wide.z == pytest.approx(np.tan(np.radians(31.5)) / np.tan(np.radians(15)), rel=0.05)
    assert (narrow.pitch, narrow.yaw) == pytest.approx((wide.pitch, wide.yaw), abs=3)
    with pytest.raises(ConfigError) as refused:
        mien.load(fov=200)
    assert refused.value.value == 200


def test_many_faces_of_different_images_are_fitted_as_one_by_one() -> None:
    poses = [Pose(5, 10, 0, 0, 0, -60), Pose(-5, -20, 30, 4, 2, -90)]
    sizes = [(640, 480), (300, 700)]
    stack = np.stack([seen(pose, size=size) for pose, size in zip(poses, sizes, strict=True)])
    together = metric_faces(stack, np.array(sizes)).poses
    alone = [metric_faces(points[None], np.array([size])).poses[0] for points, size in zip(stack, sizes, strict=True)]
    for one, other in zip(together, alone, strict=True):
        assert one.matrix == pytest.approx(other.matrix, abs=1e-9)


def test_signs_of_the_pose() -> None:
    forward, up = np.array([0.0, 0, 1]), np.array([0.0, 1, 0])
    assert (Pose(20, 0, 0, 0, 0, -60).rotation @ forward)[1] < 0  # pitch: the face looks down
    assert (Pose(0, 20, 0, 0, 0, -60).rotation @ forward)[0] > 0  # yaw: to the right of the image
    assert (Pose(0, 0, 20, 0, 0, -60).rotation @ up)[0] < 0  # roll: counterclockwise
    left, top = Pose(0, 0, 0, -5, 5, -60).project(np.zeros(3), *SIZE)
    assert left < SIZE[0] / 2 and top < SIZE[1] / 2


@pytest.mark.parametrize("turn", [-40, -15, 15, 40])
def test_rotating_the_photo_changes_roll(read: Recognizer, sample: Path, turn: int) -> None:
    with Image.open(sample) as image:
        upright = image.convert("RGB")
    rotated = upright.rotate(turn, Image.Resampling.BICUBIC, center=(220, 120))
    (before,), (after,) = (read(np.asarray(photo)).faces for photo in (upright, rotated))
    assert before.pose is not None and after.pose is not None
    assert after.pose.roll - before.pose.roll == pytest.approx(turn, abs=1.5)


@pytest.mark.parametrize("head", [(0, 0, 0), (10, -20, 5), (-10, 25, 0)])
@pytest.mark.parametrize("eyes", [(0, 0), (15, 0), (-25, 5), (0, 12), (10, -10)])
def test_gaze_of_synthetic_eyes(head: tuple[float, float, float], eyes: tuple[float, float]) -> None:
    points = seen(Pose(*head, 0.0, 0.0, -60.0), turned_eyes(*eyes))
    (gaze,) = gazes(metric_faces(points[None], np.array([SIZE])))
    assert gaze is not None and gaze.left is not None and gaze.right is not None
    for each in (gaze, gaze.left, gaze.right):
        assert (each.head_yaw, each.head_pitch) == pytest.approx(eyes, abs=3)
    assert gaze.yaw == pytest.approx(eyes[0] + head[1], abs=4)


def test_eyes_on_the_camera() -> None:
    for x, looks in ((0.0, True), (25.0, False)):  # straight ahead: at the camera from the middle, past it from the side
        (gaze,) = gazes(metric_faces(seen(Pose(0, 0, 0, x, 0, -60))[None], np.array([SIZE])))
        assert (
            gaze is not None
            and gaze.at_camera == looks
            and gaze.camera_angle == pytest.approx(np.degrees(np.arctan(x / 60)), abs=10)
        )


def test_closed_eyes_have_no_gaze() -> None:
    model = canonical_face()[0].copy()
    for eye in (gaze_model.LEFT, gaze_model.RIGHT):
        model[eye[2]] = model[eye[3]] + [0, 0.1, 0]
        (gaze,) = gazes(metric_faces(seen(Pose(0, 0, 0, 0, 0, -60), model)[None], np.array([SIZE])))
        if eye is gaze_model.LEFT:
            assert gaze is not None and gaze.left is None and gaze.right is not None and gaze.yaw == gaze.right.yaw
        else:
            assert gaze is None


@pytest.fixture(scope="module")
def portraits(read: Recognizer, shared: Path) -> list[tuple[Face, Face]]:
    """Every fourth portrait of the half of the London set that the gaze was not calibrated on, and its mirror image."""
    found = []
    for path in sorted((shared / "data" / "london" / "images").glob("*.jpg")):
        if int(path.name[:3]) % 2 and int(path.name[:3]) % 4 == 1:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            found.append((read(pixels).faces[0], read(np.ascontiguousarray(pixels[:, ::-1])).faces[0]))
    return found


@pytest.mark.shared
def test_portraits_look_at_the_camera(portraits: list[tuple[Face, Face]]) -> None:
    angles = np.array([(face.gaze.yaw, face.gaze.pitch) for face, _ in portraits if face.gaze])
    assert len(angles) == len(portraits) > 20
    assert (np.abs(angles.mean(0)) <= 3).all() and (angles.std(0) <= 5).all()
    assert np.mean([face.gaze.at_camera for face, _ in portraits if face.gaze]) > 0.9


@pytest.mark.shared
def test_mirrored_portraits_have_mirrored_measures(portraits: list[tuple[Face, Face]]) -> None:
    poses = np.array([[(f.pose.pitch, f.pose.yaw, f.pose.roll) for f in pair if f.pose] for pair in portraits])
    gaze = np.array([[(f.gaze.pitch, f.gaze.yaw) for f in pair if f.gaze] for pair in portraits])
    assert (np.median(np.abs(poses[:, 0] - poses[:, 1] * [1, -1, -1]), 0) <= 1).all()
    assert (np.median(np.abs(gaze[:, 0] - gaze[:, 1] * [1, -1]), 0) <= 1).all()


@pytest.mark.shared
def test_a_broad_smile_in_action_units(portraits: list[tuple[Face, Face]]) -> None:
    """Half of the portraits smile; lips that are closed have no AU25."""
    units = [face.action_units_estimated or {} for face, _ in portraits]
    smile = np.array([unit["AU12"] for unit in units])
    assert smile.min() < 0.1 and smile.max() > 0.8
    assert min(unit["AU25"] for unit in units) == 0 and max(unit["AU25"] for unit in units) > 0.3


def test_units_and_their_sides() -> None:
    blendshapes = dict.fromkeys(BLENDSHAPES, 0.0) | {"mouthSmileLeft": 0.75, "mouthSmileRight": 0.25, "browInnerUp": 0.5}
    found = estimate(blendshapes, canonical_face()[0])
    assert tuple(found) == COLUMNS and {name.partition("_")[0] for name in found} == set(UNITS)
    assert (found["AU12"], found["AU12_left"], found["AU12_right"], found["AU1"]) == (0.75, 0.75, 0.25, 0.5)
    assert not set(UNITS) & set(UNSUPPORTED)
    assert all(0 <= value <= 1 for value in found.values())


def test_without_blendshapes_there_are_pose_and_gaze_but_no_units(sample: Path) -> None:
    (face,) = mien.load(blendshapes=False)(sample).faces
    assert face.pose is not None and face.gaze is not None and face.action_units_estimated is None
    (face,) = mien.load(blendshapes=False, points=False)(sample).faces  # the smaller mesh has no irises
    assert face.pose is not None and face.gaze is None and face.points is None
