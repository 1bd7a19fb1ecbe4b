"""Every figure against an implementation that shares nothing with ours: scikit-learn, scipy, or a loop over pictures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from mien import metrics

K = 5


@pytest.fixture(scope="module")
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that know something, labels, answers; class 3 never occurs, some pictures go without an answer."""
    random = np.random.default_rng(3)
    label = random.choice([0, 1, 2, 4], 400, p=[0.5, 0.2, 0.2, 0.1])
    logits = random.normal(0, 1, (400, K))
    logits[np.arange(400), label] += 1.2
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    answer = scores.argmax(1)
    answer[random.random(400) < 0.1] = -1
    return scores, label, answer


def cells(label: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """One picture a row, a one in its cell of the confusion matrix."""
    return np.stack([metrics.confusion(label[i : i + 1], answer[i : i + 1], K).ravel() for i in range(len(label))])


def of_cells(formula: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda sums: formula(sums.reshape(*sums.shape[:-1], K, K + 1))


def test_classification_agrees_with_scikit_learn(case: tuple) -> None:
    _, label, answer = case
    counts = metrics.confusion(label, answer, K)
    known = np.unique(label)
    assert counts.sum() == 400 and counts[:, K].sum() == (answer < 0).sum()
    assert metrics.accuracy(counts) == pytest.approx(reference.accuracy_score(label, answer))
    assert metrics.uar(counts) == pytest.approx(reference.recall_score(label, answer, labels=known, average="macro"))
    assert metrics.macro_f1(counts) == pytest.approx(reference.f1_score(label, answer, labels=known, average="macro"))
    assert metrics.kappa(counts) == pytest.approx(reference.cohen_kappa_score(label, answer))
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        label, answer, labels=range(K), zero_division=np.nan
    )
    assert counts.sum(1).tolist() == support.tolist()
    occurring = support > 0
    np.testing.assert_allclose(metrics.precisions(counts)[occurring], precision[occurring])
    np.testing.assert_allclose(metrics.recalls(counts), recall)
    np.testing.assert_allclose(metrics.f1_scores(counts)[occurring], f1[occurring])


def test_a_class_that_does_not_occur_has_no_recall(case: tuple) -> None:
    _, label, answer = case
    assert math.isnan(metrics.recalls(metrics.confusion(label, answer, K))[3])
    nothing = np.zeros((K, K + 1), int)
    assert all(math.isnan(f(nothing)) for f in (metrics.accuracy, metrics.uar, metrics.macro_f1, metrics.kappa))


def test_probabilities_agree_with_scikit_learn_and_loops(case: tuple) -> None:
    scores, label, _ = case
    assert metrics.negative_log_likelihood(scores, label) == pytest.approx(reference.log_loss(label, scores, labels=range(K)))
    assert metrics.brier(scores, label) == pytest.approx(
        np.mean([sum((scores[i, k] - (label[i] == k)) ** 2 for k in range(K)) for i in range(400)])
    )
    confidence, right = scores.max(1), scores.argmax(1) == label
    total, bins = 0.0, metrics.reliability(confidence, right, 15)
    for b in range(15):
        inside = [i for i in range(400) if b / 15 < confidence[i] <= (b + 1) / 15]
        assert bins[b].n == len(inside)
        if inside:
            assert bins[b].accuracy == pytest.approx(np.mean(right[inside]))
            assert bins[b].confidence == pytest.approx(np.mean(confidence[inside]))
            total += abs(sum(right[inside]) - sum(confidence[inside])) / 400
    assert metrics.expected_calibration_error(scores, label) == pytest.approx(total)


def test_area_is_the_mean_risk_over_numbers_answered(case: tuple) -> None:
    scores, label, _ = case
    confidence, right = scores.max(1), scores.argmax(1) == label
    order = sorted(range(400), key=lambda i: -confidence[i])
    risks = [1 - np.mean([right[i] for i in order[: n + 1]]) for n in range(400)]
    curve = metrics.risk_coverage(confidence, right)
    assert curve.area == pytest.approx(np.mean(risks))
    np.testing.assert_allclose(curve.risk, risks)
    assert curve.coverage[-1] == 1


def test_equal_confidences_are_answered_together() -> None:
    confidence, right = np.array([0.9, 0.5, 0.5, 0.5]), np.array([True, False, True, True])
    areas = set()
    for order in itertools.permutations(range(4)):
        curve = metrics.risk_coverage(confidence[list(order)], right[list(order)])
        assert curve.coverage.tolist() == [0.25, 1] and curve.risk.tolist() == [0, 0.25]
        areas.add(round(curve.area, 12))
    assert len(areas) == 1


def test_affect_agrees_with_scipy_and_scikit_learn() -> None:
    random = np.random.default_rng(5)
    truth = random.uniform(-1, 1, 300)
    guess = 0.5 * truth + random.normal(0.1, 0.3, 300)
    r = stats.pearsonr(guess, truth).statistic
    assert metrics.pearson(guess, truth) == pytest.approx(r)
    spread = guess.std() / truth.std()
    shift = (guess.mean() - truth.mean()) ** 2 / (guess.std() * truth.std())
    assert metrics.concordance(guess, truth) == pytest.approx(r * 2 / (spread + 1 / spread + shift))  # Lin's own form
    assert metrics.root_mean_square_error(guess, truth) == pytest.approx(reference.root_mean_squared_error(truth, guess))
    signs = [(a > 0) == (b > 0) for a, b in zip(guess, truth, strict=True)]
    assert metrics.sign_agreement(guess, truth) == pytest.approx(np.mean(signs))
    assert metrics.concordance(truth, truth) == pytest.approx(1)
    assert math.isnan(metrics.pearson(np.zeros(3), np.arange(3.0)))


def test_rows_that_are_not_annotated_take_no_part_in_affect() -> None:
    random = np.random.default_rng(7)
    truth, guess = random.uniform(-1, 1, 50), random.uniform(-1, 1, 50)
    holes = np.where(np.arange(50) % 4 == 0, np.nan, truth)
    kept = np.arange(50) % 4 != 0
    for figure in (metrics.concordance, metrics.pearson, metrics.root_mean_square_error, metrics.sign_agreement):
        assert figure(guess, holes) == pytest.approx(figure(guess[kept], truth[kept]))


def test_units_leave_out_what_is_not_annotated() -> None:
    random = np.random.default_rng(6)
    probability, truth = random.random((200, 3)), random.integers(-1, 2, (200, 3))
    limits = np.array([0.5, 0.3, 0.8])
    found = metrics.unit_f1(probability, truth, limits)
    for u in range(3):
        known = truth[:, u] >= 0
        assert found[u] == pytest.approx(reference.f1_score(truth[known, u], probability[known, u] > limits[u]))
    assert math.isnan(metrics.unit_f1(np.zeros((2, 1)), np.full((2, 1), -1))[0])
    assert metrics.abaw_p(0.4, 0.2, 0.3, 0.5) == pytest.approx(1.1)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 5), (3, 12), (40, 12), (1, 0), (900, 1100)])
