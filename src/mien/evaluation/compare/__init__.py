"""Compare models and recipes on datasets: any metric, with paired tests.

    table = compare(["mien-base", "peer:human=human.npz"], {"fer2013": data}, out="out/compare")
    table.cells["human", "fer2013"].p        # after Holm's correction

The first model is the reference. On the images of both, every other model's difference has a 95 % interval and a p value, with
Holm's correction over the table: McNemar's exact test for the accuracy where persons are unknown, otherwise the paired
bootstrap over images, or over persons (videos) where they are known.

Training runs of one configuration that differ only in seed and fold form a recipe. Recipes are compared too: the metric of a
seed is computed over its folds together, the mean over seeds is compared, and the bootstrap resamples seeds as well.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from ... import metrics as m
from ...config import flattened
from ...data.datasets import Dataset
from ...errors import ConfigError
from ...io.files import write_file
from .. import evaluate
from ..predictors import PEER, split_output
from ..report import Report
from ..report.metrics import Metric
from ..report.metrics import metric as metric_named
from ..report.predictions import Predictions
from .tables import RECIPE_COLUMNS, costs, html, latex, markdown, recipe_rows, row_of, write_rows, write_table

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
    metrics = [metric_named(name, table) for table in tables]
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


__all__ = ["Cell", "Comparison", "Difference", "Value", "compare"]

METRICS = ("accuracy", "uar", "macro_f1")
"""Default metrics; the first one is primary."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One model, or the runs of one recipe, on one dataset: its evaluations, one of a model, one for each run of a recipe.

    `values` is metric → value with interval, undefined metrics missing; `differences` is metric → difference from the
    reference, on the images of both, empty for the reference.
    """

    reports: tuple[Report, ...]
    values: Mapping[str, Value]
    differences: Mapping[str, Difference] = field(default_factory=dict)

    @property
    def report(self) -> Report:
        """Its first evaluation."""
        return self.reports[0]

    @property
    def primary(self) -> Difference | None:
        """The difference in the primary metric."""
        return next(iter(self.differences.values()), None)

    @property
    def p(self) -> float | None:
        """The p value of the primary metric after Holm's correction; None if undefined."""
        return None if self.primary is None else self.primary.p


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole table: models, the reference first, datasets (columns) and metrics, the primary one first.

    `cells` is (model, column) → result, `recipes` (recipe, column) → result of its runs, empty unless a recipe has several, and
    `members` recipe → its models. `warnings` say why numbers of the table are not comparable; `unlike` are the (model, column)
    whose model saw whole images where others saw cropped faces.
    """

    models: tuple[str, ...]
    datasets: tuple[str, ...]
    metrics: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]
    recipes: Mapping[tuple[str, str], Cell]
    members: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]
    unlike: frozenset[tuple[str, str]]

    def trained_on(self, model: str) -> str:
        """Return the training data stated on the card."""
        return str(self._any(model).about["model"].get("card", {}).get("data", ""))

    def costs(self, model: str) -> dict[str, float | None]:
        """Return parameters (without buffers), multiply-accumulates of a face, images per second, and memory in MB."""
        return costs(self._any(model))

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each cell, as in `results/*.csv`."""
        found = []
        for (model, _), cell in self.cells.items():
            row: dict[str, Any] = row_of(cell.report) | {"model": model.partition(", output ")[0]}
            if (one := cell.differences.get("accuracy")) is not None and one.value is not None:
                row |= {"difference": one.value, "difference_low": one.low, "difference_high": one.high}
                row |= {"against": self.models[0], "p": "" if one.p is None else f"{one.p:.2g}"}
            found.append(row)
        return found

    def _any(self, model: str) -> Report:
        return next(cell.report for (name, _), cell in self.cells.items() if name == model)


# Fields of a run's configuration that do not make another recipe.
VARIED = {
    "seed", "data.fold", "out", "resume", "workers", "threads", "device", "devices", "name", "about", "data.root", "data.cache",
}  # fmt: skip
SHOWN = 3  # maximum number of differing fields in a name


