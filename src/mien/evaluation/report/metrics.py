"""Metrics of a table of predictions, with intervals: the content of `metrics.json`.

A `Metric` is a formula over sums of per-image terms, so that one bootstrap gives the interval of any metric, and of the
difference of two models.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from ... import metrics as m
from ...errors import ConfigError, UnknownName, did_you_mean
from ...metrics import affect
from ...metrics.calibration import BINS, bin_of
from ...registry import lookup
from .predictions import AFFECT, NO_FACE, OK, OTHER_CLASS, UNREADABLE, Predictions

Figures = dict[str, Any]
Formula = Callable[[np.ndarray], np.ndarray]

FEWEST = 10  # minimum number of images of a group in a gap
CURVE_POINTS = 200  # points of the stored risk-coverage curve
POSE_EDGES = (10.0, 25.0)  # degrees at which the slices of head pose and gaze are cut
POSE = ("pitch", "yaw", "roll", "gaze")
# Slice → unit. Pose is cut at `POSE_EDGES`, other units into thirds.
CUTS: Mapping[str, str] = {
    "pitch": "degrees, up or down",
    "yaw": "degrees, to either side",
    "roll": "degrees, to either side",
    "gaze": "degrees from the camera",
    "face size": "pixels",
}
RESAMPLES = 200  # resamples for the interval of a plain function

# Key, name and definition of the main metrics, in order.
HEADLINE = (
    ("accuracy", "accuracy", "share of correct predictions"),
    ("uar", "UAR", "mean recall over classes (balanced accuracy)"),
    ("macro_f1", "macro-F1", "mean F1 over classes"),
    ("kappa", "kappa", "Cohen's kappa: agreement beyond chance"),
    ("nll", "NLL", "mean negative log-likelihood"),
    ("brier", "Brier", "squared error of the probabilities, 0 to 2"),
    ("ece", "ECE", "expected calibration error, 15 bins"),
)

OVERALL: Mapping[str, Formula] = {"accuracy": m.accuracy, "uar": m.uar, "macro_f1": m.macro_f1, "kappa": m.kappa}
PER_CLASS: Mapping[str, Formula] = {"recall": m.recalls, "precision": m.precisions, "f1": m.f1_scores}
PER_AXIS: Mapping[str, Formula] = {
    "ccc": affect.concordance_of, "pearson": affect.pearson_of,
    "rmse": affect.rmse_of, "sign_agreement": affect.sign_agreement_of,
}  # fmt: skip


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
    """Return a metric by name, for the classes and action units of a table.

    Names are `accuracy`, `uar`, `macro_f1`, `kappa`; `recall:CLASS`, `precision:CLASS`, `f1:CLASS`; `ccc_valence`,
    `ccc_arousal`, `ccc` (their mean); `unit_f1` (mean over action units), `f1:AUn`; `p` (the ABAW score of all three tasks); or
    `module:attribute` of a `Metric`. Raises UnknownName for an unknown one, ConfigError if the table lacks what it needs.
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
        return Metric(lambda rows: _moments(rows, [name[4:]]), affect.concordance_of)
    if len(axes) == 2 and name == "ccc":
        return Metric(lambda rows: _moments(rows, AFFECT), _mean_ccc)
    if len(axes) == 2 and annotated and classes and name == "p":
        ends = (width := classes * (classes + 1)), width + 14

        def score(sums: np.ndarray) -> np.ndarray:
            confusion, affective, units = np.split(sums, ends, -1)
            return m.macro_f1(as_confusion(confusion, classes)) + _mean_ccc(affective) + _unit_f1(units, count)

        return Metric(lambda rows: np.concatenate([cells(rows), _moments(rows, AFFECT), _unit_terms(rows)], 1), score)
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
    """Return value and 95 % interval of `module:attribute`, a `Metric` or a function `Predictions` → number.

    The interval of a function is a bootstrap over `RESAMPLES` tables of resampled persons or images.
    """
    found = lookup(name, {}, "metric")
    if isinstance(found, Metric):
        return _measured(found, table)
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
    return np.concatenate([affect.moments(table.affect[f"predicted:{axis}"], table.affect[axis]) for axis in axes], 1)


def _mean_ccc(sums: np.ndarray) -> np.ndarray:
    return (affect.concordance_of(sums[..., :7]) + affect.concordance_of(sums[..., 7:])) / 2


def _unit_terms(table: Predictions, threshold: float | np.ndarray = 0.5) -> np.ndarray:
    assert table.unit_probabilities is not None and table.units is not None
    return affect.unit_counts(table.unit_probabilities, table.units, threshold).reshape(len(table), -1)


def _units_f1(sums: np.ndarray, count: int) -> np.ndarray:
    return affect.unit_f1_of(sums.reshape(*sums.shape[:-1], count, 4))


def _unit_f1(sums: np.ndarray, count: int) -> np.ndarray:
    values = _units_f1(sums, count)
    known = np.isfinite(values)
    return m.divide(np.where(known, values, 0).sum(-1), known.sum(-1))


