"""Confidence intervals and significance tests."""

import math
from collections.abc import Callable, Sequence

import numpy as np

DRAWS = 2000  # default number of bootstrap samples


def bootstrap(
    terms: np.ndarray, cluster: np.ndarray | None = None, draws: int = DRAWS, seed: int = 0, times: np.ndarray | None = None
) -> np.ndarray:
    """Resample images with replacement (Efron 1979) and return the sums (draws, S) of their terms.

    The interval of a metric that is a function of sums over images is `interval(metric(bootstrap(terms)))`.

    Args:
        terms: (N, S) contribution of each image to each sum.
        cluster: (N,) identity of each image: people are resampled as a whole, since images of one person are correlated. None
            or empty strings: each image is its own cluster.
        draws: number of bootstrap samples.
        seed: seed of the RNG.
        times: (N,) number of images with each row of terms, if rows are aggregated; not with `cluster`.

    Example:
        >>> right = np.array([[1.0, 1], [0, 1], [1, 1], [1, 1]])
        >>> sums = bootstrap(right, draws=100)
        >>> interval(sums[:, 0] / sums[:, 1])
        (0.25, 1.0)
    """
    terms = np.asarray(terms, np.float64)
    if cluster is not None and len(cluster):
        terms = _sums_by(terms, np.asarray(cluster))
    number = len(terms)
    if not number:
        return np.zeros((draws, terms.shape[1]))
    random = np.random.default_rng(seed)
    if times is not None:
        total = int(np.sum(times))
        shares = np.asarray(times) / max(total, 1)
        return random.multinomial(total, shares, draws) @ terms if total else np.zeros((draws, terms.shape[1]))
    sums = np.empty((draws, terms.shape[1]))
    chunk = max(1, min(draws, 4_000_000 // number))
    for start in range(0, draws, chunk):
        part = random.integers(0, number, (min(chunk, draws - start), number), dtype=np.int32)
        times = np.stack([np.bincount(row, minlength=number) for row in part]).astype(np.float64)
        sums[start : start + len(part)] = times @ terms
    return sums


def _sums_by(terms: np.ndarray, cluster: np.ndarray) -> np.ndarray:
    names = np.where(cluster == "", np.char.add("\0", np.arange(len(cluster)).astype(str)), cluster.astype(str))
    unit = np.unique(names, return_inverse=True)[1]
    sums = np.zeros((unit.max(initial=-1) + 1, terms.shape[1]))
    np.add.at(sums, unit, terms)
    return sums


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of (D,) resampled values; NaN values (samples without a class) are ignored."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def basic_interval(values: np.ndarray, value: float, level: float = 0.95, least: float = -math.inf) -> tuple[float, float]:
    """Return the basic (reverse percentile) bootstrap interval of a biased statistic, which always contains its value.

    Resampling adds noise, so a statistic such as the expected calibration error, which noise only increases, is larger in the
    resamples than on all data, and their percentiles can exclude the value. The basic interval subtracts that bias: it reflects
    the percentiles at the value. See Davison and Hinkley (1997), section 5.2. `values` are (D,), `value` is that on all data,
    `least` the smallest possible one.

    Example:
        >>> low, high = basic_interval(np.array([0.05, 0.06, 0.07]), 0.04, least=0)
        >>> round(low, 2), high
        (0.01, 0.04)
    """
    low, high = interval(values, level)
    return max(min(2 * value - high, value), least), max(2 * value - low, value)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Return the two-sided p value of McNemar's exact test: whether two models have equal error rates on the same images.

    `first` and `second` (N,) bool are whether either is right. Raises ValueError: the lengths differ.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    if first.shape != second.shape:
        raise ValueError(f"predictions of shapes {first.shape} and {second.shape} are not of the same images")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    number, fewer = only_first + only_second, min(only_first, only_second)
    if not number:
        return 1.0
    # log binomial terms: 2 ** −number alone would underflow
    logs = [math.lgamma(number + 1) - math.lgamma(k + 1) - math.lgamma(number - k + 1) for k in range(fewer + 1)]
    tail = math.fsum(math.exp(log - number * math.log(2)) for log in logs)
    return min(1.0, 2 * tail)


def two_sided_p(differences: np.ndarray) -> float:
    """Return the two-sided p value of (D,) resampled differences; NaN values are ignored, NaN if there are no others.

    It is twice the smaller share on one side of zero, with one added to both counts so that it is never zero.
    """
    known = differences[np.isfinite(differences)]
    if not len(known):
        return float("nan")
    fewer = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (fewer + 1) / (len(known) + 1))


def paired_bootstrap(
    terms: np.ndarray, difference: Callable[[np.ndarray], np.ndarray], cluster: np.ndarray | None = None
) -> tuple[float, tuple[float, float], float]:
    """Compare two models on the same images by any metric: return its difference, the 95 % interval, and `two_sided_p`.

    `difference` maps sums (…, S) to (…,); each image contributes `terms` (N, S) to the sums. `cluster` as for `bootstrap`.
    """
    drawn = difference(bootstrap(terms, cluster))
    return float(difference(np.asarray(terms, np.float64).sum(0))), interval(drawn), two_sided_p(drawn)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm 1979): compared with a level, they keep the chance of any false alarm.

    NaN stays NaN and does not count.
    """
    values = np.array(p_values, np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    values[order] = np.maximum.accumulate(np.minimum(1.0, np.arange(len(order), 0, -1) * values[order]))
    return values.tolist()


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation (over n − 1) of a metric over seeds; the deviation of one seed is NaN."""
    array = np.asarray(values, np.float64)
    if not len(array):
        return float("nan"), float("nan")
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else float("nan")