def test_mcnemar_is_the_binomial_test(b: int, c: int) -> None:
    first = np.array([True] * b + [False] * c + [True] * 7)
    second = np.array([False] * b + [True] * c + [True] * 7)
    expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert metrics.mcnemar(first, second) == pytest.approx(expected)


def test_holm_by_hand() -> None:
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.9, 0.6]) == [1, 1]
    assert metrics.holm([]) == []


def test_intervals_cover_what_the_normal_approximation_says(case: tuple) -> None:
    _, label, answer = case
    low, high = metrics.interval(of_cells(metrics.accuracy)(metrics.bootstrap(cells(label, answer))))
    p = (label == answer).mean()
    half = 1.96 * math.sqrt(p * (1 - p) / 400)
    assert (low, high) == pytest.approx((p - half, p + half), abs=0.006)
    random = np.random.default_rng(0)
    rows = random.integers(0, 400, (80, 400))
    slow = [reference.recall_score(label[r], answer[r], labels=[0, 1, 2, 4], average="macro") for r in rows]
    fast = metrics.interval(of_cells(metrics.uar)(metrics.bootstrap(cells(label, answer))))
    assert fast == pytest.approx(np.percentile(slow, [2.5, 97.5]), abs=0.025)


def test_copies_of_a_subject_do_not_narrow_an_interval(case: tuple) -> None:
    right = (case[1] == case[2]).astype(float)[:, None]
    once = np.subtract(*metrics.interval(metrics.bootstrap(right)[:, 0] / 400))
    subject = np.repeat([f"s{i}" for i in range(400)], 9)
    ninefold = np.subtract(*metrics.interval(metrics.bootstrap(np.repeat(right, 9, 0), subject)[:, 0] / 3600))
    assert ninefold == pytest.approx(once, rel=0.1)


def test_paired_bootstrap_sees_what_is_there_and_no_more(case: tuple) -> None:
    _, label, answer = case
    first, better = cells(label, answer), cells(label, np.where(np.arange(400) % 5 == 0, label, answer))
    width = first.shape[1]

    def gap(sums: np.ndarray) -> np.ndarray:
        return of_cells(metrics.uar)(sums[..., width:]) - of_cells(metrics.uar)(sums[..., :width])

    value, (low, high), p = metrics.paired_bootstrap(np.hstack([first, first]), gap, draws=200)
    assert value == low == high == 0 and p == 1
    value, (low, _), p = metrics.paired_bootstrap(np.hstack([first, better]), gap, draws=500)
    assert value > low > 0 and p < 0.01
    assert metrics.paired_bootstrap(np.hstack([better, first]), gap, draws=200)[0] == -value


def test_seeds() -> None:
    assert metrics.mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert math.isnan(metrics.mean_and_deviation([1.0])[1])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: metrics.confusion(np.array([0, 3]), np.array([0, 1]), 3), "labels from 0 to 3"),
        (lambda: metrics.confusion(np.array([0, -1]), np.array([0, 1]), 3), "labels from -1"),
        (lambda: metrics.confusion(np.array([0, 1]), np.array([0, 5]), 3), "answers from 0 to 5"),
        (lambda: metrics.confusion(np.array([0, 1, 1]), np.array([0, 1]), 3), "one answer a picture"),
        (lambda: metrics.checked_probabilities(np.array([[0.5, np.nan]]), "ab"), "NaN .* first in row 0"),
        (lambda: metrics.checked_probabilities(np.array([[3.0, -2.0]]), "ab"), "logits"),
        (lambda: metrics.checked_probabilities(np.array([[0.5, 0.4]]), "ab"), "sum to one"),
        (lambda: metrics.checked_probabilities(np.full((2, 3), 1 / 3), "ab"), "for 2 classes"),
        (lambda: metrics.risk_coverage(np.array([np.nan]), np.array([True])), "NaN"),
        (lambda: metrics.concordance(np.zeros(2), np.zeros(3)), "one value a row"),
        (lambda: metrics.mcnemar(np.zeros(2, bool), np.zeros(3, bool)), "same pictures"),
    ],
)
def test_bad_input_is_told(call: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
