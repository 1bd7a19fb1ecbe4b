"""Numbers that faces keep: rules that hold for any scene, and the cases that a tracker exists for."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.inference.tracking import Tracker, overlap_and_nearness


def look(seed: int, noise: float = 0.0, number: int = 0) -> np.ndarray:
    """What a person looks like: the same for a seed, a little different from frame to frame."""
    values = np.random.default_rng(seed).normal(size=64)
    values = values / np.linalg.norm(values) + noise * np.random.default_rng((seed, number)).normal(size=64) / 8
    return values / np.linalg.norm(values)


def box(x: float, y: float = 100, size: float = 80) -> list[float]:
    return [x - size / 2, y - size / 2, x + size / 2, y + size / 2]


def run(tracker: Tracker, frames: list[dict[int, float]], step: float = 0.04) -> list[dict[int, int]]:
    """Feed frames of person → x, and return person → number."""
    told = []
    for number, frame in enumerate(frames):
        looks = np.array([look(person, 0.1, number) for person in frame]).reshape(-1, 64)
        numbers = tracker.update(np.array([box(x) for x in frame.values()]).reshape(-1, 4), looks, number * step)
        told.append(dict(zip(frame, numbers, strict=True)))
    return told


@given(st.lists(st.lists(st.integers(0, 5), unique=True), min_size=1, max_size=20), st.floats(0.01, 3), st.randoms())
def test_numbers_are_distinct_and_do_not_depend_on_order(scenes: list[list[int]], step: float, random: object) -> None:
    plain, mixed = Tracker(), Tracker()
    for number, people in enumerate(scenes):
        order = list(people)
        random.shuffle(order)  # pyrefly: ignore
        told = []
        for tracker, chosen in ((plain, people), (mixed, order)):
            boxes = np.array([box(150 * person + number) for person in chosen]).reshape(-1, 4)
            looks = np.array([look(person) for person in chosen]).reshape(-1, 64)
            told.append(dict(zip(chosen, tracker.update(boxes, looks, number * step), strict=True)))
        assert len(set(told[0].values())) == len(people) and all(value >= 1 for value in told[0].values())
        seen_before = {person for scene in scenes[:number] for person in scene}
        assert all(told[0][person] == told[1][person] for person in people if person in seen_before and told[0] == told[1])
        assert len({tuple(sorted(answer)) for answer in told}) == 1


@given(st.floats(-1e4, 1e4), st.floats(0.2, 5))
def test_where_the_origin_lies_and_how_large_the_image_is_do_not_matter(shift: float, scale: float) -> None:
    told = []
    for move, size in ((0.0, 1.0), (shift, scale)):
        tracker, answers = Tracker(), []
        for number in range(12):
            boxes = np.array([box(20 * number), box(240 - 20 * number, 130)]) * size + move
            answers.append(tracker.update(boxes, np.array([look(1), look(2)]), number / 25))
        told.append(answers)
    assert told[0] == told[1]


def test_two_who_cross_keep_their_numbers() -> None:
    """They pass through each other; in the middle the farther is not seen."""
    frames = []
    for number in range(60):
        left, right = 100 + 8 * number, 560 - 8 * number
        frames.append({1: left, 2: right} if abs(left - right) > 50 else {1: left})
    told = run(Tracker(), frames)
    assert {answer[1] for answer in told} == {1} and {answer[2] for answer in told if 2 in answer} == {2}


def test_looks_decide_where_places_deceive() -> None:
    """Between two frames two people change places."""
    assert run(Tracker(), [{1: 100, 2: 130}] * 5 + [{1: 130, 2: 100}])[-1] == {1: 1, 2: 2}


def test_back_from_behind_something_and_from_outside() -> None:
    frames: list[dict[int, float]] = [{1: 100 + 10 * number} for number in range(10)] + [{}] * 10
    frames += [{1: 300}] * 3  # not where its motion led, half a second later
    frames += [{}] * 200 + [{1: 900}, {1: 900, 2: 100}]
    told = run(Tracker(), frames)
    assert [answer for answer in told if answer][-1] == {1: 1, 2: 2}
    assert all(answer.get(1, 1) == 1 for answer in told)


def test_a_cut_makes_places_worthless() -> None:
    tracker = Tracker()
    here = np.array([box(100)])
    assert tracker.update(here, look(1)[None], 0.0) == [1]
    assert tracker.update(here, look(2)[None], 0.04, cut=True) == [2]  # somebody else in the same place
    assert tracker.update(here + 300, look(1)[None], 0.08, cut=True) == [1]  # and the first again, elsewhere


def test_what_half_hides_a_face_does_not_become_its_look() -> None:
    tracker, person, hand = Tracker(), look(1), look(9)
    half = (person + 0.9 * hand) / np.linalg.norm(person + 0.9 * hand)
    looks = [person] * 5 + [half] * 100
    for number, seen in enumerate(looks):
        assert tracker.update(np.array([box(100)]), seen[None], number / 25) == [1]
    assert tracker.tracks[0].look @ person > 0.99


def test_appearance_is_compared_only_where_it_can_matter() -> None:
    """A lone face in place is compared every fifth of a second; its number and nearly its look are those of all comparisons."""
    compared: list[float] = []

    def lazy(seen: np.ndarray, time: float) -> Callable[[], np.ndarray]:
        return lambda: (compared.append(time), seen)[1]

    eager, tracker = Tracker(), Tracker()
    for number in range(100):
        time, mix = number / 25, look(1) + 0.1 * np.sin(number / 30) * look(2)
        here, seen = np.array([box(100 + number)]), (mix / np.linalg.norm(mix))[None]
        assert eager.update(here, seen, time) == tracker.update(here, lazy(seen, time), time) == [1]
    assert len(compared) == 20 and max(b - a for a, b in itertools.pairwise(compared)) < 0.21
    assert eager.tracks[0].look @ tracker.tracks[0].look > 0.999
    # Another face beside it, a jump and a cut are compared at once.
    for number, (where, cut) in enumerate([([200, 500], False), ([900], False), ([900], True)]):
        seen, time = np.stack([look(1), look(3)])[: len(where)], 4.0 + number / 25
        both = np.stack([box(place) for place in where])
        assert tracker.update(both, lazy(seen, time), time, cut=cut)[0] == 1 and compared[-1] == time


def test_memory_is_bounded() -> None:
    tracker = Tracker(gallery=10)
    for number in range(200):
        tracker.update(np.array([box(1000 * (number % 7))]), look(number)[None], 10.0 * number)
    assert len(tracker.tracks) == 10


def test_overlap_and_nearness() -> None:
    boxes = np.array([box(100), box(180), box(140), box(100, size=300)])
    both = overlap_and_nearness(boxes[:1], boxes, np.ones(1))[0]
    assert both == pytest.approx([2, 0, 1 / 3 + 0.5, 80 * 80 / 300**2])  # the last is of another size: overlap only
    assert overlap_and_nearness(boxes[:1], boxes[1:2], np.array([2.0]))[0, 0] == pytest.approx(0.5)
