"""Several models on several datasets: who was trained on what, does how well where, and what can be told apart.

    table = compare(["mien-base", "peer:human=human.npz"], {"fer2013": data}, out="out/compare")
    table.cells["human", "fer2013"].p        # after Holm's correction

All models see the same images of a dataset. The first one is the reference: for every other the difference in accuracy on
the same images has an interval and a p value, corrected for the number of tests in the table. The test is McNemar's; where
subjects are known, whose images resemble each other, it is the paired bootstrap over subjects.

Runs of one recipe that differ in their seed are rows of their own, and their mean and standard deviation is given too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ... import metrics
from ...cards import ARCHITECTURES
from ...data.datasets import Dataset
from ...errors import ConfigError
from ...io.files import atomic_write
from .. import evaluate
from ..predictors import PEER
from ..report import Report
from .pages import html, markdown
from .rows import costs, row_of, write_rows

__all__ = ["Cell", "Comparison", "Spread", "compare"]

SEED = re.compile(r", seed \d+")
"""What tells the runs of one recipe apart, in the name of a row."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one dataset."""

    report: Report
    """Its evaluation."""
    difference: float | None = None
    """Its accuracy minus that of the reference, on the images of both; None for the reference, or where there are none."""
    low: float | None = None
    """Lower end of the 95 % interval of the difference."""
    high: float | None = None
    """Upper end."""
    p: float | None = None
    """The p value of `test`, after Holm's correction over the whole table."""
    test: str = ""
    """`McNemar`, or `bootstrap over subjects`."""

    @property
    def stars(self) -> str:
        """`***`, `**` or `*` for p below .001, .01 or .05."""
        return "" if self.p is None else "*" * sum(self.p < level for level in (0.05, 0.01, 0.001))


