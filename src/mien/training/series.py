"""Several runs of one recipe, over folds, seeds or the values of a sweep, in separate processes, and their pooled results."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import ConfigError, TrainingError
from .config import TrainConfig

T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5 % quantiles of Student's t for 1 … 10 degrees of freedom; the normal 1.96 is used beyond."""


@dataclass(frozen=True, slots=True)
class Member:
    """One run of a series.

    Attributes:
        out: folder of the run.
        changes: changed fields of the recipe, as `FIELD=VALUE`.
        setting: the changes that are not seed or fold, by which results are pooled.
    """

    out: Path
    changes: tuple[str, ...]
    setting: str = ""

    @property
    def done(self) -> bool:
        """Whether the run is complete."""
        return (self.out / "best.toml").is_file() and (self.out / "done").is_file()


def members(
    config: TrainConfig, out: Path, *, folds: int = 0, seeds: int = 0, settings: Sequence[Mapping[str, str]] = ({},)
) -> list[Member]:
    """Return the runs of a series: every setting, for every seed, for every fold.

    Args:
        config: the recipe.
        out: folder of the series.
        folds: number of folds; 0: the recipe's single fold.
        seeds: number of seeds, counted from the recipe's; 0: the recipe's seed only.
        settings: changed fields, field → TOML value.

    Raises:
        ConfigError: fewer than two folds, or a negative number of seeds.
    """
    if folds == 1 or folds < 0 or seeds < 0:
        raise ConfigError(f"expected 2 or more folds and 1 or more seeds, got {folds} and {seeds}", value=(folds, seeds))
    found = []
    chosen = [config.seed + index for index in range(seeds)] or [config.seed]
    for setting, seed, fold in product(settings, chosen, range(folds) if folds else [None]):
        name = " ".join(f"{field}={value}" for field, value in setting.items())
        changes = [f"{field}={value}" for field, value in setting.items()] + [f"seed={seed}"]
        changes += [f"data.fold={fold}", f"data.folds={folds}"] if fold is not None else []
        parts = [name.replace("/", "_").replace('"', "")] if name else []
        parts += [f"seed-{seed}"] if seeds else []
        parts += [f"fold-{fold}"] if fold is not None else []
        found.append(Member(out.joinpath(*parts), tuple(changes), name))
    return found


def grid(assignments: Sequence[str]) -> list[dict[str, str]]:
    """Return all combinations of `FIELD=VALUE,VALUE…`.

    Raises:
        ConfigError: an assignment without values.

    Example:
        >>> grid(["optim.lr=1e-3,3e-4", "batch=64"])
        [{'optim.lr': '1e-3', 'batch': '64'}, {'optim.lr': '3e-4', 'batch': '64'}]
    """
    fields = {}
    for text in assignments:
        name, _, values = text.partition("=")
        fields[name] = [value for value in values.split(",") if value]
        if not (name and fields[name]):
            raise ConfigError(f"--set {text!r} must be FIELD=VALUE,VALUE, for example optim.lr=1e-3,3e-4", value=text)
    return [dict(zip(fields, values, strict=True)) for values in product(*fields.values())]


def run(
    recipe: Path, base: Sequence[str], runs: Sequence[Member], *, jobs: int = 1, report: Callable[[Member, str], None]
) -> None:
    """Run or resume the members of a series, each in a process of its own; finished ones are skipped.

    Args:
        recipe: the recipe file.
        base: changed fields of all members.
        runs: the members.
        jobs: number of processes at the same time; the cores are divided among them.
        report: called with a member and `"skipped"`, `"started"` or `"finished"`.

    Raises:
        TrainingError: a run failed; its last lines are in the message. Other runs that had started are finished first.
    """
    threads = max((os.cpu_count() or 1) // jobs, 1)
    # With one process each, outer launchers such as torchrun must not be seen by the members.
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    environment["OMP_NUM_THREADS"] = str(threads)
    failed: list[TrainingError] = []

    def one(member: Member) -> None:
        if failed:
            return
        if member.done:
            report(member, "skipped")
            return
        report(member, "started")
        member.out.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "mien", "train", str(recipe), *(f"--{change}" for change in (*base, *member.changes))]
        with (member.out / "output.txt").open("w", encoding="utf-8") as output:
            code = subprocess.run(
                [*command, "--out", str(member.out), "--resume"], env=environment, stdout=output, stderr=output, check=False
            ).returncode
        if code:
            lines = (member.out / "output.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            reason = lines[-1][:300] if lines else f"exit status {code}"
            failed.append(TrainingError(f"run {member.out} failed: {reason}", path=member.out, value=code))
            return
        (member.out / "done").touch()
        report(member, "finished")

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, runs))
    if failed:
        raise failed[0]


@dataclass(frozen=True, slots=True)
class Pooled:
    """Results of the runs of one setting for one metric.

    Attributes:
        setting: changed fields; empty without a sweep.
        metric: name of the metric on the validation split.
        runs: number of runs.
        mean: mean over the runs.
        deviation: standard deviation over the runs; NaN for a single run.
        low, high: 95 % confidence interval of the mean (Student's t); NaN for a single run.
    """

    setting: str
    metric: str
    runs: int
    mean: float
    deviation: float
    low: float
    high: float


def pooled(runs: Sequence[Member], metrics: Sequence[str]) -> Iterator[Pooled]:
    """Yield the results of finished runs, pooled over seeds and folds, for each setting and metric."""
    for setting in dict.fromkeys(member.setting for member in runs):
        rows = [_best_row(member) for member in runs if member.setting == setting and member.done]
        for metric in metrics:
            values = [row[metric] for row in rows if metric in row and math.isfinite(row[metric])]
            if values:
                yield interval(setting, metric, values)


def interval(setting: str, metric: str, values: Sequence[float]) -> Pooled:
    """Return mean, standard deviation and confidence interval of some values.

    Example:
        >>> found = interval("", "accuracy", [0.70, 0.72, 0.74])
        >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
        (0.72, 0.67, 0.77)
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Pooled(setting, metric, 1, mean, math.nan, math.nan, math.nan)
    deviation = statistics.stdev(values)
    degrees = len(values) - 1
    half = (T_975[degrees - 1] if degrees <= len(T_975) else 1.96) * deviation / math.sqrt(len(values))
    return Pooled(setting, metric, len(values), mean, deviation, mean - half, mean + half)


def _best_row(member: Member) -> dict[str, Any]:
    rows = [json.loads(line) for line in (member.out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return next(row for row in reversed(rows) if row["best"])