@dataclass(frozen=True, slots=True)
class Entry:
    """One evaluation in a comparison."""

    report: Report
    head: str  # requested output, or empty
    column: str
    folder: str  # name of the folder of its evaluations

    @property
    def card(self) -> Mapping[str, Any]:
        """The card of the model; empty for one without."""
        return self.report.about["model"].get("card", {})

    @property
    def seed(self) -> Any:
        """Seed of the run, None if unknown."""
        return self.card.get("training", {}).get("seed")

    @property
    def configuration(self) -> dict[str, Any]:
        """Fields of the run's configuration, without `VARIED`; those of the card for a model outside a run's folder."""
        run = (self.report.about.get("run") or {}).get("config")
        own = ("network", "input", "crop", "labels", "data", *(("origin",) if "members" in self.card else ()))
        stated = run or {key: self.card[key] for key in own if key in self.card}
        fields = {key: value for key, value in flattened(stated).items() if key not in VARIED}
        return fields | {"output": self.head} if self.head else fields


def named(entries: Sequence[Entry]) -> list[str]:
    """Return a name for each entry, equal for the entries of one model on several datasets.

    Models with the same name are distinguished by seed, fold and the fields of their configurations that differ; ConfigError:
    two models cannot be distinguished.
    """
    plain = [entry.report.about["model"]["name"] for entry in entries]
    found = [f"{name}, output {entry.head}" if entry.head else name for name, entry in zip(plain, entries, strict=True)]
    tags = (
        lambda group: _differences([entry.configuration for entry in group]),
        lambda group: [f"seed {entry.seed}" for entry in group],
        lambda group: [f"fold {entry.card.get('training', {}).get('fold')}" for entry in group],
    )
    for tag in tags:
        for name, rows in _groups(found).items():
            several = len({entries[row].folder for row in rows}) > 1
            if several and len(set(texts := tag([entries[row] for row in rows]))) > 1:
                for row, text in zip(rows, texts, strict=True):
                    found[row] = f"{name}, {text}" if text else name
    for name, rows in _groups(found).items():
        if len({entries[row].folder for row in rows}) > 1:
            raise ConfigError(f"two models are named {name!r}; give them different names in their cards", value=name)
    return found


def recipes(names: Sequence[str], entries: Sequence[Entry]) -> dict[str, tuple[str, ...]]:
    """Return name of a recipe → its models: the runs of one configuration; every other model is its own recipe."""
    groups: dict[str, list[str]] = {}
    for name, entry in zip(names, entries, strict=True):
        trained = entry.seed is not None  # A training run, or an ensemble of runs of one seed, may belong to a recipe.
        key = json.dumps(entry.configuration, sort_keys=True, default=str) if trained else name
        groups.setdefault(key, []).append(name)
    taken, found = Counter[str](), {}
    for key, members in groups.items():
        title = key if key in members else members[0].partition(", seed ")[0].partition(", fold ")[0]
        taken[title] += 1
        found[f"{title} ({taken[title]})" if taken[title] > 1 else title] = tuple(dict.fromkeys(members))
    return found


