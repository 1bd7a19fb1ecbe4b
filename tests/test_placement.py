"""Labels cover no face and not one another, wherever the faces are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.metrics.boxes import intersection
from mien.visualization.label_layout import leader, place
from readings import SOLVAY

CANVAS = (1600, 806)


@pytest.mark.parametrize("widths", [(80,), (80, 110, 170), (170,)])  # "fear 57%" … "uncertain: happiness 38%"
def test_a_crowd_is_labeled_without_touching_a_face_or_a_label(widths: tuple[int, ...]) -> None:
    faces = np.array(SOLVAY, float)
    sizes = np.array([(widths[i % len(widths)], 22) for i in range(len(faces))], float)
    plates = place(faces, sizes, CANVAS, 4).plates
    assert np.triu(intersection(plates[:, None], plates), 1).sum() == 0
    assert intersection(plates[:, None], faces).sum() == 0
    ends = leader(faces, plates)
    lengths = np.hypot(*(ends[:, 1] - ends[:, 0]).T)
    assert lengths.mean() < 16 and lengths.max() < 80  # and each stays with its face


def test_a_lone_label_goes_above_left_and_bars_beside() -> None:
    face = np.array([[400, 300, 500, 420.0]])
    label = place(face, np.array([[80, 20.0]]), CANVAS, 5)
    assert label.plates.tolist() == [[400, 275, 480, 295]] and label.clean.all()
    bars = place(face, np.array([[200, 180.0]]), CANVAS, 5)
    assert bars.plates.tolist() == [[520, 300, 720, 480]] and bars.clean.all()


@pytest.mark.parametrize("corner", [(0, 0), (1500, 0), (0, 686), (1500, 686)])
def test_plates_stay_in_the_image(corner: tuple[int, int]) -> None:
    x, y = corner
    found = place(np.array([[x - 20, y - 20, x + 120, y + 140.0]]), np.array([[200, 180.0]]), CANVAS, 5)
    left, top, right, bottom = found.plates[0]
    assert left >= 0 and top >= 0 and right <= CANVAS[0] and bottom <= CANVAS[1] and found.clean.all()


def test_without_room_it_says_so() -> None:
    whole = np.array([[0, 0, 300, 300.0]])
    assert not place(whole, np.array([[250, 250.0]]), (300, 300), 5).clean.any()  # would cover the face
    assert not place(whole, np.array([[400, 50.0]]), (300, 300), 5).clean.any()  # wider than the image
    crowd = np.array([[x, y, x + 90, y + 90.0] for x in range(0, 600, 100) for y in range(0, 600, 100)])
    assert not place(crowd, np.tile([[200, 150.0]], (36, 1)), (600, 600), 5).clean.all()


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(-50, 550), st.integers(-50, 350), st.integers(1, 200)), min_size=1, max_size=12),
    st.integers(0, 1),
)
def test_whatever_the_faces_plates_are_inside_and_the_verdict_is_true(spots: list[tuple[int, int, int]], tall: int) -> None:
    faces = np.array([[x, y, x + side, y + 1.2 * side] for x, y, side in spots])
    sizes = np.tile([[90, 20.0], [120, 110.0]][tall], (len(faces), 1))
    found = place(faces, sizes, (640, 480), 4)
    plates = found.plates
    assert (plates[:, :2] >= 0).all() and (plates[:, 2:] <= [640, 480]).all()
    assert np.allclose(plates[:, 2:] - plates[:, :2], sizes)
    shown = np.clip(faces, 0, [640, 480, 640, 480])
    for i in np.flatnonzero(found.clean):
        others = np.arange(len(faces)) != i
        assert intersection(plates[i : i + 1][:, None], plates[others]).sum() == 0
        assert intersection(plates[i : i + 1][:, None], shown[others]).sum() == 0


def test_a_hundred_faces_and_more_end() -> None:
    faces = np.array([[x, y, x + 30, y + 36.0] for x in range(0, 1600, 120) for y in range(0, 800, 90)])
    found = place(faces, np.tile([[70, 14.0]], (len(faces), 1)), CANVAS, 3)
    assert found.clean.all()


def test_the_leader_is_the_shortest_line() -> None:
    face = np.array([100, 100, 200, 200.0])
    assert leader(face, np.array([250, 50, 300, 80.0])).tolist() == [[200, 100], [250, 80]]
    assert leader(face, np.array([120, 40, 160, 60.0])).tolist() == [[140, 100], [140, 60]]
    assert leader(face, np.array([20, 150, 60, 170.0])).tolist() == [[100, 160], [60, 160]]
