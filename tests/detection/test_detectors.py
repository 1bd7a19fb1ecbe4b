"""Every detector on real photos, on images without faces, and with every option."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.errors import ConfigError, MissingExtra, UnknownName
from mien.faces.detection import DETECTORS, Detections, Detector, open_detector
from mien.metrics.boxes import iou

SEARCHING = ["blazeface", "retinaface", "mtcnn", "mtcnn-evolve", "dlib"]
FACE = np.array([178, 57, 273, 177.0])  # on the sample photo, forehead to chin
SHAPES = [(1, 1), (1, 300), (300, 1), (20, 31)]


def opened(name: str, **options) -> Detector:
    if name == "dlib" and not any(_importable(module) for module in ("dlib", "_dlib_pybind11")):
        pytest.skip("dlib is not installed: pip install 'mien[dlib]'")
    if name == "dlib":
        options.setdefault("threshold", 0.2)  # at 0, a crease of her suit scores 0.12
    return open_detector(name, **options)


def _importable(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture(scope="module")
def photo(sample: Path) -> np.ndarray:
    return read(sample)


@pytest.fixture(scope="module")
def two(photo: np.ndarray) -> np.ndarray:
    """The sample photo beside itself at half the size."""
    small = np.asarray(Image.fromarray(photo).reduce(2))
    return np.hstack([photo, np.pad(small, ((0, 256), (0, 0), (0, 0)), "edge")])


@pytest.mark.parametrize("name", SEARCHING)
def test_one_face_on_the_sample_photo(name: str, photo: np.ndarray) -> None:
    faces = opened(name, min_size=40)(photo)
    assert len(faces) == 1
    assert iou(FACE, faces.boxes)[0] > 0.6
    assert abs(faces.roll[0]) < 0.12  # her head leans by 3 to 4 degrees; dlib says nothing and gives 0
    if faces.points is not None:
        assert (faces.points[0] > FACE[:2] - 5).all() and (faces.points[0] < FACE[2:] + 5).all()
        assert faces.points[0, 0, 0] < faces.points[0, 1, 0]


def test_the_whole_image_is_the_face(photo: np.ndarray) -> None:
    faces = open_detector("whole")(photo[:, :300])
    assert (faces.boxes.tolist(), faces.scores.tolist(), faces.roll.tolist()) == ([[0, 0, 300, 512]], [1], [0])
    assert faces.points is None


def test_boxes_and_points_agree_with_the_reference_implementations(photo: np.ndarray) -> None:
    """Answers of ../shared/tools/detectors.py, which uses OpenCV and was checked against the original packages."""
    expected = {
        "retinaface": ([177.92, 56.81, 273.13, 177.19], [[204.81, 100.77], [247.39, 103.41], [223.56, 129.24]], 0.01),
        "mtcnn": ([179.8, 60.12, 268.1, 173.9], [[203.86, 101.3], [246.39, 103.18], [224.27, 128.89]], 0.02),
        "blazeface": ([174.21, 69.8, 279.45, 175.04], [[205.34, 102.42], [246.94, 105.2], [224.79, 128.11]], 0.3),
    }
    for name, (box, points, tolerance) in expected.items():
        faces = open_detector(name)(photo)
        np.testing.assert_allclose(faces.boxes, [box], atol=tolerance, err_msg=name)
        np.testing.assert_allclose(faces.points[0, :3], points, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("name", ["blazeface", "retinaface"])
def test_a_face_crop_of_few_pixels(name: str, photo: np.ndarray) -> None:
    crop = Image.fromarray(photo[57:177, 178:273]).resize((40, 48), Image.Resampling.BOX)
    faces = open_detector(name)(np.asarray(crop.reduce(1 if name == "blazeface" else 2)))
    assert len(faces) == 1


@pytest.mark.parametrize("name", [*SEARCHING, "whole"])
def test_images_without_a_face(name: str) -> None:
    detect = opened(name)
    rng = np.random.default_rng(0)
    images = [np.full((*shape, 3), 127, np.uint8) for shape in SHAPES]
    images += [rng.integers(0, 256, (120, 160, 3), np.uint8), np.zeros((96, 96, 3), np.uint8)]
    for image in images:
        faces = detect(image)
        assert len(faces) == (name == "whole"), image.shape
        assert faces.boxes.shape[1:] == (4,) and faces.scores.shape == faces.roll.shape == (len(faces),)


@pytest.mark.parametrize("name", ["blazeface", "whole"])
@pytest.mark.parametrize(
    ("image", "error"),
    [
        ([[0]], TypeError),
        (np.zeros((9, 9, 3)), TypeError),
        (np.zeros((9, 9), np.uint8), ValueError),
        (np.zeros((9, 9, 4), np.uint8), ValueError),
        (np.zeros((0, 9, 3), np.uint8), ValueError),
    ],
)
def test_what_is_no_rgb_image_is_refused(name: str, image, error: type[Exception]) -> None:
    with pytest.raises(error):
        open_detector(name)(image)


@pytest.mark.parametrize("name", ["blazeface", "retinaface", "mtcnn", "dlib"])
def test_smallest_size_and_largest_number(name: str, two: np.ndarray) -> None:
    both = opened(name, min_size=40)(two)
    assert len(both) == 2 and (np.diff(both.scores) <= 0).all()
    assert opened(name, min_size=80)(two).boxes[:, 0].tolist() == pytest.approx([178], abs=12)
    assert opened(name, min_size=40, max_faces=1)(two).boxes[:, 0].tolist() == pytest.approx([178], abs=12)
    assert len(opened(name, min_size=40, max_faces=2)(two)) == 2


@pytest.mark.parametrize("name", ["blazeface", "retinaface", "mtcnn", "mtcnn-evolve"])
def test_threshold(name: str, photo: np.ndarray) -> None:
    score = open_detector(name, min_size=40)(photo).scores[0]
    assert len(open_detector(name, min_size=40, threshold=score - 1e-4)(photo)) == 1
    assert len(open_detector(name, min_size=40, threshold=min(score + 1e-4, 1))(photo)) == 0


def test_options_out_of_range_and_unknown_names() -> None:
    for options in [{"min_size": -1}, {"max_faces": 0}, {"max_roll": 181}, {"max_roll": -1}]:
        with pytest.raises(ConfigError) as caught:
            open_detector("whole", **options)
        assert caught.value.value == next(iter(options.values()))
    with pytest.raises(ConfigError):
        open_detector("whole", min_size=float("nan"))
    with pytest.raises(UnknownName):
        open_detector("retina")


def test_own_detectors_by_module_and_attribute(photo: np.ndarray) -> None:
    assert len(open_detector("mien.faces.detection.detector:Whole", min_size=600)(photo)) == 0


def test_dlib_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("dlib", "_dlib_pybind11"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra) as caught:
        open_detector("dlib")
    assert caught.value.extra == "dlib"


def test_every_name_of_the_table_opens() -> None:
    for name in DETECTORS:
        if name != "dlib":
            assert isinstance(open_detector(name), Detector)


def rolled(photo: np.ndarray, degrees: float) -> np.ndarray:
    """The sample photo turned clockwise about the face."""
    center = tuple(((FACE[:2] + FACE[2:]) / 2 + 512).tolist())
    wide = Image.fromarray(np.pad(photo, ((512, 512), (512, 512), (0, 0)), "edge"))
    turned = wide.rotate(-degrees, Image.Resampling.BICUBIC, center=center)
    return np.asarray(turned)[512 + 117 - 256 : 512 + 117 + 256, 512 + 225 - 256 : 512 + 225 + 256]


@pytest.mark.parametrize("name", ["blazeface", "retinaface"])
@pytest.mark.parametrize("degrees", [-60, -45, -30, 30, 45, 60, 120, 180])
def test_faces_turned_in_the_image_plane(name: str, degrees: float, photo: np.ndarray) -> None:
    faces = open_detector(name, max_roll=max(abs(degrees), 45))(rolled(photo, degrees))
    assert len(faces) == 1
    assert np.abs((faces.boxes[0, :2] + faces.boxes[0, 2:]) / 2 - 256).max() < 30
    error = np.degrees(faces.roll[0]) - degrees - 4
    assert abs((error + 180) % 360 - 180) < 15


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_turning_back_finds_the_pixel_again(quarters: int) -> None:
    image = np.zeros((5, 9), np.uint8)
    image[1, 6] = 1
    y, x = np.argwhere(np.rot90(image, quarters))[0]
    # A face one pixel large, its eyes one above the other in the turned image.
    found = Detections.from_points([[x, y, x + 1, y + 1]], [1], [[[x, y], [x, y + 1]]])
    back = found.unrotated(quarters, 5, 9)
    assert back.boxes.tolist() == [[6, 1, 7, 2]]
    across = back.points[0, 1] - back.points[0, 0]
    assert [np.cos(back.roll[0]), np.sin(back.roll[0])] == pytest.approx(across.tolist(), abs=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize(("name", "most"), [("blazeface", 29), ("retinaface", 29), ("mtcnn", 32)])
def test_a_group_photo_of_29(name: str, most: int, shared: Path) -> None:
    image = read(shared / "data" / "photos" / "solvay_conference_1927.jpg")
    faces = open_detector(name, min_size=30)(image)
    assert 27 <= len(faces) <= most
    if name == "blazeface":
        reference = open_detector("retinaface")(image)
        centers = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
        for center in centers:
            assert (((reference.boxes[:, :2] < center) & (center < reference.boxes[:, 2:])).all(1)).sum() == 1


@pytest.mark.shared
@pytest.mark.parametrize("name", ["blazeface", "retinaface"])
def test_one_face_on_every_portrait(name: str, shared: Path) -> None:
    portraits = [
        *sorted((shared / "data" / "london" / "images").glob("*.jpg"))[::12],
        *(shared / "data" / "photos").glob("lisa*"),
    ]
    assert len(portraits) == 21
    detect = open_detector(name)
    assert [path.name for path in portraits if len(detect(read(path))) != 1] == []
