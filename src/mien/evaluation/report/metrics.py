"""Metrics of a table of predictions, with intervals: the content of `metrics.json`.

A `Metric` is a formula over sums of per-image terms, so that one bootstrap gives the interval of any metric, and of the
difference of two models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import metrics as m
from ...errors import ConfigError, UnknownName, did_you_mean
from ...metrics import affect as affect_figures
from ...metrics.calibration import BINS, bin_of
from ...metrics.probabilities import squared_errors
from ...registry import lookup
from .predictions import AFFECT, NO_FACE, OK, OTHER_CLASS, UNREADABLE, Predictions

Figures = dict[str, Any]
Formula = Callable[[np.ndarray], np.ndarray]

FEWEST = 10
"""Minimum number of images of a group in a gap."""
CURVE_POINTS = 200
"""Points of the stored risk-coverage curve."""
POSE_EDGES = (10.0, 25.0)
"""Degrees at which the slices of head pose and gaze are cut."""
POSE = ("pitch", "yaw", "roll", "gaze")
CUTS: Mapping[str, str] = {
    "pitch": "degrees, up or down",
    "yaw": "degrees, to either side",
    "roll": "degrees, to either side",
    "gaze": "degrees from the camera",
    "face size": "pixels",
}
"""Slice → unit. Pose is cut at `POSE_EDGES`, other units into thirds."""
RESAMPLES = 200
"""Resamples for the interval of a plain function."""

OVERALL: Mapping[str, Formula] = {"accuracy": m.accuracy, "uar": m.uar, "macro_f1": m.macro_f1, "kappa": m.kappa}
PER_CLASS: Mapping[str, Formula] = {"recall": m.recalls, "precision": m.precisions, "f1": m.f1_scores}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as a function of sums over images.

    Example:
        >>> error_rate = Metric(lambda table: np.stack([table.predicted != table.truth, np.ones(len(table))], 1),
        ...                     lambda sums: sums[..., 0] / sums[..., 1])
    """

    terms: Callable[[Predictions], np.ndarray]
    """(N, S) terms of the images."""
    formula: Formula
    """Sums (…, S) → (…)."""


def metric(name: str, table: Predictions) -> Metric:
    """Return a metric by name.

    Args:
        name: `accuracy`, `uar`, `macro_f1`, `kappa`; `recall:CLASS`, `precision:CLASS`, `f1:CLASS`;
            `ccc_valence`, `ccc_arousal`, `ccc` (their mean); `unit_f1` (mean over action units), `f1:AUn`; `p` (the ABAW
            score of all three tasks); or `module:attribute` of a `Metric`.
        table: predictions, for classes and action units.

    Raises:
        UnknownName: unknown metric.
        ConfigError: the table lacks what the metric needs.
    """
    kind, _, of = name.partition(":")
    classes, count = len(table.classes), len(table.unit_names)
    if name in OVERALL and classes:
        return Metric(cells, lambda sums: OVERALL[name](as_confusion(sums, classes)))
    if kind in PER_CLASS and of in table.classes:
        return Metric(cells, lambda sums: PER_CLASS[kind](as_confusion(sums, classes))[..., table.classes.index(of)])
    annotated = table.units is not None and table.unit_probabilities is not None
    if annotated and (name == "unit_f1" or (kind == "f1" and of in table.unit_names)):
        place = None if name == "unit_f1" else table.unit_names.index(of)
        return Metric(_unit_terms, lambda sums: _unit_f1(sums, count) if place is None else _units_f1(sums, count)[..., place])
    axes = [axis for axis in AFFECT if axis in table.affect and f"predicted:{axis}" in table.affect]
    if name in ("ccc_valence", "ccc_arousal") and name[4:] in axes:
        return Metric(lambda rows: _moments(rows, [name[4:]]), affect_figures.concordance_of)
    if len(axes) == 2 and name == "ccc":
        return Metric(lambda rows: _moments(rows, AFFECT), _mean_ccc)
    if len(axes) == 2 and annotated and classes and name == "p":
        first, second = cells(table).shape[1], 14
        return Metric(
            lambda rows: np.concatenate([cells(rows), _moments(rows, AFFECT), _unit_terms(rows)], 1),
            lambda sums: (
                m.macro_f1(as_confusion(sums[..., :first], classes))
                + _mean_ccc(sums[..., first : first + second])
                + _unit_f1(sums[..., first + second :], count)
            ),
        )
    known = [*OVERALL, *(f"{each}:CLASS" for each in PER_CLASS), "ccc_valence", "ccc_arousal", "ccc", "unit_f1", "f1:AUn", "p"]
    if name in known or kind in PER_CLASS:
        raise ConfigError(f"metric {name!r}: the model or the dataset lacks its classes, annotations or outputs", value=name)
    if ":" not in name:
        raise UnknownName(f"unknown metric {name!r}{did_you_mean(name, known, '.')} Known: {', '.join(known)}", value=name)
    found = lookup(name, {}, "metric")
    if not isinstance(found, Metric):
        raise ConfigError(f"{name}: expected a mien.evaluation.report.metrics.Metric, got {type(found).__name__}", value=name)
    return found


