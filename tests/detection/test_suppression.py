"""Many boxes on one face become one, whatever boxes come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mien.faces.detection.nms import average, groups, suppress
from mien.metrics.boxes import area, containment, iou

corners = st.floats(-50, 50, width=32)
boxes = st.integers(0, 12).flatmap(
    lambda n: arrays(np.float32, (n, 2, 2), elements=corners).map(lambda a: np.sort(a, 1).reshape(-1, 4))
)
overlaps = st.sampled_from([iou, containment])


def scores_for(boxes: np.ndarray) -> np.ndarray:
    return np.random.default_rng(len(boxes)).random(len(boxes)).astype(np.float32)


def test_overlap_of_known_boxes() -> None:
    box, others = np.array([0, 0, 10, 10.0]), np.array([[0, 0, 10, 10], [5, 0, 15, 10], [2, 2, 4, 4], [20, 20, 30, 30.0]])
    assert iou(box, others) == pytest.approx([1, 1 / 3, 0.04, 0])
    assert containment(box, others) == pytest.approx([1, 0.5, 1, 0])


@given(boxes, overlaps)
def test_overlap_lies_between_nothing_and_all_and_is_symmetric(boxes: np.ndarray, overlap) -> None:
    table = np.array([overlap(box, boxes) for box in boxes]).reshape(len(boxes), len(boxes))
    assert (table >= 0).all() and (table <= 1 + 1e-4).all()
    np.testing.assert_allclose(table, table.T, atol=1e-4)


@given(boxes, overlaps, st.sampled_from([0.3, 0.4, 0.5, 0.7]))
def test_what_is_kept_does_not_overlap_and_what_went_lay_on_a_better_one(boxes: np.ndarray, overlap, limit: float) -> None:
    scores = scores_for(boxes)
    kept = suppress(boxes, scores, limit, overlap)
    assert (np.diff(scores[kept]) <= 0).all()
    for i in kept:
        assert (overlap(boxes[i], boxes[kept[kept != i]]) <= limit).all()
    for i in set(range(len(boxes))) - set(kept.tolist()):
        better = kept[scores[kept] >= scores[i]]
        assert overlap(boxes[i], boxes[better]).max() > limit


@given(boxes)
def test_suppressing_twice_changes_nothing(boxes: np.ndarray) -> None:
    scores = scores_for(boxes)
    kept = suppress(boxes, scores, 0.4)
    assert suppress(boxes[kept], scores[kept], 0.4).tolist() == list(range(len(kept)))


@given(boxes)
def test_groups_part_the_boxes(boxes: np.ndarray) -> None:
    members = [i for group in groups(boxes, scores_for(boxes), 0.3) for i in group.tolist()]
    assert sorted(members) == list(range(len(boxes)))


@given(boxes)
def test_averages_stay_within_their_group(boxes: np.ndarray) -> None:
    scores = scores_for(boxes)
    means, best = average(boxes, scores, boxes, 0.3)
    found = list(groups(boxes, scores, 0.3))
    assert len(means) == len(best) == len(found)
    for group, mean, score in zip(found, means, best, strict=True):
        assert score == scores[group].max()
        assert (mean >= boxes[group].min(0) - 1e-3).all() and (mean <= boxes[group].max(0) + 1e-3).all()


def test_average_weighs_by_score_and_leaves_out_the_weak() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [4, 0, 14, 10]], np.float32)
    means, best = average(boxes, np.array([0.9, 0.6, 0.2], np.float32), boxes, 0.3)
    assert means[0] == pytest.approx([0.4, 0, 10.4, 10])
    assert best.tolist() == pytest.approx([0.9])


def test_area_of_a_box_turned_inside_out_is_nothing() -> None:
    assert area(np.array([[3, 3, 1, 5], [0, 0, 2, 3.0]])).tolist() == [0, 6]
