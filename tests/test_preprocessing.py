"""One preprocessing path: equal to Pillow, to OpenCV, and to what training computes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mien import cards
from mien.cards import Crop, Input
from mien.errors import UnknownName, WeightsError
from mien.faces.alignment import TEMPLATES
from mien.faces.preprocessing import Preprocess, gray, resize_cv2
from mien.training.config import InputConfig
from mien.training.data import card_crop

GRAY48 = Input(size=(48, 48), color="gray", scale=1 / 127.5, offset=(-1.0,))
GOLDEN = json.loads((Path(__file__).parent / "golden" / "cv2_resize.json").read_text())


@given(st.integers(0, 2**32 - 1))
def test_gray_is_pillows_gray(seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    assert np.array_equal(gray(image), np.asarray(Image.fromarray(image).convert("L")))


def test_resize_is_opencvs_bit_for_bit() -> None:
    """The golden file holds what cv2.resize with INTER_LINEAR gave for images drawn from one random stream."""
    random = np.random.default_rng(7)
    for case in GOLDEN:
        image = random.integers(0, 256, case["source"], dtype=np.uint8)
        resized = resize_cv2(image, *case["target"])
        assert resized.shape == (*case["target"], case["source"][2])
        values = resized.ravel().astype(np.int64)
        assert values[:24].tolist() == case["first"]
        assert values.sum() == case["sum"]
        assert (values * (np.arange(len(values)) % 251)).sum() == case["weighted"]


def test_a_crop_of_the_right_size_only_changes_type_and_range() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    preprocess = Preprocess(GRAY48)
    values = preprocess.tensor(preprocess.whole(image)[None])
    assert values.shape == (1, 1, 48, 48) and values.dtype == np.float32
    assert np.abs(values[0, 0] - (image / 127.5 - 1)).max() < 1e-6
    assert np.array_equal(values, preprocess.tensor(preprocess.whole(np.repeat(image[..., None], 3, 2))[None]))


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_color_order_layout_and_range_are_the_cards(color: str, layout: str) -> None:
    image = np.zeros((10, 12, 3), np.uint8)
    image[..., 0], image[..., 2] = 255, 51
    offsets = (0.5,) if color == "gray" else (0.1, 0.2, 0.3)
    preprocess = Preprocess(Input(size=(10, 12), color=color, layout=layout, scale=1 / 255, offset=offsets))  # type: ignore[arg-type]
    values = preprocess.tensor(preprocess.whole(image)[None])
    first = values[0].reshape(-1, 10, 12)[:, 0, 0] if layout == "NCHW" else values[0, 0, 0]
    wanted = {"rgb": [1.1, 0.2, 0.5], "bgr": [0.3, 0.2, 1.3], "gray": [0.5 + round(0.299 * 255 + 0.114 * 51) / 255]}[color]
    assert first == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("margin", [1.0, 0.8])
def test_a_face_lands_on_the_template(margin: float) -> None:
    """A dot at each of the five points of a turned, scaled and shifted template comes back at the template's points."""
    template = TEMPLATES["fer2013"]
    angle, scale = 0.4, 5.0
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = template.poses[0] @ turn + [150, 180]
    image = np.zeros((480, 480, 3), np.uint8)
    for x, y in points.round().astype(int):
        image[y - 5 : y + 6, x - 5 : x + 6] = 255
    mesh = np.zeros((478, 3), np.float32)
    for indices, point in zip(((33, 133, 159, 145), (263, 362, 386, 374), 4, 61, 291), points, strict=True):
        mesh[indices, :2] = point
    contract = card_crop(InputConfig(crop="fer2013", margin=margin))  # As a recipe has it.
    crop = Preprocess(GRAY48, contract).cut(image, mesh)["image"][..., 0]
    assert crop.shape == (48, 48)
    for x, y in (template.poses[0] - 24) / margin + 24:
        assert crop[round(y), round(x)] > 150
    assert (crop > 60).mean() < 0.03 / margin**2


def test_gray_images_feed_networks_that_want_colors() -> None:
    image = np.arange(90, dtype=np.uint8).reshape(9, 10)
    preprocess = Preprocess(Input(size=(9, 10), scale=1 / 255, offset=(0.0,)))
    for each in (image, image[..., None]):
        assert np.array_equal(preprocess.whole(each), np.repeat(image[..., None], 3, 2))