def own_metric(name: str, table: Predictions) -> Figures:
    """Return value and 95 % interval of a metric from outside the package.

    Args:
        name: `module:attribute` of a `Metric`, or of a function `Predictions` → number. The interval of a function is a
            bootstrap over `RESAMPLES` tables of resampled persons or images.
        table: the predictions.
    """
    found = lookup(name, {}, "metric")
    if isinstance(found, Metric):
        terms = found.terms(table)
        return _figure(found.formula, terms, m.bootstrap(terms, table.clusters))
    names = np.arange(len(table)).astype(str) if table.clusters is None else table.clusters
    rows = [np.flatnonzero(names == one) for one in np.unique(names)]
    random = np.random.default_rng(0)
    draws = [np.concatenate([rows[i] for i in random.integers(0, len(rows), len(rows))]) for _ in range(RESAMPLES)]
    low, high = m.interval(np.array([float(found(table.take(draw))) for draw in draws]))
    return {"value": float(found(table)), "low": low, "high": high}


def cells(table: Predictions) -> np.ndarray:
    """Return (N, K × (K + 1)): one-hot cells of the confusion matrix for counted images; the last column is "no prediction"."""
    classes = len(table.classes)
    column = np.where(table.predicted < 0, classes, table.predicted)
    found = np.zeros((len(table), classes * (classes + 1)))
    rows = np.flatnonzero(table.counted)
    found[rows, table.truth[rows] * (classes + 1) + column[rows]] = 1
    return found


def as_confusion(sums: np.ndarray, classes: int) -> np.ndarray:
    """Return sums (…, K × (K + 1)) of `cells` as (…, K, K + 1)."""
    return sums.reshape(*sums.shape[:-1], classes, classes + 1)


def _moments(table: Predictions, axes: Sequence[str]) -> np.ndarray:
    return np.concatenate([affect_figures.moments(table.affect[f"predicted:{axis}"], table.affect[axis]) for axis in axes], 1)


def _mean_ccc(sums: np.ndarray) -> np.ndarray:
    return (affect_figures.concordance_of(sums[..., :7]) + affect_figures.concordance_of(sums[..., 7:])) / 2


def _unit_terms(table: Predictions, threshold: float | np.ndarray = 0.5) -> np.ndarray:
    assert table.unit_probabilities is not None and table.units is not None
    return affect_figures.unit_counts(table.unit_probabilities, table.units, threshold).reshape(len(table), -1)


def _units_f1(sums: np.ndarray, count: int) -> np.ndarray:
    return affect_figures.unit_f1_of(sums.reshape(*sums.shape[:-1], count, 4))


def _unit_f1(sums: np.ndarray, count: int) -> np.ndarray:
    values = _units_f1(sums, count)
    known = np.isfinite(values)
    return _ratio(np.where(known, values, 0).sum(-1), known.sum(-1))


def measure(table: Predictions, unit_thresholds: Mapping[str, float] | None = None, own: Sequence[str] = ()) -> Figures:
    """Return all metrics of a table as plain values; undefined ones are None.

    `official` counts images without a prediction as wrong, `answered` excludes them. Intervals are 95 % percentile bootstrap,
    resampling persons (or videos) where they are known.

    Args:
        table: the predictions.
        unit_thresholds: action unit → threshold of its probability, in addition to 0.5.
        own: names for `own_metric`.
    """
    counted = table.take(np.flatnonzero(table.counted))
    clusters = counted.clusters
    found: Figures = {"counts": _counts(table, counted), "intervals": "subjects" if clusters is not None else "images"}
    if table.classes and len(counted):
        found |= _classification(counted, clusters)
        found["groups"] = {name: _group(counted, column, clusters) for name, column in counted.groups.items()}
        found["slices"] = _slices(counted, clusters)
    found |= _affect(table, table.clusters) | _units(table, unit_thresholds or {}, table.clusters)
    if table.classes and "unit_f1" in found and len(found.get("affect", ())) == 2:
        score = metric("p", table)
        terms = score.terms(table)
        found["abaw_p"] = _figure(score.formula, terms, m.bootstrap(terms, table.clusters))
    if own:
        found["own"] = {name: own_metric(name, table) for name in own}
    return plain(found)


def _counts(table: Predictions, counted: Predictions) -> Figures:
    return {
        "images": len(table),
        "unlabeled": int((table.label == "").sum()),
        OTHER_CLASS: int((table.status == OTHER_CLASS).sum()),
        NO_FACE: int((counted.status == NO_FACE).sum()),
        UNREADABLE: int((counted.status == UNREADABLE).sum()),
        "official": len(counted),
        "answered": int((counted.status == OK).sum()),
    }