def _groups(names: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        found.setdefault(name, []).append(row)
    return found


def _differences(configurations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the fields that distinguish configurations, as `optim.lr=0.001`: as few as needed, the network first."""
    keys = dict.fromkeys(["model.name", *(key for each in configurations for key in each)])
    unlike = [key for key in keys if len({str(each.get(key)) for each in configurations}) > 1]
    shown: list[str] = []
    texts = [""] * len(configurations)
    for key in unlike[: 10 * SHOWN]:
        more = [", ".join(f"{name}={each.get(name)}" for name in [*shown, key]) for each in configurations]
        if len(set(more)) > len(set(texts)) and len(shown) < SHOWN:
            shown, texts = [*shown, key], more
    return texts


def compare(
    models: Sequence[Any],
    datasets: Mapping[str, Dataset | Callable[[Any], Dataset]],
    *,
    out: str | Path,
    metrics: Sequence[str] = METRICS,
    results: str | Path | None = None,
    progress: Callable[[str, int], None] = lambda what, rows: None,
    **options: Any,
) -> Comparison:
    """Evaluate every model on every dataset, and test the differences from the first model.

    Models are those of `mien.evaluate`; `"MODEL@OUTPUT"` selects an output. `datasets` is name of a column → split, or function
    from a model to the split (of its own fold). `metrics` are names for `mien.evaluation.report.metrics.metric`, the first one
    is primary. The folder `out` receives the evaluations, and `comparison.csv`, `.md`, `.html`, `.tex`, `comparison-table.csv`;
    the rows are added to `results`, a `results/*.csv`, too. `progress` is called with the name of an evaluation and the number
    of rows done; the options are those of `mien.evaluate`.

    Raises ConfigError: no models or datasets, or two models with the same name; UnknownName: unknown metric.
    """
    if not models or not datasets:
        raise ConfigError("compare needs at least one model and one dataset")
    out, entries = Path(out), []
    for place, given in enumerate(models):
        model, head = split_output(given)
        own = getattr(given, "name", None) or getattr(given, "__name__", type(given).__name__)  # the same in every process
        folder = slug(str(given) if isinstance(given, (str, Path)) else own) or f"model{place}"
        for column, data in datasets.items():
            report = evaluate(
                model,
                data if isinstance(data, Dataset) else data(model),
                out=out / folder / slug(column),
                page=False,
                progress=lambda rows, what=f"{folder} on {column}": progress(what, rows),
                **options | ({"output": head} if head else {}),  # pyrefly: ignore
            )
            entries.append(Entry(report, head, column, folder))
    table = tabulate(entries, tuple(metrics))
    for name, text in (("md", markdown(table)), ("html", html(table)), ("tex", latex(table))):
        write_file(out / f"comparison.{name}", text)
    write_table(out / "comparison-table.csv", recipe_rows(table), RECIPE_COLUMNS)
    if not options.get("limit"):
        (out / "comparison.csv").unlink(missing_ok=True)
        for path in (out / "comparison.csv", results):
            if path:
                write_rows(path, table.rows())
    return table


def tabulate(entries: Sequence[Entry], metrics: Sequence[str]) -> Comparison:
    """Return the table of evaluations; raises ConfigError if two models have the same name."""
    names = named(entries)
    reports = {(name, entry.column): entry.report for name, entry in zip(names, entries, strict=True)}
    models, columns = tuple(dict.fromkeys(names)), tuple(dict.fromkeys(entry.column for entry in entries))
    single = {key: {0: [report]} for key, report in reports.items()}
    members = recipes(names, entries)
    pooled: dict[tuple[str, str], dict[Any, list[Report]]] = {}
    for recipe, runs in members.items() if any(len(runs) > 1 for runs in members.values()) else ():
        for name, entry in zip(names, entries, strict=True):
            if name in runs:
                pooled.setdefault((recipe, entry.column), {}).setdefault(entry.seed, []).append(entry.report)
    cells = _tested(models, columns, single, metrics)
    of_recipes = _tested(tuple(members), columns, pooled, metrics) if pooled else {}
    return Comparison(models, columns, tuple(metrics), cells, of_recipes, members, *_inputs(models, columns, reports))


def _tested(
    names: Sequence[str],
    columns: Sequence[str],
    reports: Mapping[tuple[str, str], Mapping[Any, Sequence[Report]]],
    metrics: Sequence[str],
) -> dict[tuple[str, str], Cell]:
    """Return the cells: values of each name, and differences from the first one with Holm's correction for each metric."""
    values = {key: rate(runs, metrics) for key, runs in reports.items()}
    found: dict[tuple[str, str], dict[str, Difference]] = {key: {} for key in reports}
    for metric in metrics:
        keys = [(name, column) for column in columns for name in names[1:]]
        raw = [difference(reports[names[0], column], reports[name, column], metric) for name, column in keys]
        for key, one, corrected in zip(keys, raw, m.holm([math.nan if one.p is None else one.p for one in raw]), strict=True):
            found[key][metric] = one.with_p(corrected)
    return {
        key: Cell(tuple(report for seed in runs.values() for report in seed), values[key], found[key])
        for key, runs in reports.items()
    }


def _inputs(
    models: Sequence[str], columns: Sequence[str], reports: Mapping[tuple[str, str], Report]
) -> tuple[tuple[str, ...], frozenset[tuple[str, str]]]:
    """Return warnings about models whose inputs differ, and these (model, column)."""
    warnings, unlike = [], set()
    for column in columns:
        seen = {name: reports[name, column].about["identity"]["faces"] for name in models if not reports[name, column].stored}
        if len(set(seen.values())) < 2:
            continue
        uncut = [name for name, faces in seen.items() if faces == "whole"]
        unlike |= {(name, column) for name in uncut}
        saw = f"{len(uncut)} model{'s' if len(uncut) > 1 else ''} saw whole images and the others detected faces"
        advice = "Give their cards the crop that they were trained with"
        warnings.append(f"{column}: not comparable, {saw}: {', '.join(uncut)}. {advice}")
    return tuple(warnings), frozenset(unlike)


def slug(text: str) -> str:
    """Return the name of a model or a column as the name of a folder."""
    text = text.removeprefix(PEER).partition("=")[0] if text.startswith(PEER) else text
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")