def measure(table: Predictions, unit_thresholds: Mapping[str, float] | None = None, own: Sequence[str] = ()) -> Figures:
    """Return all metrics of a table as plain values; undefined ones are None.

    `official` counts images without a prediction as wrong, `answered` excludes them. Intervals are 95 % percentile bootstrap,
    resampling persons (or videos) where they are known. `unit_thresholds` are used in addition to 0.5, `own` names metrics of
    `own_metric`.
    """
    counted = table.take(np.flatnonzero(table.counted))
    counts = {
        "images": len(table),
        "unlabeled": int((table.label == "").sum()),
        OTHER_CLASS: int((table.status == OTHER_CLASS).sum()),
        **{status: int((counted.status == status).sum()) for status in (NO_FACE, UNREADABLE)},
        "official": len(counted),
        "answered": int((counted.status == OK).sum()),
    }
    found: Figures = {"counts": counts, "intervals": "images" if counted.clusters is None else "subjects"}
    if table.classes and len(counted):
        found |= _classification(counted)
        found["groups"] = {name: _group(counted, column) for name, column in counted.groups.items()}
        found["slices"] = _slices(counted)
    found |= _affect(table) | _units(table, unit_thresholds or {})
    if table.classes and "unit_f1" in found and len(found.get("affect", ())) == 2:
        found["abaw_p"] = _measured(metric("p", table), table)
    if own:
        found["own"] = {name: own_metric(name, table) for name in own}
    return plain(found)


class _Sums:
    """Sums of terms (N, …) of the images of a table by name: over all of them, and over each of (D, …) bootstrap samples."""

    def __init__(self, table: Predictions, **terms: np.ndarray) -> None:
        flat = np.concatenate([each.reshape(len(table), -1) for each in terms.values()], 1)
        ends = np.cumsum([int(np.prod(each.shape[1:])) for each in terms.values()])[:-1]

        def named(sums: np.ndarray) -> SimpleNamespace:
            parts = zip(terms.items(), np.split(sums, ends, -1), strict=True)
            return SimpleNamespace(**{name: part.reshape((*sums.shape[:-1], *each.shape[1:])) for (name, each), part in parts})

        self.whole, self.draws = named(flat.sum(0)), named(m.bootstrap(flat, table.clusters))

    def figure(self, formula: Callable[[Any], np.ndarray]) -> Figures:
        """Return the value of a formula over all images, with its interval."""
        return _figure(formula(self.whole), formula(self.draws))


def _classification(table: Predictions) -> Figures:
    classes, answered = len(table.classes), table.status == OK
    filled = np.where(answered[:, None], table.probabilities, 1 / classes)
    confidence, right = np.where(answered, table.confidence, 0), table.predicted == table.truth
    gaps = np.zeros((len(table), BINS))
    gaps[np.arange(len(table)), bin_of(confidence)] = np.where(answered, right - confidence, 0)
    certain = table.certain & answered
    nll, brier = (np.where(answered, loss(filled, table.truth), 0) for loss in (m.log_losses, m.squared_errors))
    sums = _Sums(
        table, counts=as_confusion(cells(table), classes), gaps=gaps, nll=nll, brier=brier, answered=answered, certain=certain,
        certain_right=certain & right,
    )  # fmt: skip
    whole, figure = sums.whole, sums.figure

    def calibration_error(sums: Any) -> np.ndarray:
        return m.divide(np.abs(sums.gaps).sum(-1), sums.answered)

    # Noise only increases a calibration error, so its interval is the basic one.
    ece = float(calibration_error(whole))
    low, high = m.basic_interval(calibration_error(sums.draws), ece, least=0.0)
    precisions, f1_scores = m.precisions(whole.counts), m.f1_scores(whole.counts)
    curve = m.risk_coverage(confidence[answered], right[answered])
    points = {"coverage": curve.coverage, "risk": curve.risk, "confidence": curve.threshold}
    some = np.unique(np.linspace(0, max(len(curve.coverage) - 1, 0), CURVE_POINTS).astype(int))[: len(curve.coverage)]
    return {
        "classes": list(table.classes),
        "official": {"n": len(table), **{key: figure(lambda s, f=f: f(s.counts)) for key, f in OVERALL.items()}},
        "answered": {
            "n": int(answered.sum()),
            **{key: figure(lambda s, f=f: f(s.counts[..., :classes])) for key, f in OVERALL.items()},
            "nll": figure(lambda s: m.divide(s.nll, s.answered)),
            "brier": figure(lambda s: m.divide(s.brier, s.answered)),
            "ece": {"value": ece, "low": low, "high": high},
        },
        "per_class": {
            name: {
                "n": int(whole.counts[k].sum()),
                "precision": float(precisions[k]),
                "recall": figure(lambda s, k=k: m.recalls(s.counts)[..., k]),
                "f1": float(f1_scores[k]),
            }
            for k, name in enumerate(table.classes)
        },
        "confusion": whole.counts.astype(int).tolist(),
        "abstention": {
            "coverage": figure(lambda s: m.divide(s.certain, s.answered)),
            "accuracy_when_certain": figure(lambda s: m.divide(s.certain_right, s.certain)),
            "aurc": curve.area,
            "curve": {key: values[some].tolist() for key, values in points.items()},
        },
        "reliability": [asdict(each) for each in m.reliability(confidence[answered], right[answered])],
    }


