"""Every figure against an implementation that shares nothing with ours."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from mien import metrics

K = 5


@pytest.fixture(scope="module")
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that know something, labels, guesses; class 3 never occurs, some pictures go without an answer."""
    random = np.random.default_rng(3)
    label = random.choice([0, 1, 2, 4], 400, p=[0.5, 0.2, 0.2, 0.1])
    logits = random.normal(0, 1, (400, K))
    logits[np.arange(400), label] += 1.2
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    guess = scores.argmax(1)
    guess[random.random(400) < 0.1] = -1
    return scores, label, guess


def test_classification_agrees_with_scikit_learn(case: tuple) -> None:
    _, label, guess = case
    counts = metrics.confusion(label, guess, K)
    known = np.unique(label)
    assert counts.sum() == 400 and counts[:, K].sum() == (guess < 0).sum()
    assert metrics.accuracy(counts) == pytest.approx(reference.accuracy_score(label, guess))
    assert metrics.uar(counts) == pytest.approx(reference.recall_score(label, guess, labels=known, average="macro"))
    assert metrics.macro_f1(counts) == pytest.approx(reference.f1_score(label, guess, labels=known, average="macro"))
    assert metrics.kappa(counts) == pytest.approx(reference.cohen_kappa_score(label, guess))
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        label, guess, labels=range(K), zero_division=np.nan
    )
    rows = metrics.per_class(counts, "abcde")
    assert [row.pictures for row in rows] == support.tolist()
    np.testing.assert_allclose([row.precision for row in rows], precision)
    np.testing.assert_allclose([row.recall for row in rows], recall)
    np.testing.assert_allclose([row.f1 for row in rows], f1)
    assert math.isnan(rows[3].recall)


def test_probabilities_agree_with_scikit_learn_and_loops(case: tuple) -> None:
    scores, label, _ = case
    assert metrics.nll(scores, label) == pytest.approx(reference.log_loss(label, scores, labels=range(K)))
    assert metrics.brier(scores, label) == pytest.approx(
        np.mean([sum((scores[i, k] - (label[i] == k)) ** 2 for k in range(K)) for i in range(400)])
    )
    total = 0.0
    for b in range(15):
        inside = [i for i in range(400) if b / 15 < scores[i].max() <= (b + 1) / 15]
        if inside:
            right = sum(scores[i].argmax() == label[i] for i in inside)
            total += abs(right - sum(scores[i].max() for i in inside)) / 400
    assert metrics.ece(scores, label) == pytest.approx(total)


def test_aurc_is_the_mean_risk_over_numbers_answered(case: tuple) -> None:
    scores, label, _ = case
    confidence, right = scores.max(1), scores.argmax(1) == label
    order = sorted(range(400), key=lambda i: -confidence[i])
    risks = [1 - np.mean([right[i] for i in order[: n + 1]]) for n in range(400)]
    assert metrics.aurc(confidence, right) == pytest.approx(np.mean(risks))
    coverage, risk = metrics.risk_coverage(confidence, right)
    np.testing.assert_allclose(risk, risks)
    assert coverage[-1] == 1


def test_equal_confidences_are_answered_together() -> None:
    confidence, right = np.array([0.9, 0.5, 0.5, 0.5]), np.array([True, False, True, True])
    for order in itertools.permutations(range(4)):
        coverage, risk = metrics.risk_coverage(confidence[list(order)], right[list(order)])
        assert coverage.tolist() == [0.25, 1] and risk.tolist() == [0, 0.25]


def test_affect_agrees_with_scipy_and_scikit_learn() -> None:
    random = np.random.default_rng(5)
    truth = random.uniform(-1, 1, 300)
    guess = 0.5 * truth + random.normal(0.1, 0.3, 300)
    r = stats.pearsonr(guess, truth).statistic
    assert metrics.pearson(guess, truth) == pytest.approx(r)
    bias = guess.std() / truth.std()
    shift = (guess.mean() - truth.mean()) ** 2 / (guess.std() * truth.std())
    assert metrics.ccc(guess, truth) == pytest.approx(r * 2 / (bias + 1 / bias + shift))  # Lin's own form
    assert metrics.rmse(guess, truth) == pytest.approx(reference.root_mean_squared_error(truth, guess))
    assert metrics.sign_agreement(guess, truth) == pytest.approx(np.mean([(a > 0) == (b > 0) for a, b in zip(guess, truth)]))
    assert metrics.ccc(truth, truth) == pytest.approx(1)
    assert math.isnan(metrics.pearson(np.zeros(3), np.arange(3.0)))


def test_units_leave_out_what_is_not_annotated() -> None:
    random = np.random.default_rng(6)
    probability, truth = random.random((200, 3)), random.integers(-1, 2, (200, 3))
    limits = [0.5, 0.3, 0.8]
    found = metrics.unit_f1(probability, truth, ["AU1", "AU2", "AU4"], limits)
    for u, name in enumerate(found):
        known = truth[:, u] >= 0
        assert found[name] == pytest.approx(reference.f1_score(truth[known, u], probability[known, u] >= limits[u]))
    assert math.isnan(metrics.unit_f1(np.zeros((2, 1)), np.zeros((2, 1), int), ["AU1"])["AU1"])
    assert metrics.abaw_p(0.4, 0.2, 0.3, 0.5) == pytest.approx(1.1)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 5), (3, 12), (40, 12), (1, 0), (900, 1100)])