def _classification(table: Predictions, clusters: np.ndarray | None) -> Figures:
    classes, answered = len(table.classes), table.status == OK
    confusion = cells(table)
    filled = np.where(answered[:, None], table.probabilities, 1 / classes)
    confidence, right = np.where(answered, table.confidence, 0), table.predicted == table.truth
    bins = np.zeros((len(table), BINS))
    bins[np.arange(len(table)), bin_of(confidence)] = np.where(answered, right - confidence, 0)
    certain = table.certain & answered
    more = [
        np.where(answered, m.log_losses(filled, table.truth), 0),
        np.where(answered, squared_errors(filled, table.truth), 0),
        answered,
        certain,
        certain & right,
    ]
    terms = np.concatenate([confusion, bins, np.stack(more, 1)], 1)
    draws = m.bootstrap(terms, clusters)
    width = confusion.shape[1]

    def counts(sums: np.ndarray) -> np.ndarray:
        return as_confusion(sums[..., :width], classes)

    def figure(formula: Callable[[np.ndarray], np.ndarray]) -> Figures:
        return _figure(formula, terms, draws)

    def mean(column: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda sums: _ratio(sums[..., width + BINS + column], sums[..., width + BINS + 2])

    def only(formula: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda sums: formula(counts(sums)[..., :classes])

    whole = counts(terms.sum(0))
    recall = [figure(lambda sums, k=k: m.recalls(counts(sums))[..., k]) for k in range(classes)]
    curve = m.risk_coverage(confidence[answered], right[answered])
    some = np.unique(np.linspace(0, max(len(curve.coverage) - 1, 0), CURVE_POINTS).astype(int))[: len(curve.coverage)]
    return {
        "classes": list(table.classes),
        "official": {
            "n": len(table),
            **{name: figure(lambda sums, f=formula: f(counts(sums))) for name, formula in OVERALL.items()},
        },
        "answered": {
            "n": int(answered.sum()),
            **{name: figure(only(formula)) for name, formula in OVERALL.items()},
            "nll": figure(mean(0)),
            "brier": figure(mean(1)),
            "ece": _biased(
                lambda sums: _ratio(np.abs(sums[..., width : width + BINS]).sum(-1), sums[..., width + BINS + 2]), terms, draws
            ),
        },
        "per_class": {
            name: {
                "n": int(whole[k].sum()),
                "precision": float(m.precisions(whole)[k]),
                "recall": recall[k],
                "f1": float(m.f1_scores(whole)[k]),
            }
            for k, name in enumerate(table.classes)
        },
        "confusion": whole.astype(int).tolist(),
        "abstention": {
            "coverage": figure(lambda sums: _ratio(sums[..., width + BINS + 3], sums[..., width + BINS + 2])),
            "accuracy_when_certain": figure(lambda sums: _ratio(sums[..., width + BINS + 4], sums[..., width + BINS + 3])),
            "aurc": curve.area,
            "curve": {
                "coverage": curve.coverage[some].tolist(),
                "risk": curve.risk[some].tolist(),
                "confidence": curve.threshold[some].tolist(),
            },
        },
        "reliability": [
            {"low": b.low, "high": b.high, "n": b.n, "confidence": b.confidence, "accuracy": b.accuracy}
            for b in m.reliability(confidence[answered], right[answered])
        ],
    }


def _group(table: Predictions, column: np.ndarray, clusters: np.ndarray | None) -> Figures:
    """Return accuracy and UAR of each value of a group column, and the gap between the best and the worst, with intervals."""
    values = [value for value in np.unique(column).tolist() if value]
    classes = len(table.classes)
    confusion = cells(table)
    width = confusion.shape[1]
    place_of = np.array([values.index(value) if value else -1 for value in column.tolist()])
    if clusters is None:  # Images of one group and cell are equal, so one row with a count stands for all of them.
        kind = (place_of + 1) * width + confusion.argmax(1)
        _, first, times = np.unique(kind, return_index=True, return_counts=True)
    else:
        first, times = np.arange(len(table)), None
    shape = (len(first), max(len(values), 1), width)
    terms = np.zeros(shape)
    inside = np.flatnonzero(place_of[first] >= 0)
    terms[inside, place_of[first][inside]] = confusion[first][inside]
    terms = terms.reshape(len(first), -1)
    draws = m.bootstrap(terms, clusters, times=times)
    if times is not None:
        terms = terms * times[:, None]

    def of(place: int, formula: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        part = slice(place * width, (place + 1) * width)
        return lambda sums: formula(as_confusion(sums[..., part], classes))

    found: Figures = {"values": {}, "gap": None}
    for place, value in enumerate(values):
        found["values"][value] = {
            "n": int((column == value).sum()),
            "accuracy": _figure(of(place, m.accuracy), terms, draws),
            "uar": _figure(of(place, m.uar), terms, draws),
        }
    enough = [place for place, value in enumerate(values) if found["values"][value]["n"] >= FEWEST]
    if len(enough) > 1:
        ranked = sorted(enough, key=lambda place: float(of(place, m.accuracy)(terms.sum(0))))
        worst, best = ranked[0], ranked[-1]
        gap = _figure(lambda sums: of(best, m.accuracy)(sums) - of(worst, m.accuracy)(sums), terms, draws)
        found["gap"] = {"best": values[best], "worst": values[worst], "accuracy": gap}
    return found


def _slices(table: Predictions, clusters: np.ndarray | None) -> Figures:
    found: Figures = {}
    right = table.predicted == table.truth
    for name, values in table.slices.items():
        values = np.abs(values) if name in POSE else values
        known = values[np.isfinite(values)]
        if len(known) < 3 * FEWEST or known.min() == known.max():
            continue
        edges = np.unique(POSE_EDGES if name in POSE else np.percentile(known, [100 / 3, 200 / 3]))
        index = np.where(np.isfinite(values), np.searchsorted(edges, values, side="right"), -1)
        bounds = [float(known.min()), *edges.tolist(), float(known.max())]
        rows = []
        for place in range(len(edges) + 1):
            inside = index == place
            if not inside.any():
                continue
            if clusters is None:
                hits = int((inside & right).sum())
                terms, times = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([hits, int(inside.sum()) - hits])
                drawn = m.bootstrap(terms, times=times)
                terms = terms * times[:, None]
            else:
                terms = np.stack([inside & right, inside], 1).astype(np.float64)[inside]
                drawn = m.bootstrap(terms, clusters[inside])
            rows.append(
                {
                    "low": bounds[place],
                    "high": bounds[place + 1],
                    "n": int(inside.sum()),
                    "accuracy": _figure(lambda sums: _ratio(sums[..., 0], sums[..., 1]), terms, drawn),
                }
            )
        if len(rows) > 1:
            found[name] = rows
    return found


def _affect(table: Predictions, cluster: np.ndarray | None) -> Figures:
    found: Figures = {}
    for name in AFFECT:
        if name not in table.affect or f"predicted:{name}" not in table.affect:
            continue
        terms = affect_figures.moments(table.affect[f"predicted:{name}"], table.affect[name])
        draws = m.bootstrap(terms, cluster)
        found[name] = {
            "n": int(terms[:, 0].sum()),
            "ccc": _figure(affect_figures.concordance_of, terms, draws),
            "pearson": _figure(affect_figures.pearson_of, terms, draws),
            "rmse": _figure(affect_figures.rmse_of, terms, draws),
            "sign_agreement": _figure(affect_figures.sign_agreement_of, terms, draws),
        }
    return {"affect": found} if found else {}


def _units(table: Predictions, thresholds: Mapping[str, float], cluster: np.ndarray | None) -> Figures:
    if table.units is None or table.unit_probabilities is None:
        return {}
    count = len(table.unit_names)
    found: Figures = {"units": {name: {} for name in table.unit_names}}
    choices: dict[str, float | np.ndarray] = {"f1": 0.5}
    if thresholds:
        choices["f1_at_thresholds"] = np.array([thresholds.get(name, 0.5) for name in table.unit_names])
    for key, threshold in choices.items():
        terms = _unit_terms(table, threshold)
        draws = m.bootstrap(terms, cluster)
        for index, name in enumerate(table.unit_names):
            found["units"][name][key] = _figure(lambda sums, i=index: _units_f1(sums, count)[..., i], terms, draws)
            found["units"][name]["n"] = int((table.units[:, index] >= 0).sum())
        found[f"unit_{key}"] = _figure(lambda sums: _unit_f1(sums, count), terms, draws)
    return found


def _figure(formula: Callable[[np.ndarray], np.ndarray], terms: np.ndarray, draws: np.ndarray) -> Figures:
    low, high = m.interval(formula(draws))
    return {"value": float(formula(terms.sum(0))), "low": low, "high": high}


def _biased(formula: Callable[[np.ndarray], np.ndarray], terms: np.ndarray, draws: np.ndarray) -> Figures:
    """Return a metric that noise only increases, with its basic interval."""
    value = float(formula(terms.sum(0)))
    low, high = m.basic_interval(formula(draws), value, least=0.0)
    return {"value": value, "low": low, "high": high}


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def plain(value: Any) -> Any:
    """Return values for JSON: NaN becomes None, numbers are rounded to six decimals."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return None if not np.isfinite(value) else round(float(value), 6)
    return int(value) if isinstance(value, np.integer) else value
