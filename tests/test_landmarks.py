import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.cards import bundled_file
from mien.errors import UnknownName
from mien.faces.alignment import TEMPLATES, apply, crop_matrix, similarity, warp
from mien.faces.detection import open_detector
from mien.faces.landmarks import MESHES, Blendshapes, Landmarker, eye_roll, region_of_box
from mien.labels import BLENDSHAPES
from mien.runtime.onnx import OnnxRuntime
from mien.types import FACE, irises, points5

GOLDEN = json.loads((Path(__file__).parent / "golden" / "landmarks.json").read_text())
FACE_BOX = (178, 57, 273, 177)
RETINAFACE = np.array([[203.7, 101.2], [246.6, 103.7], [224.6, 128.1], [201.7, 140.3], [244.9, 141.6]])
"""Another network's points on the sample photo."""


@pytest.fixture(scope="module")
def photo(sample):
    return np.array(Image.open(sample).convert("RGB"))


@pytest.fixture(scope="module", params=list(MESHES))
def landmarker(request):
    return Landmarker(request.param)


@pytest.fixture(scope="module")
def large():
    return Landmarker("mesh478")


@pytest.fixture(scope="module")
def blendshapes():
    return Blendshapes()


def eye_distance(points):
    eyes = points5(points)[..., :2, :]
    return np.linalg.norm(eyes[..., 1, :] - eyes[..., 0, :], axis=-1)


def apart(one, other):
    """Mean distance of the face's points as a share of the distance between the eyes."""
    difference = np.linalg.norm(one[..., :FACE, :2] - other[..., :FACE, :2], axis=-1)
    return float((difference.mean(-1) / eye_distance(one)).max())


# --- the networks


@pytest.mark.parametrize("name", GOLDEN)
def test_networks_answer_as_in_their_own_runtime(name, photo):
    """Values of LiteRT on the original files, for squares of the sample photo that need no interpolation."""
    network = OnnxRuntime(bundled_file(name))
    shape = network.session.get_inputs()[0].shape
    if name == "blendshapes.onnx":
        inputs = np.array(GOLDEN[name]["points"], np.float32)[None]
    else:
        x, y = GOLDEN[name]["corner"]
        inputs = photo[None, y : y + shape[1], x : x + shape[2]].astype(np.float32) / 255
    tolerance = 2e-5 if name == "blendshapes.onnx" else 1e-3
    outputs = list(network(np.repeat(inputs, 3, 0)).values())
    assert len(outputs) == len(GOLDEN[name]["outputs"])
    for found, expected in zip(outputs, GOLDEN[name]["outputs"], strict=True):
        assert found.shape[0] == 3
        every = found.shape[1] // 60 or 1
        assert len(expected) == len(found[0, ::every])
        assert np.abs(found[:, ::every] - expected).max() < tolerance


# --- points


def test_points_lie_on_the_face(landmarker, photo):
    found = landmarker([(photo, FACE_BOX, 0.0)])
    assert found.points.dtype == np.float32
    assert found.presence[0] > 0.99
    assert np.linalg.norm(points5(found.points[0]) - RETINAFACE, axis=-1).max() < 0.12 * eye_distance(found.points[0])


def test_boxes_of_different_detectors_lead_to_the_same_points(landmarker, photo):
    boxes = [FACE_BOX, (181, 80, 270, 169), (170, 40, 280, 180), (186, 66, 282, 186)]  # brow to chin, hair to chin, off center
    points = landmarker([(photo, box, 0.05) for box in boxes]).points
    assert apart(points[:1].repeat(4, 0), points) < 0.05
    once = landmarker.locate([photo] * 4, np.array([region_of_box(box, 0.05) for box in boxes]), refine=0).points
    assert apart(points[:1].repeat(4, 0), points) < apart(once[:1].repeat(4, 0), once)


@pytest.mark.parametrize("degrees", [-45, -20, 20, 45])
def test_turned_faces_have_the_same_mesh(landmarker, photo, degrees):
    upright = landmarker([(photo, FACE_BOX, 0.0)]).points[0]
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, -s, 0], [s, c, 0]])
    matrix[:, 2] = 150 - matrix[:, :2] @ [226, 117]
    turned = warp(photo, matrix, 300)
    found = landmarker([(turned, (90, 90, 210, 210), angle)])
    assert found.presence[0] > 0.99
    assert apart(apply(matrix, upright[None, :, :2].astype(float)), found.points[..., :2]) < 0.03
    assert abs(np.rad2deg(eye_roll(found.points[0]) - eye_roll(upright)) - degrees) < 2