def test_mcnemar_is_the_binomial_test(b: int, c: int) -> None:
    first = np.array([True] * b + [False] * c + [True] * 7)
    second = np.array([False] * b + [True] * c + [True] * 7)
    found = metrics.mcnemar(first, second)
    assert (found.only_first, found.only_second) == (b, c)
    if not b + c:
        assert found.exact == found.mid == 1
        return
    assert found.exact == pytest.approx(stats.binomtest(b, b + c, 0.5).pvalue)
    fewer = min(b, c)
    mid = 2 * stats.binom.cdf(fewer - 1, b + c, 0.5) + stats.binom.pmf(fewer, b + c, 0.5)
    assert found.mid == pytest.approx(mid if b != c else 1 - stats.binom.pmf(fewer, b + c, 0.5))


def test_holm_by_hand() -> None:
    assert metrics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert metrics.holm([0.9, 0.6]) == [1, 1]
    assert metrics.holm([]) == []
    assert [metrics.stars(p) for p in (0.0001, 0.005, 0.03, 0.05)] == ["***", "**", "*", ""]


def test_intervals_cover_what_the_normal_approximation_says(case: tuple) -> None:
    _, label, guess = case
    found = metrics.classification_intervals(label, guess, K)
    p = (label == guess).mean()
    half = 1.96 * math.sqrt(p * (1 - p) / 400)
    assert found["accuracy"].low == pytest.approx(p - half, abs=0.006)
    assert found["accuracy"].high == pytest.approx(p + half, abs=0.006)
    slow = metrics.bootstrap(lambda rows: metrics.uar(metrics.confusion(label[rows], guess[rows], K)), 400, draws=400)
    assert found["uar"].value == slow.value
    assert found["uar"].low == pytest.approx(slow.low, abs=0.015) and found["uar"].high == pytest.approx(slow.high, abs=0.015)


def test_copies_of_a_subject_do_not_narrow_an_interval(case: tuple) -> None:
    _, label, guess = case
    once = metrics.classification_intervals(label, guess, K)["accuracy"]
    subject = np.repeat([f"s{i}" for i in range(400)], 9)
    for found in (
        metrics.classification_intervals(np.repeat(label, 9), np.repeat(guess, 9), K, subject)["accuracy"],
        metrics.bootstrap(lambda rows: (np.repeat(label, 9) == np.repeat(guess, 9))[rows].mean(), 3600, subject, draws=400),
    ):
        assert found.high - found.low == pytest.approx(once.high - once.low, rel=0.15)


def test_paired_bootstrap_sees_what_is_there_and_no_more(case: tuple) -> None:
    _, label, guess = case
    same, p = metrics.paired_bootstrap(label, guess, guess, K, draws=100)
    assert same.value == same.low == same.high == 0 and p == 1
    better = np.where(np.arange(400) % 5 == 0, label, guess)
    gap, p = metrics.paired_bootstrap(label, guess, better, K, metric="uar", draws=300)
    assert gap.low > 0 and p < 0.01
    back, _ = metrics.paired_bootstrap(label, better, guess, K, metric="uar", draws=300)
    assert back.value == -gap.value


def test_seeds() -> None:
    assert metrics.mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert math.isnan(metrics.mean_and_deviation([1.0])[1])
    with pytest.raises(ValueError, match="nan"):
        metrics.mean_and_deviation([1.0, float("nan")])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: metrics.confusion(np.array([], int), np.array([], int), 3), "empty"),
        (lambda: metrics.confusion(np.array([0, 3]), np.array([0, 1]), 3), "class 3"),
        (lambda: metrics.confusion(np.array([0, -1]), np.array([0, 1]), 3), "class -1"),
        (lambda: metrics.confusion(np.array([0, np.nan]), np.array([0, 1]), 3), "NaN"),
        (lambda: metrics.confusion(np.array([0, 1, 1]), np.array([0, 1]), 3), "3 rows against 2"),
        (lambda: metrics.nll(np.array([[0.5, np.nan]]), np.array([0])), "row 0 are not finite"),
        (lambda: metrics.nll(np.array([[3.0, -2.0]]), np.array([0])), "logits"),
        (lambda: metrics.nll(np.array([[0.5, 0.4]]), np.array([0])), "sum to 0.9"),
        (lambda: metrics.ece(np.full((2, 2), 0.5), np.array([0])), "2 rows of probabilities for 1"),
        (lambda: metrics.brier(np.full((1, 2), 0.5), np.array([2])), "class 2"),
        (lambda: metrics.aurc(np.array([]), np.array([], bool)), "nothing"),
        (lambda: metrics.aurc(np.array([np.nan]), np.array([True])), "NaN"),
        (lambda: metrics.ccc(np.array([np.nan, 0]), np.zeros(2)), "NaN"),
        (lambda: metrics.ccc(np.zeros(0), np.zeros(0)), "nothing"),
        (lambda: metrics.unit_f1(np.zeros((2, 3)), np.zeros((2, 3)), ["AU1"]), "1 units"),
        (lambda: metrics.per_class(np.ones((2, 3), int), ["a"]), "1 class names for 2"),
        (lambda: metrics.holm([1.2]), "between 0 and 1"),
        (lambda: metrics.mcnemar(np.array([], bool), np.array([], bool)), "no pictures"),
    ],
)
def test_bad_input_is_told(call: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()  # type: ignore[operator]
