"""Every figure of a table of predictions, with intervals: the content of `metrics.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ... import metrics as m
from ...metrics import affect as affect_figures
from ...metrics.calibration import BINS, bin_of
from ...metrics.probabilities import squared_errors
from .predictions import AFFECT, NO_FACE, OK, OTHER_CLASS, UNREADABLE, Predictions

Figures = dict[str, Any]

FEWEST = 10
"""Images below which a group takes no part in a gap."""
CURVE_POINTS = 200
"""Points of the stored risk-coverage curve."""
POSE_EDGES = (10.0, 25.0)
"""Degrees at which the slices of yaw and roll are cut."""
CUTS: Mapping[str, str] = {"yaw": "degrees, to either side", "roll": "degrees, to either side", "face size": "pixels"}
"""Slice → unit. Pose is cut at `POSE_EDGES`, everything else into thirds."""


def measure(table: Predictions, unit_thresholds: Mapping[str, float] | None = None) -> Figures:
    """Return all figures of a table as plain values; those that do not exist are None.

    `official` counts images without an answer as wrong; `answered` leaves them out. Intervals are 95 % percentile bootstrap,
    over people where the table says who is shown.

    Args:
        table: the predictions.
        unit_thresholds: action unit → probability above which it is taken as present, beside one half.
    """
    counted = table.take(np.flatnonzero(table.counted))
    clusters = counted.subject if (counted.subject != "").any() else None
    found: Figures = {"counts": _counts(table, counted), "intervals": "subjects" if clusters is not None else "images"}
    if table.classes and len(counted):
        found |= _classification(counted, clusters)
        found["groups"] = {name: _group(counted, column, clusters) for name, column in counted.groups.items()}
        found["slices"] = _slices(counted, clusters)
    cluster = table.subject if (table.subject != "").any() else None
    found |= _affect(table, cluster) | _units(table, unit_thresholds or {}, cluster)
    _abaw(found)
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
    cells = _cells(table)
    filled = np.where(answered[:, None], table.probabilities, 1 / classes)
    confidence, right = np.where(answered, table.confidence, 0), table.answer == table.truth
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
    terms = np.concatenate([cells, bins, np.stack(more, 1)], 1)
    draws = m.bootstrap(terms, clusters)
    width = cells.shape[1]

    def counts(sums: np.ndarray) -> np.ndarray:
        return sums[..., :width].reshape(*sums.shape[:-1], classes, classes + 1)

    def figure(formula: Callable[[np.ndarray], np.ndarray]) -> Figures:
        return _figure(formula, terms, draws)

    def mean(column: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda sums: _ratio(sums[..., width + BINS + column], sums[..., width + BINS + 2])

    def only(formula: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda sums: formula(counts(sums)[..., :classes])

    whole = counts(terms.sum(0))
    kinds = {"accuracy": m.accuracy, "uar": m.uar, "macro_f1": m.macro_f1, "kappa": m.kappa}
    recall = [figure(lambda sums, k=k: m.recalls(counts(sums))[..., k]) for k in range(classes)]
    curve = m.risk_coverage(confidence[answered], right[answered])
    some = np.unique(np.linspace(0, max(len(curve.coverage) - 1, 0), CURVE_POINTS).astype(int))[: len(curve.coverage)]
    return {
        "classes": list(table.classes),
        "official": {
            "n": len(table),
            **{name: figure(lambda sums, f=formula: f(counts(sums))) for name, formula in kinds.items()},
        },
        "answered": {
            "n": int(answered.sum()),
            **{name: figure(only(formula)) for name, formula in kinds.items()},
            "nll": figure(mean(0)),
            "brier": figure(mean(1)),
            "ece": figure(lambda sums: _ratio(np.abs(sums[..., width : width + BINS]).sum(-1), sums[..., width + BINS + 2])),
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


def _cells(table: Predictions) -> np.ndarray:
    """Return (N, K × (K + 1)): a one in the cell of the confusion matrix that each image falls into."""
    classes = len(table.classes)
    column = np.where(table.answer < 0, classes, table.answer)
    cells = np.zeros((len(table), classes * (classes + 1)))
    cells[np.arange(len(table)), table.truth * (classes + 1) + column] = 1
    return cells


def _group(table: Predictions, column: np.ndarray, clusters: np.ndarray | None) -> Figures:
    """Accuracy and UAR of each value of a group column, and the gap between the best and the worst with its interval."""
    values = [value for value in np.unique(column).tolist() if value]
    classes = len(table.classes)
    cells = _cells(table)
    width = cells.shape[1]
    place_of = np.array([values.index(value) if value else -1 for value in column.tolist()])
    if clusters is None:  # few kinds of rows stand for all
        kind = (place_of + 1) * width + cells.argmax(1)
        _, first, times = np.unique(kind, return_index=True, return_counts=True)
    else:
        first, times = np.arange(len(table)), None
    shape = (len(first), max(len(values), 1), width)
    terms = np.zeros(shape)
    inside = np.flatnonzero(place_of[first] >= 0)
    terms[inside, place_of[first][inside]] = cells[first][inside]
    terms = terms.reshape(len(first), -1)
    draws = m.bootstrap(terms, clusters, times=times)
    if times is not None:
        terms = terms * times[:, None]

    def of(place: int, formula: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        part = slice(place * width, (place + 1) * width)
        return lambda sums: formula(sums[..., part].reshape(*sums.shape[:-1], classes, classes + 1))

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
    right = table.answer == table.truth
    for name, values in table.slices.items():
        values = np.abs(values) if name in ("yaw", "roll") else values
        known = values[np.isfinite(values)]
        if len(known) < 3 * FEWEST or known.min() == known.max():
            continue
        edges = np.unique(POSE_EDGES if name in ("yaw", "roll") else np.percentile(known, [100 / 3, 200 / 3]))
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
        terms = affect_figures.unit_counts(table.unit_probabilities, table.units, threshold).reshape(len(table), -1)
        draws = m.bootstrap(terms, cluster)

        def f1(sums: np.ndarray) -> np.ndarray:
            return affect_figures.unit_f1_of(sums.reshape(*sums.shape[:-1], count, 4))

        for index, name in enumerate(table.unit_names):
            found["units"][name][key] = _figure(lambda sums, i=index: f1(sums)[..., i], terms, draws)
            found["units"][name]["n"] = int((table.units[:, index] >= 0).sum())
        found[f"unit_{key}"] = _figure(lambda sums: _nanmean(f1(sums)), terms, draws)
    return found


def _abaw(found: Figures) -> None:
    if "affect" in found and "unit_f1" in found and "official" in found and len(found["affect"]) == 2:
        valence, arousal = (found["affect"][name]["ccc"]["value"] for name in AFFECT)
        found["abaw_p"] = m.abaw_p(valence, arousal, found["official"]["macro_f1"]["value"], found["unit_f1"]["value"])


def _nanmean(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    return _ratio(np.where(known, values, 0).sum(-1), known.sum(-1))


def _figure(formula: Callable[[np.ndarray], np.ndarray], terms: np.ndarray, draws: np.ndarray) -> Figures:
    low, high = m.interval(formula(draws))
    return {"value": float(formula(terms.sum(0))), "low": low, "high": high}


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def plain(value: Any) -> Any:
    """Return values that JSON has: NaN becomes None, numbers are rounded to six decimals."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return None if not np.isfinite(value) else round(float(value), 6)
    return int(value) if isinstance(value, np.integer) else value