def test_faces_of_many_images_in_one_call(landmarker, photo):
    dark = photo // 2
    faces = [(photo, FACE_BOX, 0.0), (dark, FACE_BOX, 0.1), (photo[40:200, 150:300], (28, 17, 123, 137), 0.0)] * 3
    together = landmarker(faces)
    alone = [landmarker([face]) for face in faces]
    assert len(together) == 9
    assert np.abs(together.points - np.concatenate([one.points for one in alone])).max() < 1e-4 * eye_distance(
        together.points[0]
    )
    assert np.allclose(together.presence, np.concatenate([one.presence for one in alone]), atol=1e-5)


def test_no_faces(landmarker):
    for found in (landmarker([]), landmarker.crops([])):
        assert found.points.shape == (0, landmarker._mesh.count, 3)
        assert found.presence.shape == (0,)
        assert found.regions.shape == (0, 4)


def test_faces_partly_outside_the_image(landmarker, photo):
    whole = landmarker([(photo, FACE_BOX, 0.0)]).points[0]
    cut = landmarker([(photo[:, 205:], (-27, 57, 68, 177), 0.0), (photo[:140], FACE_BOX, 0.0)])  # an eye and a cheek; a chin
    for points, corner in zip(cut.points, [(205, 0), (0, 0)], strict=True):
        seen = points[:FACE, :2] + corner
        visible = (whole[:FACE, 0] > 210) if corner[0] else (whole[:FACE, 1] < 135)
        assert np.linalg.norm(seen - whole[:FACE, :2], axis=-1)[visible].mean() < 0.1 * eye_distance(whole)


@pytest.mark.parametrize("box", [(300, 250, 420, 370), (0, 0, 80, 80), (-500, -500, -400, -400), (100, 100, 100, 100)])
def test_what_is_no_face_has_no_presence(landmarker, photo, box):
    found = landmarker([(photo, box, 0.0)])
    assert found.presence[0] < 0.5
    assert np.isfinite(found.points).all()


def test_gray_images_are_read_like_color_images_without_color(landmarker, photo):
    gray = np.array(Image.fromarray(photo).convert("L"))
    one, other = landmarker([(gray, FACE_BOX, 0.0), (np.repeat(gray[..., None], 3, 2), FACE_BOX, 0.0)]).points
    assert np.abs(one - other).max() < 1e-3


def test_large_faces_are_averaged_not_skipped(landmarker, photo):
    """A noisy enlargement: averaging takes the noise away, skipping would keep it."""
    points = landmarker([(photo, FACE_BOX, 0.0)]).points
    huge = Image.fromarray(photo[40:200, 140:320]).resize((180 * 6, 160 * 6), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).integers(-90, 91, (160 * 6, 180 * 6, 1), np.int16)
    noisy = (np.array(huge) + noise).clip(0, 255).astype(np.uint8)
    box = (np.array(FACE_BOX) - [140, 40, 140, 40]) * 6
    moved = (points[..., :2] - [140, 40] + 0.5) * 6 - 0.5
    assert apart(moved, landmarker([(noisy, box, 0.0)]).points) < 0.04


def test_the_next_frame_needs_one_pass(landmarker, photo):
    first = landmarker([(photo, FACE_BOX, 0.0)])
    next_frame = np.roll(photo, (3, 2), (0, 1))
    second = landmarker.locate([next_frame], first.regions, refine=0)
    assert apart(first.points[..., :2] + [2, 3], second.points) < 0.02


def test_small_crops_need_no_detector(landmarker, photo):
    """48 × 48 gray images, as those of FER2013: the points come out where the template put them."""
    template = TEMPLATES["fer2013"]
    points = points5(landmarker([(photo, FACE_BOX, 0.0)]).points[0])
    matrix = crop_matrix(points, template)
    crop = warp(np.array(Image.fromarray(photo).convert("L")), matrix, 48)
    found = landmarker.crops([crop, np.full((48, 48), 128, np.uint8)])
    assert found.presence[0] > 0.9
    assert found.presence[1] < 0.5
    assert np.linalg.norm(points5(found.points[0]) - apply(matrix, points), axis=-1).max() < 1.5


