"""Compare models and recipes on datasets: any metric, with paired tests.

    table = compare(["mien-base", "peer:human=human.npz"], {"fer2013": data}, out="out/compare")
    table.cells["human", "fer2013"].p        # after Holm's correction

The first model is the reference. On the images of both, every other model's difference has a 95 % interval and a p value, with
Holm's correction over the table: McNemar's exact test for the accuracy where persons are unknown, otherwise the paired
bootstrap over images, or over persons (videos) where they are known.

Training runs of one configuration that differ only in seed and fold form a recipe. Recipes are compared too: the metric of a
seed is computed over its folds together, the mean over seeds is compared, and the bootstrap resamples seeds as well.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ... import metrics as m
from ...data.datasets import Dataset
from ...errors import ConfigError
from ...io.files import write_file
from .. import evaluate
from ..predictors import PEER, split_output
from ..report import Report
from .pages import RECIPE_COLUMNS, html, latex, markdown, recipe_rows
from .recipes import Entry, named, recipes
from .rows import costs, row_of, write_rows, write_table
from .statistics import Difference, Value, difference, rate

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
        folder = slug(_given_name(given)) or f"model{place}"
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


def _given_name(model: Any) -> str:
    """Return the name of a model before it is opened, the same in every process."""
    if isinstance(model, (str, Path)):
        return str(model)
    return getattr(model, "name", None) or getattr(model, "__name__", type(model).__name__)


def slug(text: str) -> str:
    """Return the name of a model or a column as the name of a folder."""
    text = text.removeprefix(PEER).partition("=")[0] if text.startswith(PEER) else text
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")
