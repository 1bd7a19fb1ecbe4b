"""Values and paired differences of metrics, over images, seeds and folds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from ... import metrics as m
from ...errors import ConfigError
from ..report import Report
from ..report.metrics import Metric, metric
from ..report.predictions import Predictions

Runs = Mapping[Any, Sequence[Report]]  # seed → the evaluations of its folds


@dataclass(frozen=True, slots=True)
class Value:
    """A metric of one model or recipe: the mean over seeds and the ends of its 95 % interval, over images (persons) and seeds.

    `deviation` is the standard deviation over seeds (n − 1), None for one seed.
    """

    value: float
    low: float
    high: float
    deviation: float | None = None
    seeds: int = 1
    folds: int = 1


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric of a model minus that of the reference, on the images of both; None without common images.

    `low` and `high` are the ends of the 95 % interval, `p` is two-sided, `test` is `McNemar`, or the bootstrap with what it
    resamples.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    test: str = ""

    @property
    def stars(self) -> str:
        """`***`, `**` or `*` for p below .001, .01 or .05."""
        return "" if self.p is None else "*" * sum(self.p < level for level in (0.05, 0.01, 0.001))

    def with_p(self, value: float) -> Self:
        """Return it with a corrected p value."""
        return replace(self, p=None if math.isnan(value) else value)


def rate(runs: Runs, metrics: Sequence[str]) -> dict[str, Value]:
    """Return the metrics of the runs of one model or recipe; undefined metrics are missing."""
    tables = _tables(runs)
    found = {}
    for name in metrics:
        try:
            rated, terms, values = _rated(tables, name)
        except ConfigError:
            continue
        if not np.isfinite(values).any():
            continue
        if all(np.array_equal(table.sample, tables[0].sample) for table in tables):
            drawn = _drawn(terms, rated, tables[0].clusters)
        else:
            seeds = zip(terms, rated, tables, strict=True)
            drawn = np.concatenate([_drawn([one], [which], table.clusters) for one, which, table in seeds])
        mean, deviation = m.mean_and_deviation(values)
        folds = max(len(reports) for reports in runs.values())
        found[name] = Value(mean, *m.interval(drawn), deviation if len(values) > 1 else None, len(values), folds)
    return found


def difference(reference: Runs, other: Runs, name: str) -> Difference:
    """Return the difference of a metric on the common images, with interval and p value (not corrected).

    A model with one run whose persons are unknown is tested by McNemar's exact test for the accuracy; otherwise by the paired
    bootstrap over images or persons, and over seeds where there are several.
    """
    sides = [_tables(runs) for runs in (reference, other)]
    usable = [table.sample[table.counted | (table.label == "")].tolist() for side in sides for table in side]
    common = set.intersection(*map(set, usable))
    sides = [[_aligned(table, common) for table in side] for side in sides]
    first, undefined = sides[0][0], Difference(None, p=math.nan)
    if not len(first):
        return undefined
    try:
        (before, before_terms, reference_values), (after, after_terms, values) = (_rated(side, name) for side in sides)
    except ConfigError:
        return undefined
    value = float(np.mean(values) - np.mean(reference_values))
    if not math.isfinite(value):
        return undefined
    drawn = _drawn(after_terms, after, first.clusters, seed=1) - _drawn(before_terms, before, first.clusters, seed=2)
    p = m.two_sided_p(drawn)
    seeds = max(map(len, sides))
    test = f"bootstrap over {'images' if first.clusters is None else 'subjects'}{' and seeds' if seeds > 1 else ''}"
    if name == "accuracy" and first.clusters is None and seeds == 1:
        right = [side[0].predicted == side[0].truth for side in sides]
        counted = sides[0][0].counted & sides[1][0].counted
        test, p = "McNemar", m.mcnemar(right[0][counted], right[1][counted])
    return Difference(value, *m.interval(drawn), p, test)


def _tables(runs: Runs) -> list[Predictions]:
    """Return the predictions of each seed, its folds one after the other."""
    return [
        reports[0].predictions if len(reports) == 1 else Predictions.concatenate([each.predictions for each in reports])
        for reports in runs.values()
    ]


def _rated(tables: Sequence[Predictions], name: str) -> tuple[list[Metric], list[np.ndarray], list[float]]:
    """Return a metric for each table, its terms, and its value; raises ConfigError if a table lacks what it needs."""
    metrics = [metric(name, table) for table in tables]
    terms = [one.terms(table) for one, table in zip(metrics, tables, strict=True)]
    return metrics, terms, [float(one.formula(each.sum(0))) for one, each in zip(metrics, terms, strict=True)]


def _aligned(table: Predictions, samples: set[str]) -> Predictions:
    """Return the rows of these samples, in the order of their names."""
    order = np.argsort(table.sample, kind="stable")
    return table.take(order[[name in samples for name in table.sample[order].tolist()]])


def _drawn(terms: Sequence[np.ndarray], metrics: Sequence[Metric], cluster: np.ndarray | None, seed: int = 0) -> np.ndarray:
    """Return (D,) means over seeds of a metric, resampled over images or persons, and over seeds where there are several.

    All calls draw the same images; `seed` decides which seeds are drawn.
    """
    widths = np.cumsum([each.shape[1] for each in terms])[:-1]
    sums = np.split(m.bootstrap(np.concatenate(terms, 1), cluster), widths, axis=1)
    values = np.stack([one.formula(each) for one, each in zip(metrics, sums, strict=True)], 1)
    if values.shape[1] == 1:
        return values[:, 0]
    chosen = np.random.default_rng(seed).integers(0, values.shape[1], values.shape)
    return np.take_along_axis(values, chosen, 1).mean(1)
