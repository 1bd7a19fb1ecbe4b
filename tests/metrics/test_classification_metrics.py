"""Figures of a confusion matrix against scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from mien import metrics as m


def drawn(seed: int, classes: int = 5, number: int = 300) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, number)
    return label, np.where(random.random(number) < 0.6, label, random.integers(0, classes, number))


@given(st.integers(0, 10_000), st.integers(2, 8), st.integers(1, 80))
def test_as_scikit_learn(seed: int, classes: int, number: int) -> None:
    label, predicted = drawn(seed, classes, number)
    counts = m.confusion(label, predicted, classes)
    present = np.unique(label)
    assert counts[:, :classes].tolist() == sk.confusion_matrix(label, predicted, labels=range(classes)).tolist()
    assert m.accuracy(counts) == pytest.approx(sk.accuracy_score(label, predicted))
    precision, recall, f1, _ = sk.precision_recall_fscore_support(label, predicted, labels=range(classes), zero_division=0)
    assert m.precisions(counts) == pytest.approx(precision)
    assert m.recalls(counts)[present] == pytest.approx(recall[present])
    assert m.f1_scores(counts)[present] == pytest.approx(f1[present])
    assert m.macro_f1(counts) == pytest.approx(sk.f1_score(label, predicted, labels=present, average="macro", zero_division=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of classes that are only predicted
        assert m.uar(counts) == pytest.approx(sk.balanced_accuracy_score(label, predicted))
        kappa = sk.cohen_kappa_score(label, predicted, labels=range(classes))
    assert m.kappa(counts) == pytest.approx(kappa, nan_ok=True)


def test_an_image_without_a_prediction_is_wrong() -> None:
    label, predicted = np.array([0, 0, 1, 1]), np.array([0, -1, 1, 1])
    counts = m.confusion(label, predicted, 2)
    assert counts.tolist() == [[1, 0, 1], [0, 2, 0]]
    assert m.accuracy(counts) == 0.75 and m.uar(counts) == 0.75
    assert m.precisions(counts).tolist() == [1, 1]
    # a prediction of its own for scikit-learn
    assert m.kappa(counts) == pytest.approx(sk.cohen_kappa_score(label, np.where(predicted < 0, 2, predicted)))


def test_a_class_without_images_takes_no_part() -> None:
    counts = m.confusion(np.array([0, 0, 2]), np.array([0, 1, 2]), 3)
    assert np.isnan(m.recalls(counts)[1]) and np.isnan(m.f1_scores(counts)[1])
    assert m.uar(counts) == pytest.approx(0.75)


def test_nothing_at_all_is_not_a_number() -> None:
    counts = m.confusion(np.empty(0, int), np.empty(0, int), 3)
    assert all(np.isnan(figure(counts)) for figure in (m.accuracy, m.uar, m.macro_f1, m.kappa))


def test_many_matrices_at_once() -> None:
    each = [m.confusion(*drawn(seed), 5) for seed in range(4)]
    for figure in (m.accuracy, m.uar, m.macro_f1, m.kappa):
        assert figure(np.stack(each)) == pytest.approx([float(figure(counts)) for counts in each])


@pytest.mark.parametrize(
    ("label", "predicted", "message"),
    [([0, 3], [0, 0], "labels from 0 to 3"), ([0, 1], [0, 4], "predictions from 0 to 4"), ([0, 1], [0], "must both be")],
)
def test_wrong_indices_are_refused(label: list[int], predicted: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        m.confusion(np.array(label), np.array(predicted), 3)