def test_contradictions_are_refused() -> None:
    with pytest.raises(WeightsError, match="mesh478"):
        Preprocess.of(cards.load("mesh478"))
    with pytest.raises(WeightsError):
        Preprocess(Input(size=(48, 48), color="gray", offset=(0.0, 1.0)))
    with pytest.raises(WeightsError):
        Preprocess(GRAY48).cut(np.zeros((9, 9, 3), np.uint8), np.zeros((478, 2)))
    with pytest.raises(UnknownName, match="fer2013"):
        Preprocess(GRAY48, Crop(template="fer2014"))


def test_a_network_of_several_images_gets_each_by_its_name(sample: Path) -> None:
    """The face is dlib's chip, or what the crop contract says; regions come from it at 224 pixels; the rest is one path."""
    from mien.faces.alignment import apply, crop_matrix, dlib_chip_matrix, warp
    from mien.faces.landmarks import Landmarker
    from mien.faces.regions import region_crops
    from mien.types import points5, points68

    pixels = np.asarray(Image.open(sample).convert("RGB"))
    mesh = Landmarker()([(pixels, (174, 70, 279, 175), 0.0)]).points[0]
    sides = {"eye": 90, "nose": 90, "mouth": 60}
    feed = Input(size=(112, 112), scale=1 / 255, offset=(0.0,))
    chip = Preprocess(feed, None, sides)
    crops = chip.cut(pixels, mesh)
    assert [(name, crop.shape[0]) for name, crop in crops.items()] == [("image", 112), ("eye", 90), ("nose", 90), ("mouth", 60)]
    matrix = dlib_chip_matrix(points68(mesh), 224)
    wanted = region_crops(warp(pixels, matrix, 224), apply(matrix, points68(mesh)), sides)
    assert all(np.array_equal(crops[name], crop) for name, crop in wanted.items())
    assert np.array_equal(crops["image"], warp(pixels, dlib_chip_matrix(points68(mesh), 112), 112))
    batch = chip.batch([crops, crops])
    assert isinstance(batch, dict) and batch["mouth"].shape == (2, 3, 60, 60)
    assert np.array_equal(batch["eye"][1], chip.tensor(crops["eye"][None])[0])

    single = Preprocess(feed, Crop(template="ddamfn5"))
    (only,) = single.cut(pixels, mesh).values()
    assert np.array_equal(only, warp(pixels, crop_matrix(points5(mesh), TEMPLATES["ddamfn5"], 112), 112))
    array = single.batch([{"image": only}])
    assert isinstance(array, np.ndarray) and array.shape == (1, 3, 112, 112)
    with pytest.raises(WeightsError):
        Preprocess(feed).cut(pixels, mesh)


@pytest.mark.parametrize("color", ["rgb", "bgr", "gray"])
def test_networks_that_prepare_their_images_get_rgb_bytes_as_they_are(color: str) -> None:
    image = np.random.default_rng(4).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    preprocess = Preprocess(Input(size=(10, 12), color=color, dtype="uint8"))  # type: ignore[arg-type]
    fed = preprocess.tensor(preprocess.whole(image)[None])
    assert fed.dtype == np.uint8 and np.array_equal(fed[0], image)
    assert np.array_equal(preprocess.whole(image[..., :1]), np.repeat(image[..., :1], 3, 2))


def test_deviations_divide_and_the_second_way_of_resizing_is_opencvs() -> None:
    image = np.random.default_rng(5).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    feed = Input(size=(10, 12), scale=1 / 255, offset=(-0.5, -0.4, -0.3), std=(0.2, 0.3, 0.4), resize="cv2-bilinear")
    preprocess = Preprocess(feed)
    crop = preprocess.whole(image)
    assert np.array_equal(crop, resize_cv2(image, 10, 12))
    wanted = (crop / 255 + np.array(feed.offset)) / np.array(feed.std)
    assert np.abs(preprocess.tensor(crop[None])[0] - wanted.transpose(2, 0, 1)).max() < 1e-5
