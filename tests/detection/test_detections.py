"""The faces of one image: sorted, selected, moved and joined without mixing them up."""

import numpy as np
import pytest

from mien.faces.detection import Detections


@pytest.fixture
def faces() -> Detections:
    eyes = [[[0, 0], [10, 0]], [[0, 0], [10, 10]], [[0, 0], [0, -10]]]
    return Detections.from_points([[0, 0, 10, 10], [1, 1, 11, 11], [2, 2, 12, 12]], [0.2, 0.9, 0.5], eyes)


def test_best_first_and_everything_goes_along(faces: Detections) -> None:
    assert faces.scores.tolist() == pytest.approx([0.9, 0.5, 0.2])
    assert faces.boxes[:, 0].tolist() == [1, 2, 0]
    assert np.degrees(faces.roll).tolist() == pytest.approx([45, -90, 0])
    assert {a.dtype for a in (faces.boxes, faces.scores, faces.roll, faces.points)} == {np.dtype(np.float32)}


def test_select_takes_masks_indices_and_slices(faces: Detections) -> None:
    for chosen in (faces.select(faces.scores > 0.4), faces[[0, 1]], faces[:2]):
        assert len(chosen) == 2 and chosen.boxes[:, 0].tolist() == [1, 2] and len(chosen.points) == 2


def test_shifted_moves_boxes_and_points(faces: Detections) -> None:
    moved = faces.shifted(100, 7)
    np.testing.assert_array_equal(moved.boxes - faces.boxes, np.tile([100, 7, 100, 7], (3, 1)))
    np.testing.assert_array_equal(moved.points - faces.points, np.tile([100, 7], (3, 2, 1)))


def test_join_sorts_again_and_drops_points_that_only_some_have(faces: Detections) -> None:
    both = Detections.join([faces, faces.shifted(50, 0)])
    assert len(both) == 6 and (np.diff(both.scores) <= 0).all() and both.points.shape == (6, 2, 2)
    assert Detections.join([faces, Detections.none()]).points is None
    assert len(Detections.join([Detections.none(5), Detections.none(5)])) == 0