class Spread(NamedTuple):
    """A figure over the seeds of one recipe."""

    mean: float
    deviation: float
    """Standard deviation over seeds (n − 1)."""
    seeds: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole table."""

    models: tuple[str, ...]
    """Names, the reference first."""
    datasets: tuple[str, ...]
    """Names of the columns."""
    cells: Mapping[tuple[str, str], Cell]
    """(model, dataset) → what was found."""

    def trained_on(self, model: str) -> str:
        """Return what its card says about its training data."""
        card = self._any(model).about["model"].get("card", {})
        return str(card.get("data", ""))

    def costs(self, model: str) -> dict[str, float | None]:
        """Return parameters, multiply-accumulates where the architecture is ours, images a second, memory."""
        report = self._any(model)
        return {**costs(report), "macs": _macs(report)}

    def over_seeds(self) -> dict[str, dict[str, Spread]]:
        """Return name without the seed → column → accuracy over seeds, for runs of which there are several seeds."""
        runs: dict[str, list[str]] = {}
        for model in self.models:
            runs.setdefault(SEED.sub("", model), []).append(model)
        found: dict[str, dict[str, Spread]] = {}
        for name, members in runs.items():
            for column in self.datasets if len(members) > 1 else ():
                figures = [self.cells[m, column].report.figures.get("official", {}).get("accuracy") for m in members]
                if values := [figure["value"] for figure in figures if figure]:
                    found.setdefault(name, {})[column] = Spread(*metrics.mean_and_deviation(values), len(values))
        return found

    def rows(self) -> list[dict[str, str]]:
        """Return a row for each cell, as in `results/*.csv`."""
        found = []
        for (model, _), cell in self.cells.items():
            row = row_of(cell.report)
            if seed := SEED.search(model):
                row["model"] += seed.group()
            if cell.difference is not None:
                figures = {"difference": cell.difference, "difference_low": cell.low, "difference_high": cell.high}
                row |= {name: "" if value is None else f"{value:.4f}" for name, value in figures.items()}
                row |= {"against": self.models[0], "p": "" if cell.p is None else f"{cell.p:.2g}"}
            found.append(row)
        return found

    def _any(self, model: str) -> Report:
        return next(cell.report for (name, _), cell in self.cells.items() if name == model)


def compare(
    models: Sequence[Any],
    datasets: Mapping[str, Dataset],
    *,
    out: str | Path,
    results: str | Path | None = None,
    progress: Callable[[str, int], None] = lambda what, rows: None,
    **options: Any,
) -> Comparison:
    """Evaluate every model on every dataset, and say which differ.

    Args:
        models: as for `evaluate`, `"MODEL@OUTPUT"` for one of its heads; the first is the reference.
        datasets: name of the column → the split.
        out: folder; each evaluation lies in a folder of its own there and is not done twice. `comparison.csv`, `.md`, `.html`.
        results: a `results/*.csv` to put the rows into.
        progress: called with the evaluation's name and the number of rows done.
        **options: as for `evaluate`: `output`, `faces`, `tta`, `threads` …

    Raises:
        ConfigError: two models have one name, or there are no models or datasets.
    """
    if not models or not datasets:
        raise ConfigError("a comparison needs one model and one dataset at least")
    out = Path(out)
    found: list[tuple[Report, str, str]] = []
    for place, given in enumerate(models):
        model, head = _head(given)
        folder = slug(_called(given)) or f"model{place}"
        for column, data in datasets.items():
            report = evaluate(
                model,
                data,
                out=out / folder / slug(column),
                page=False,
                progress=lambda rows, what=f"{folder} on {column}": progress(what, rows),
                **options | ({"output": head} if head else {}),  # pyrefly: ignore
            )
            found.append((report, head, column))
    seeds = _seeds([report for report, _, _ in found])
    reports: dict[tuple[str, str], Report] = {}
    for report, head, column in found:
        name = _name(report, seeds) + (f", {head}" if head else "")
        if (name, column) in reports:
            raise ConfigError(f"two of the models are called {name!r}; give them different names in their cards")
        reports[name, column] = report
    names = list(dict.fromkeys(name for name, _ in reports))
    table = Comparison(tuple(names), tuple(datasets), _tested(names, list(datasets), reports))
    _write(out / "comparison.md", markdown(table))
    _write(out / "comparison.html", html(table))
    if not options.get("limit"):
        (out / "comparison.csv").unlink(missing_ok=True)
        write_rows(out / "comparison.csv", table.rows())
        if results:
            write_rows(results, table.rows())
    return table


def _tested(names: list[str], columns: list[str], reports: Mapping[tuple[str, str], Report]) -> dict[tuple[str, str], Cell]:
    cells = {key: Cell(report) for key, report in reports.items()}
    tested: list[tuple[str, str]] = []
    values: list[float] = []
    for column in columns:
        for name in names[1:]:
            value, (low, high), p, test = difference(reports[names[0], column], reports[name, column])
            cells[name, column] = Cell(reports[name, column], *map(_known, (value, low, high)), test=test)
            tested.append((name, column))
            values.append(p)
    for key, corrected in zip(tested, metrics.holm(values), strict=True):
        cells[key] = replace(cells[key], p=_known(corrected))
    return cells


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def difference(reference: Report, other: Report) -> tuple[float, tuple[float, float], float, str]:
    """Return the difference in accuracy on the images that count for both, its interval, the p value and its test's name.

    NaN where no image counts for both.
    """
    first, second = reference.predictions, other.predictions
    place = {name: row for row, name in enumerate(second.sample.tolist())}
    pairs = np.array([(row, place[name]) for row, name in enumerate(first.sample.tolist()) if name in place], np.int64).reshape(
        -1, 2
    )
    both = first.counted[pairs[:, 0]] & second.counted[pairs[:, 1]]
    mine, theirs = pairs[both].T
    right = first.answer[mine] == first.truth[mine], second.answer[theirs] == second.truth[theirs]
    if not both.any():
        return float("nan"), (float("nan"), float("nan")), float("nan"), ""
    terms = np.stack([right[1] * 1.0 - right[0], np.ones(len(mine))], 1)
    cluster = first.subject[mine] if (first.subject[mine] != "").any() else None
    value, interval, p = metrics.paired_bootstrap(terms, lambda sums: sums[..., 0] / sums[..., 1], cluster)
    if cluster is not None:
        return value, interval, p, "bootstrap over subjects"
    return value, interval, metrics.mcnemar(*right), "McNemar"


def _seeds(reports: Sequence[Report]) -> dict[str, set[Any]]:
    """Return name of a model → the seeds that runs of this name had."""
    seeds: dict[str, set[Any]] = {}
    for report in reports:
        seeds.setdefault(report.about["model"]["name"], set()).add(_seed(report))
    return seeds


def _name(report: Report, seeds: Mapping[str, set[Any]]) -> str:
    """Return the name of a row; with the seed of the run where several runs of one name are compared."""
    name = report.about["model"]["name"]
    return f"{name}, seed {_seed(report)}" if len(seeds[name]) > 1 else name


def _seed(report: Report) -> Any:
    return report.about["model"].get("card", {}).get("training", {}).get("seed")


def _macs(report: Report) -> float | None:
    network = report.about["model"].get("card", {}).get("network", {}).get("architecture", "")
    described = json.loads(ARCHITECTURES.read_text(encoding="utf-8"))
    return described.get(network, {}).get("macs")


def _called(model: Any) -> str:
    """Return by what a model is called before it is opened: the same in every process."""
    if isinstance(model, (str, Path)):
        return str(model)
    return getattr(model, "name", None) or getattr(model, "__name__", type(model).__name__)


def _head(model: Any) -> tuple[Any, str]:
    """Return a model and the head that is asked for behind an @."""
    if not isinstance(model, str) or model.startswith(PEER) or "@" not in model:
        return model, ""
    name, _, head = model.rpartition("@")
    return name, head


def slug(text: str) -> str:
    """Return what a model or a column is called, as the name of a folder."""
    text = text.removeprefix(PEER).partition("=")[0] if text.startswith(PEER) else text
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
