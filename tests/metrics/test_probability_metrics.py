"""Metrics of probabilities against scikit-learn, and against plain loops over their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from mien import metrics as m
from mien.metrics.calibration import softmax

LABELS = ("a", "b", "c", "d")


def drawn(seed: int, number: int = 200) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return softmax(random.normal(size=(number, 4)) * 2), random.integers(0, 4, number)


@given(st.integers(0, 10_000), st.integers(1, 60))
def test_likelihood_and_brier(seed: int, number: int) -> None:
    p, label = drawn(seed, number)
    assert m.log_loss(p, label) == pytest.approx(sk.log_loss(label, p, labels=range(4)))
    by_hand = np.mean([sum((p[i, k] - (k == label[i])) ** 2 for k in range(4)) for i in range(number)])
    assert m.brier(p, label) == pytest.approx(by_hand)


def test_brier_of_two_classes_is_twice_scikit_learns() -> None:
    p, label = drawn(1)
    two = np.stack([p[:, 0], 1 - p[:, 0]], 1)
    truth = (label > 0).astype(int)
    assert m.brier(two, truth) == pytest.approx(2 * sk.brier_score_loss(truth, two[:, 1]))


@given(st.integers(0, 10_000), st.integers(1, 25))
def test_bins_and_calibration_error_by_a_loop(seed: int, bins: int) -> None:
    p, label = drawn(seed)
    found = m.reliability(p.max(1), p.argmax(1) == label, bins)
    error = 0.0
    for k in range(bins):
        inside = [i for i in range(len(p)) if k / bins < p[i].max() <= (k + 1) / bins]
        assert found[k].n == len(inside)
        if inside:
            confidence = np.mean([p[i].max() for i in inside])
            accuracy = np.mean([p[i].argmax() == label[i] for i in inside])
            assert (found[k].confidence, found[k].accuracy) == (pytest.approx(confidence), pytest.approx(accuracy))
            error += len(inside) / len(p) * abs(confidence - accuracy)
    assert m.expected_calibration_error(p, label, bins) == pytest.approx(error)


def test_metrics_of_no_images_are_nan() -> None:
    p, label = np.empty((0, 4)), np.empty(0, int)
    assert np.isnan([m.brier(p, label), m.log_loss(p, label), m.expected_calibration_error(p, label)]).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 3), 1 / 3), r"shape \(2, 3\) for 4 classes"),
        (np.array([[0.25] * 4, [np.nan, 0, 0, 1]]), "NaN or infinite probabilities for 1 images, first in row 1"),
        (np.array([[3.0, -1, 0, -1]]), "logits"),
        (np.array([[0.3, 0.3, 0.3, 0.3]]), "do not sum to one, first in row 0: 1.2000"),
    ],
)
def test_invalid_probabilities_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        m.checked_probabilities(values, LABELS)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 12))
def test_risk_and_coverage_by_a_loop(seed: int, number: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    confidence, right = random.integers(1, levels + 1, number) / levels, random.random(number) < 0.6
    curve = m.risk_coverage(confidence, right)
    for coverage, risk, threshold in zip(curve.coverage, curve.risk, curve.threshold, strict=True):
        inside = confidence >= threshold
        assert (coverage, risk) == (pytest.approx(inside.mean()), pytest.approx((~right[inside]).mean()))
    # the mean over many orders of rows with equal confidence
    areas = []
    for _ in range(300):
        order = np.lexsort((random.random(number), -confidence))
        areas.append((np.cumsum(~right[order]) / np.arange(1, number + 1)).mean())
    assert curve.area == pytest.approx(np.mean(areas), abs=5 * np.std(areas) / np.sqrt(300) + 1e-9)


def test_nan_confidences_are_refused() -> None:
    with pytest.raises(ValueError, match="1 confidences are NaN"):
        m.risk_coverage(np.array([0.5, np.nan]), np.array([True, False]))
    assert np.isnan(m.risk_coverage(np.empty(0), np.empty(0, bool)).area)
