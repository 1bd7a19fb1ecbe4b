"""Closer looks cover what they must, and know which boxes they cut."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mien.faces.detection.tiling import MARGIN, OVERLAP, Region, nearest, padded, tiles

regions = st.builds(Region, st.integers(0, 50), st.integers(0, 50), st.integers(1, 4000), st.integers(1, 4000))


@given(regions)
def test_closer_squares_cover_the_region_and_overlap(region: Region) -> None:
    parts = tiles(region)
    assert 1 <= len(parts) <= 4
    for axis, size in ((0, 2), (1, 3)):
        spans = sorted({(part[axis], part[axis] + part[size]) for part in parts})
        assert spans[0][0] == region[axis] and spans[-1][1] == region[axis] + region[size]
        for (_, end), (start, _) in pairwise(spans):
            assert end - start >= OVERLAP * max(parts[0].width, parts[0].height) - 2
    assert max(part.long for part in parts) <= region.long / (2 - OVERLAP) + 1


def test_a_wide_image_takes_two_squares_and_a_square_one_four() -> None:
    assert len(tiles(Region(0, 0, 1600, 806))) == 2
    assert len(tiles(Region(0, 0, 512, 512))) == 4


def test_nearest_names_the_square_around_each_place_once() -> None:
    parts = tiles(Region(0, 0, 700, 700))
    assert nearest(np.array([[100, 100], [90, 120], [600, 650.0]]), parts) == [parts[0], parts[3]]


def test_a_region_shows_its_part_of_the_image_and_is_black_beyond_it() -> None:
    image = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    np.testing.assert_array_equal(Region(2, 1, 4, 3).of(image, 4), image[1:4, 2:6])
    assert Region(2, 1, 4, 3).of(image, 100).shape == (75, 100, 3)
    around = Region(-2, -1, 12, 8).of(image, 12)
    assert around.shape == (8, 12, 3)
    np.testing.assert_array_equal(around[1:7, 2:10], image)
    assert (around[0, 0] == 0).all()


@given(st.integers(1, 300), st.integers(1, 300))
def test_every_region_fits_the_square_of_the_network(height: int, width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    whole = Region(0, 0, width, height)
    for region in (whole, padded(whole), *tiles(whole)):
        shape = region.of(image, 192).shape
        assert 190 <= max(shape) <= 192 and min(shape) >= 1


def test_the_padded_view_keeps_the_image_in_the_middle() -> None:
    region = padded(Region(0, 0, 100, 50))
    margin = round(100 * MARGIN)
    assert region == Region(-margin, -margin, 100 + 2 * margin, 50 + 2 * margin)
    assert not region.cuts(np.array([[5.0, 5, region.width - 5, region.height - 5]]), np.zeros((50, 100, 3), np.uint8)).any()


def test_only_borders_inside_the_image_cut() -> None:
    image, boxes = np.zeros((100, 100, 3), np.uint8), np.array([[0, 10, 20, 30], [10, 10, 60, 30], [10, 20, 30, 60.0]])
    assert Region(0, 0, 60, 60).cuts(boxes, image).tolist() == [False, True, True]
    assert Region(40, 0, 60, 100).cuts(boxes, image).tolist() == [True, False, False]
