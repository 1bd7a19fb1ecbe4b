"""Calibration against plain-loop definitions and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.metrics.calibration import abstention_threshold, expected_calibration_error, fit_temperature, log_loss, softmax


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 7)) * 2
    truth = softmax(logits / temperature)
    label = (truth.cumsum(1) < random.random((len(truth), 1))).sum(1)
    assert fit_temperature(logits, label) == pytest.approx(temperature, rel=0.05)


def test_the_temperature_is_a_minimum_of_the_loss() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(500, 4)) * 3
    label = (logits + random.normal(size=logits.shape) * 4).argmax(1)
    best = fit_temperature(logits, label)
    around = [log_loss(softmax(logits / (best * factor)), label) for factor in (0.98, 1, 1.02)]
    assert around[1] <= min(around[0], around[2])


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.sampled_from([1, 5, 15]))
def test_calibration_error_is_the_textbooks(seed: int, number: int, bins: int) -> None:
    random = np.random.default_rng(seed)
    probabilities, label = random.dirichlet(np.ones(3), number), random.integers(0, 3, number)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == label
    wanted = 0.0
    for index in range(bins):
        inside = (confidence > index / bins) & (confidence <= (index + 1) / bins)
        if inside.any():
            wanted += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(probabilities, label, bins) == pytest.approx(wanted, abs=1e-9)
    assert np.isnan(expected_calibration_error(probabilities[:0], label[:0], bins))


def test_abstention_reaches_the_accuracy_with_the_widest_coverage() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    probabilities = np.stack([confidence, 1 - confidence], 1)
    label = np.array([0, 0, 1, 0, 1])  # right, right, wrong, right, wrong
    assert abstention_threshold(probabilities, label, 0.75) == 0.6
    assert abstention_threshold(probabilities, label, 1.0) == 0.8
    assert abstention_threshold(probabilities, np.ones(5, int), 0.9) == 1.0


def test_answers_of_one_confidence_are_given_together() -> None:
    probabilities, label = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]]), np.array([0, 1, 0])
    threshold = abstention_threshold(probabilities, label, 0.6)
    answered = probabilities.max(1) >= threshold
    assert (probabilities.argmax(1) == label)[answered].mean() >= 0.6
    assert abstention_threshold(probabilities, label, 0.9) == 1.0  # of the two at 0.9 one is wrong
    assert abstention_threshold(probabilities[:0], label[:0], 0.9) == 1.0


def test_no_temperature_is_made_up() -> None:
    with pytest.raises(ValueError):
        fit_temperature(np.empty((0, 3)), np.empty(0, int))
    with pytest.raises(ValueError, match="row 1"):
        fit_temperature(np.array([[0.0, 1.0], [np.nan, 1.0]]), np.array([0, 0]))


def test_softmax_survives_large_logits() -> None:
    assert softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]
