"""Valence, arousal and action units against scipy, scikit-learn and the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from mien import metrics as m


def lin(p: np.ndarray, t: np.ndarray) -> float:
    """Lin 1989, equation by equation: 1 minus the mean squared distance over what it would be without correlation."""
    distance = np.mean([(a - b) ** 2 for a, b in zip(p, t, strict=True)])
    return float(1 - distance / (np.var(p) + np.var(t) + (np.mean(p) - np.mean(t)) ** 2))


@given(st.integers(0, 10_000), st.integers(3, 60))
def test_against_scipy_and_the_definition(seed: int, number: int) -> None:
    random = np.random.default_rng(seed)
    t = random.uniform(-1, 1, number)
    p = 0.5 * t + random.normal(0, 0.3, number) + 0.1
    assert m.concordance(p, t) == pytest.approx(lin(p, t))
    assert m.pearson(p, t) == pytest.approx(stats.pearsonr(p, t).statistic)
    assert m.root_mean_square_error(p, t) == pytest.approx(sk.root_mean_squared_error(t, p))
    assert m.sign_agreement(p, t) == pytest.approx(np.mean(np.sign(p) == np.sign(t)))


def test_rows_that_are_not_annotated_take_no_part() -> None:
    random = np.random.default_rng(3)
    p, t = random.normal(size=50), random.normal(size=50)
    holes = np.where(np.arange(50) % 3 == 0, np.nan, t)
    kept = np.isfinite(holes)
    for figure in (m.concordance, m.pearson, m.root_mean_square_error, m.sign_agreement):
        assert figure(p, holes) == pytest.approx(figure(p[kept], t[kept]))


def test_where_nothing_varies() -> None:
    same = np.full(10, 0.1)
    assert np.isnan(m.pearson(same, np.linspace(-1, 1, 10))) and np.isnan(m.concordance(same, same))
    assert m.concordance(same, np.linspace(-1, 1, 10)) == pytest.approx(0, abs=1e-12)
    assert np.isnan(m.concordance(np.empty(0), np.empty(0)))
    with pytest.raises(ValueError, match="equal N"):
        m.concordance(np.zeros(3), np.zeros(4))


@given(st.integers(0, 10_000), st.floats(0.1, 0.9))
def test_units_as_scikit_learn(seed: int, threshold: float) -> None:
    random = np.random.default_rng(seed)
    probability, present = random.random((40, 3)), random.integers(-1, 2, (40, 3))
    found = m.unit_f1(probability, present, np.array([threshold, 0.5, 0.5]))
    for unit, cut in enumerate((threshold, 0.5, 0.5)):
        known = present[:, unit] >= 0
        wanted = sk.f1_score(present[known, unit], probability[known, unit] > cut, zero_division=0)
        assert found[unit] == pytest.approx(wanted)


def test_a_unit_that_nobody_annotated() -> None:
    found = m.unit_f1(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([[-1, 0], [-1, 0]]))
    assert np.isnan(found[0]) and found[1] == 0


def test_the_score_of_abaw() -> None:
    assert m.abaw_p(0.4, 0.6, 0.3, 0.5) == pytest.approx(0.5 + 0.3 + 0.5)
