"""Sizes are exact, averages are averages, and the fast way stays near the exact one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mien.faces.detection.resize import area, fit, resize

sides = st.integers(1, 60)


@pytest.fixture(scope="module")
def photo(sample) -> np.ndarray:
    return np.asarray(Image.open(sample).convert("RGB"))


@given(sides, sides, sides, sides)
def test_every_size_is_exact_and_flat_images_stay_flat(height: int, width: int, new_height: int, new_width: int) -> None:
    flat = np.full((height, width, 3), (10, 100, 200), np.uint8)
    for resized in (resize(flat, new_width, new_height), area(flat, new_width, new_height)):
        assert resized.shape == (new_height, new_width, 3)
        np.testing.assert_allclose(resized, np.broadcast_to((10, 100, 200), resized.shape), atol=0.01)


def test_area_keeps_the_mean_and_averages_whole_blocks(photo: np.ndarray) -> None:
    assert area(photo, 100, 75).mean() == pytest.approx(photo.mean(), abs=1e-3)
    blocks = photo.reshape(128, 4, 128, 4, 3).mean((1, 3))
    np.testing.assert_allclose(area(photo, 128, 128), blocks, atol=1e-3)


@pytest.mark.parametrize("side", [40, 100, 128, 192, 256, 300, 500])
def test_the_fast_way_is_near_the_exact_average(photo: np.ndarray, side: int) -> None:
    """Within 2 of 255 where every pixel is read, within 4 where the image is so large that some are left out."""
    exact = area(photo, side, side)
    large = photo.repeat(4, 0).repeat(4, 1)
    assert np.abs(resize(photo, side, side) - exact).mean() < (2 if side >= 64 else 4)
    assert np.abs(resize(large, side, side) - exact).mean() < 4


def test_an_image_of_the_right_size_is_not_copied(photo: np.ndarray) -> None:
    assert resize(photo, 512, 512) is photo


def test_fit_brings_the_longer_side_to_length() -> None:
    for shape in [(10, 1000, 3), (1000, 10, 3), (7, 5, 3), (1, 1, 3)]:
        small, scale = fit(np.zeros(shape, np.uint8), 192)
        assert max(small.shape[:2]) == 192 and min(small.shape) >= 1
        assert scale == 192 / max(shape[:2])


def test_views_are_read_right(photo: np.ndarray) -> None:
    turned = np.rot90(photo)
    np.testing.assert_array_equal(resize(turned, 128, 128), resize(np.ascontiguousarray(turned), 128, 128))