def test_unknown_mesh():
    with pytest.raises(UnknownName, match="did you mean"):
        Landmarker("mesh479")


# --- portraits with hand-set pupils


@pytest.fixture(scope="module")
def portraits(shared):
    """Every fifth of 102 neutral portraits as faces to be meshed, and the pupils, (21, 2, 2)."""
    folder = shared / "data" / "london"
    with (folder / "labels.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["expression"] == "neutral"][::5]
    detect = open_detector("blazeface", max_faces=1)
    images = [np.array(Image.open(folder / row["image"])) for row in rows]
    found = [detect(image) for image in images]
    faces = [(image, each.boxes[0], float(each.roll[0])) for image, each in zip(images, found, strict=True)]
    return faces, np.array([np.load(folder / "landmarks" / f"{row['subject']}_03.npy")[:2] for row in rows])


def pupil_error(points, pupils):
    """Mean distance as a share of the distance between the pupils."""
    distance = np.linalg.norm(pupils[:, 1] - pupils[:, 0], axis=-1)[:, None]
    return float((np.linalg.norm(points - pupils, axis=-1) / distance).mean())


def test_iris_landmarks(landmarker, portraits):
    faces, pupils = portraits
    found = landmarker(faces)
    assert len(found) == 21
    assert found.presence.min() > 0.5
    assert pupil_error(points5(found.points)[:, :2], pupils) < 0.04  # the middle of the lids is not quite the pupil
    if found.points.shape[1] > FACE:
        assert pupil_error(irises(found.points)[:, [0, 5]], pupils) < 0.012


def test_mirrored_portraits_have_mirrored_meshes(landmarker, portraits):
    """Half a pixel of the network's input shows in the mean: the numbers in `MESHES` are right."""
    faces, _ = portraits
    images = [image for image, _, _ in faces]
    regions = landmarker(faces).regions
    mirrored = regions * [-1, 1, 1, -1] + [511, 0, 0, 0]
    # A region's center becomes the coordinate size / 2 of the crop, a half pixel off its middle; mirrored, off the other way.
    step = regions[:, 2] / landmarker._mesh.size
    mirrored[:, :2] += np.stack([np.cos(mirrored[:, 3]), np.sin(mirrored[:, 3])], -1) * step[:, None]
    one = landmarker.locate(images, regions, refine=0).points
    other = landmarker.locate([image[:, ::-1] for image in images], mirrored, refine=0).points
    shift = (one[:, :FACE, 0].mean(1) - (511 - other[:, :FACE, 0].mean(1))) / step / 2
    assert abs(shift.mean()) < 0.2


# --- blendshapes


def test_the_sample_smiles(large, blendshapes, photo):
    found = blendshapes(large([(photo, FACE_BOX, 0.0)]).points)
    assert found.shape == (1, 52)
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()
    named = dict(zip(BLENDSHAPES, found[0].tolist(), strict=True))
    assert named["mouthSmileLeft"] > 0.5
    assert named["mouthSmileRight"] > 0.5
    assert named["jawOpen"] < 0.3
    assert named["mouthFrownLeft"] < 0.1


def test_blendshapes_do_not_depend_on_place_scale_or_lean(large, blendshapes, photo):
    points = large([(photo, FACE_BOX, 0.0)]).points[..., :2].astype(float)
    moved = apply(similarity([[0, 0], [1, 0]], [[4000, 900], [4002, 903]]), points[0])
    assert np.abs(blendshapes(points) - blendshapes(moved[None])).max() < 1e-4


def test_blendshapes_of_many_faces(large, blendshapes, photo):
    points = large([(photo, FACE_BOX, 0.0), (photo[:, ::-1], (239, 57, 334, 177), 0.0)]).points
    stack = np.concatenate([points, points[:1]])
    together = blendshapes(stack)
    assert np.abs(together - np.concatenate([blendshapes(one[None]) for one in stack])).max() < 1e-5
    assert blendshapes(stack[:0]).shape == (0, 52)
    left, right = (BLENDSHAPES.index(f"eyeSquint{side}") for side in ("Left", "Right"))
    assert abs(together[0, left] - together[1, right]) < 0.2


def test_blendshapes_need_irises(blendshapes):
    with pytest.raises(ValueError, match="478"):
        blendshapes(np.zeros((1, FACE, 2)))
    assert len(set(BLENDSHAPES)) == 52
    assert BLENDSHAPES[0] == "_neutral"