def _by_part(table: Predictions, part: np.ndarray, count: int) -> tuple[list[Figures], np.ndarray, np.ndarray]:
    """Return n, accuracy and UAR of each part of the counted images, and the accuracies (count,) and (D, count).

    `part` (N,) is the part of each image, −1 for none.
    """
    confusion = cells(table)
    width, shape = confusion.shape[1], (count, len(table.classes), len(table.classes) + 1)
    kind = (part + 1) * width + confusion.argmax(1)
    rows, times = kind, None
    if table.clusters is None:  # Images of one part and cell are equal, so one row with a count represents all of them.
        rows, times = np.unique(kind, return_counts=True)
    terms = (rows[:, None] == width + np.arange(count * width)).astype(np.float64)
    draws = m.bootstrap(terms, table.clusters, times=times).reshape(-1, *shape)
    sums = np.bincount(kind, minlength=(count + 1) * width)[width:].reshape(shape)
    formulas = {"accuracy": m.accuracy, "uar": m.uar}
    figures = [
        {"n": int(sums[k].sum()), **{key: _figure(of(sums[k]), of(draws[:, k])) for key, of in formulas.items()}}
        for k in range(count)
    ]
    return figures, m.accuracy(sums), m.accuracy(draws)


def _group(table: Predictions, column: np.ndarray) -> Figures:
    """Return metrics of each value of a group column, and the gap between the best and the worst, with intervals."""
    values = [value for value in np.unique(column).tolist() if value]
    place = np.array([values.index(value) if value else -1 for value in column.tolist()], np.int64)
    figures, accuracy, drawn = _by_part(table, place, len(values))
    gap = None
    enough = [k for k, each in enumerate(figures) if each["n"] >= FEWEST]
    if len(enough) > 1:
        worst, *_, best = sorted(enough, key=accuracy.__getitem__)
        difference = _figure(accuracy[best] - accuracy[worst], drawn[:, best] - drawn[:, worst])
        gap = {"best": values[best], "worst": values[worst], "accuracy": difference}
    return {"values": dict(zip(values, figures, strict=True)), "gap": gap}


def _slices(table: Predictions) -> Figures:
    """Return metrics by head pose and gaze, and by thirds of every other statistic."""
    found: Figures = {}
    for name, values in table.slices.items():
        values = np.abs(values) if name in POSE else values
        known = values[np.isfinite(values)]
        if len(known) < 3 * FEWEST or known.min() == known.max():
            continue
        edges = np.unique(POSE_EDGES if name in POSE else np.percentile(known, [100 / 3, 200 / 3]))
        index = np.where(np.isfinite(values), np.searchsorted(edges, values, side="right"), -1)
        bounds = [float(known.min()), *edges.tolist(), float(known.max())]
        figures, *_ = _by_part(table, index, len(edges) + 1)
        rows = [{"low": bounds[k], "high": bounds[k + 1], **each} for k, each in enumerate(figures) if each["n"]]
        if len(rows) > 1:
            found[name] = rows
    return found


def _affect(table: Predictions) -> Figures:
    found: Figures = {}
    for name in AFFECT:
        if name in table.affect and f"predicted:{name}" in table.affect:
            sums = _Sums(table, moments=_moments(table, [name]))
            figures = {key: sums.figure(lambda s, of=of: of(s.moments)) for key, of in PER_AXIS.items()}
            found[name] = {"n": int(sums.whole.moments[0]), **figures}
    return {"affect": found} if found else {}


def _units(table: Predictions, thresholds: Mapping[str, float]) -> Figures:
    if table.units is None or table.unit_probabilities is None:
        return {}
    names, count = table.unit_names, len(table.unit_names)
    found: Figures = {"units": {name: {"n": int((table.units[:, k] >= 0).sum())} for k, name in enumerate(names)}}
    choices: dict[str, float | np.ndarray] = {"f1": 0.5}
    if thresholds:
        choices["f1_at_thresholds"] = np.array([thresholds.get(name, 0.5) for name in names])
    for key, threshold in choices.items():
        sums = _Sums(table, units=_unit_terms(table, threshold))
        for index, name in enumerate(names):
            found["units"][name][key] = sums.figure(lambda s, k=index: _units_f1(s.units, count)[..., k])
        found[f"unit_{key}"] = sums.figure(lambda s: _unit_f1(s.units, count))
    return found


def _measured(found: Metric, table: Predictions) -> Figures:
    return _Sums(table, all=found.terms(table)).figure(lambda sums: found.formula(sums.all))


def _figure(value: np.ndarray | float, drawn: np.ndarray) -> Figures:
    """Return a value and its 95 % interval, from (D,) bootstrap samples."""
    low, high = m.interval(drawn)
    return {"value": float(value), "low": low, "high": high}


def plain(value: Any) -> Any:
    """Return values for JSON: NaN becomes None, numbers are rounded to six decimals."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return None if not np.isfinite(value) else round(float(value), 6)
    return int(value) if isinstance(value, np.integer) else value
