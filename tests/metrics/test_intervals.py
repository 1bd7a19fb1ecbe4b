"""Intervals and tests between models: against scipy, against a plain bootstrap, and by how often they are right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mien import metrics as m


def ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def test_the_interval_of_a_mean_is_that_of_a_plain_bootstrap() -> None:
    values = np.random.default_rng(0).normal(size=150)
    ours = m.interval(ratio(m.bootstrap(np.stack([values, np.ones(150)], 1))))
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert ours == pytest.approx(tuple(theirs), abs=0.02)


def test_the_same_seed_gives_the_same_draws() -> None:
    terms = np.random.default_rng(0).random((40, 3))
    assert (m.bootstrap(terms, draws=50) == m.bootstrap(terms, draws=50)).all()
    assert (m.bootstrap(terms, draws=50) != m.bootstrap(terms, draws=50, seed=1)).any()


def test_few_rows_that_stand_for_many() -> None:
    right = np.arange(300) < 210
    many = m.interval(ratio(m.bootstrap(np.stack([right, np.ones(300)], 1))))
    few = m.interval(ratio(m.bootstrap(np.array([[1.0, 1], [0, 1]]), times=np.array([210, 90]))))
    assert few == pytest.approx(many, abs=0.01)


def test_whole_people_are_drawn() -> None:
    """Ten images of each person that are all right or all wrong are worth one image each."""
    person = np.repeat(np.arange(30), 10).astype(str)
    right = np.repeat(np.random.default_rng(2).random(30) < 0.5, 10).astype(float)
    terms = np.stack([right, np.ones(300)], 1)
    once = m.interval(ratio(m.bootstrap(terms[::10])))
    assert m.interval(ratio(m.bootstrap(terms, person))) == pytest.approx(once, abs=0.05)
    alone = m.interval(ratio(m.bootstrap(terms, np.full(300, ""))))
    assert alone[1] - alone[0] < 0.5 * (once[1] - once[0])
    counts = m.bootstrap(terms, person, draws=20)
    assert (counts[:, 1] == 300).all()


def test_people_of_different_sizes() -> None:
    person = np.array(["a", "a", "a", "b", ""])
    sums = m.bootstrap(np.eye(5), person, draws=200)
    assert (sums[:, 0] == sums[:, 1]).all() and (sums[:, 0] == sums[:, 2]).all()
    assert ((sums[:, 0] + sums[:, 3] + sums[:, 4]) == 3).all()


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_intervals_cover_the_truth_as_often_as_they_say(share: float) -> None:
    random = np.random.default_rng(5)
    covered = 0
    for trial in range(200):
        right = random.random(200) < share
        low, high = m.interval(ratio(m.bootstrap(np.stack([right, np.ones(200)], 1), draws=400, seed=trial)))
        covered += low <= share <= high
    assert 180 <= covered <= 198


def test_nothing_has_no_interval() -> None:
    assert m.bootstrap(np.empty((0, 2)), draws=3).tolist() == [[0, 0]] * 3
    assert np.isnan(m.interval(np.full(5, np.nan))).all()


@given(st.integers(0, 10_000), st.integers(1, 80))
def test_mcnemar_is_the_binomial_test(seed: int, number: int) -> None:
    random = np.random.default_rng(seed)
    first, second = random.random(number) < 0.7, random.random(number) < 0.6
    only = int((first & ~second).sum()), int((second & ~first).sum())
    wanted = stats.binomtest(only[0], sum(only), 0.5).pvalue if sum(only) else 1.0
    assert m.mcnemar(first, second) == pytest.approx(wanted)


def test_mcnemar_of_many_images() -> None:
    first = np.arange(20_000) < 12_000
    second = np.arange(20_000) >= 9_000
    wanted = stats.binomtest(9_000, 17_000, 0.5).pvalue
    assert m.mcnemar(first, second) == pytest.approx(wanted, rel=1e-6)
    with pytest.raises(ValueError, match="same images"):
        m.mcnemar(first, second[1:])


def test_a_paired_comparison_sees_what_two_intervals_do_not() -> None:
    random = np.random.default_rng(1)
    easy = random.random(400) < 0.7
    better = easy | (random.random(400) < 0.12)
    terms = np.stack([better * 1.0, easy * 1.0, np.ones(400)], 1)
    value, (low, high), p = m.paired_bootstrap(terms, lambda sums: (sums[..., 0] - sums[..., 1]) / sums[..., 2])
    assert value == pytest.approx(better.mean() - easy.mean()) and 0 < low < value < high and p < 0.01
    assert m.paired_bootstrap(terms[:, [0, 0, 2]], lambda s: s[..., 0] - s[..., 1])[0::2] == (0.0, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_by_its_definition(values: list[float]) -> None:
    found = m.holm(values)
    order = sorted(range(len(values)), key=lambda i: values[i])
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - place) * values[index]))
        assert found[index] == pytest.approx(largest)
    assert all(corrected >= value for corrected, value in zip(found, values, strict=True))


def test_holm_ignores_nan() -> None:
    assert m.holm([0.01, float("nan"), 0.04])[::2] == [0.02, 0.04] and m.holm([]) == []


def test_seeds() -> None:
    assert m.mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)
    mean, deviation = m.mean_and_deviation([0.7])
    assert mean == 0.7 and np.isnan(deviation) and np.isnan(m.mean_and_deviation([])).all()


@given(st.integers(0, 10**6), st.integers(20, 500), st.floats(0, 0.3))
@settings(max_examples=30, deadline=None)
def test_the_interval_of_a_biased_statistic_contains_its_value(seed: int, number: int, bias: float) -> None:
    """The expected calibration error in 15 bins, whose percentile interval is above it for small errors."""
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.2, 1, number)
    terms = np.zeros((number, 16))
    terms[np.arange(number), (confidence * 15).astype(int).clip(0, 14)] = confidence - (
        random.random(number) < (confidence - bias).clip(0, 1)
    )
    terms[:, 15] = 1

    def ece(sums: np.ndarray) -> np.ndarray:
        return np.abs(sums[..., :15]).sum(-1) / sums[..., 15]

    value = float(ece(terms.sum(0)))
    low, high = m.basic_interval(ece(m.bootstrap(terms, draws=200)), value, least=0)
    assert 0 <= low <= value <= high
