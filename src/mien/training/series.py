"""Several runs of one recipe, over folds, seeds or the values of a sweep, in separate processes, and their pooled results."""

import json
import math
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from ..errors import ConfigError, TrainingError, needs
from .config import TrainConfig


@dataclass(frozen=True, slots=True)
class Member:
    """One run of a series."""

    out: Path
    changes: tuple[str, ...]  # changed fields of the recipe, as `FIELD=VALUE`
    seed: int
    setting: str = ""  # the changes that are not seed or fold, by which results are pooled

    @property
    def done(self) -> bool:
        """Whether the run is complete."""
        return (self.out / "best.toml").is_file() and (self.out / "done").is_file()


def members(
    config: TrainConfig, out: Path, *, folds: int = 0, seeds: int = 0, settings: Sequence[Mapping[str, str]] = ({},)
) -> list[Member]:
    """Return the runs of a series: every setting (field → TOML value), for every seed, for every fold.

    Seeds are counted from the recipe's; 0 means the recipe's single seed or fold. Raises ConfigError for other numbers.
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
        found.append(Member(out.joinpath(*parts), tuple(changes), seed, name))
    return found


@dataclass(frozen=True, slots=True)
class Interval:
    """All values between two numbers, on a logarithmic scale if they are a factor of ten or more apart."""

    low: float
    high: float

    def at(self, share: float) -> str:
        """Return the value at a share, 0 … 1, of the interval, as TOML; a whole number if both ends are."""
        logarithmic = self.low > 0 and self.high >= 10 * self.low
        value = self.low * (self.high / self.low) ** share if logarithmic else self.low + (self.high - self.low) * share
        return str(round(value)) if isinstance(self.low, int) and isinstance(self.high, int) else f"{value:.3g}"


Space = Mapping[str, list[str] | Interval]  # field → TOML values, or an interval of numbers
Setting = dict[str, str]  # field → TOML value


def space(assignments: Sequence[str]) -> Space:
    """Parse `FIELD=VALUE,VALUE…` and `FIELD=LOW..HIGH`; raises ConfigError for others."""
    found: dict[str, list[str] | Interval] = {}
    for text in assignments:
        name, _, values = text.partition("=")
        low, dots, high = values.partition("..")
        try:
            ends = (int(end) if end.isdecimal() else float(end) for end in (low, high) if dots)
            found[name] = Interval(*ends) if dots else [value for value in values.split(",") if value]
        except ValueError:
            found[name] = []
        given = found[name]
        if not (name and given) or (isinstance(given, Interval) and given.low >= given.high):
            expected = "FIELD=VALUE,VALUE or FIELD=LOW..HIGH, for example optim.lr=1e-3,3e-4"
            raise ConfigError(f"--set {text!r} must be {expected}", value=text)
    return found


def settings_of(space: Space, sample: int = 0, seed: int = 0) -> list[Setting]:
    """Return all combinations of the values of a space, or a random sample; ConfigError: all values of an interval."""
    intervals = [name for name, values in space.items() if isinstance(values, Interval)]
    rng = random.Random(seed)
    if intervals and not sample:
        raise ConfigError(f"--set {intervals[0]}=LOW..HIGH needs --sample or --trials", value=intervals[0])
    if intervals:
        draw = lambda values: values.at(rng.random()) if isinstance(values, Interval) else rng.choice(values)  # noqa: E731
        return [{name: draw(values) for name, values in space.items()} for _ in range(sample)]
    every = [dict(zip(space, values, strict=True)) for values in product(*space.values())]  # pyrefly: ignore
    return rng.sample(every, sample) if 0 < sample < len(every) else every


def search(space: Space, trials: int, *, seed: int, jobs: int, train: Callable[[list[Setting]], list[float]]) -> list[Setting]:
    """Search a space with Optuna (TPE), and return the settings that were trained; raises MissingExtra without Optuna.

    Trials follow from the seed and the results so far: the same command repeats the finished ones, whose runs are skipped.
    `jobs` settings are chosen together; `train` trains settings, or skips them, and returns their values, larger is better.
    """
    with needs("sweep", "optuna"):
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=jobs > 1))

    def suggested(trial: Any) -> Setting:
        return {
            name: values.at(trial.suggest_float(name, 0, 1)) if isinstance(values, Interval)
            else trial.suggest_categorical(name, values)
            for name, values in space.items()
        }  # fmt: skip

    done: list[Setting] = []
    while len(done) < trials:
        asked = [study.ask() for _ in range(min(jobs, trials - len(done)))]
        settings = [suggested(trial) for trial in asked]
        for trial, value in zip(asked, train(settings), strict=True):
            study.tell(trial, value)
        done += settings
    return [setting for place, setting in enumerate(done) if setting not in done[:place]]


def score(runs: Sequence[Member], metric: str) -> list[float]:
    """Return, for each setting of finished runs, the mean of what model selection maximizes."""
    from .validation import quality

    values: dict[str, list[float]] = {}
    for member in runs:
        values.setdefault(member.setting, []).append(quality(_best_row(member), "accuracy" if metric == "last" else metric))
    return [statistics.fmean(each) for each in values.values()]


def run(
    recipe: Path, base: Sequence[str], runs: Sequence[Member], *, jobs: int = 1, report: Callable[[Member, str], None]
) -> None:
    """Run or resume the members of a series with the changed fields `base`, each in its own process; skip finished ones.

    `jobs` run at the same time and share the cores; `report` is called with `"skipped"`, `"started"` or `"finished"`. Raises
    TrainingError if a run failed, with its last lines; other runs that had started are finished first.
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
        command += ["--out", str(member.out), "--resume"]
        with (member.out / "output.txt").open("w", encoding="utf-8") as output:
            code = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False).returncode
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
    """Results of the runs of one setting for one metric."""

    setting: str  # changed fields; empty without a sweep
    split: str  # `validation`: the best epochs; `test`: the predictions on the test images of all folds together
    metric: str
    runs: int
    mean: float  # over the runs, of `test` over the seeds
    deviation: float  # standard deviation over the same; NaN for a single one
    # 95 % confidence interval of the mean: Student's t over the runs, NaN for a single one; of `test` the bootstrap over
    # images, or over subjects where they are known, and over seeds.
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
    """Return mean, standard deviation and confidence interval of some values."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Pooled(setting, "validation", metric, 1, mean, math.nan, math.nan, math.nan)
    from scipy.special import stdtrit  # as slow to import as numpy

    deviation = statistics.stdev(values)
    half = stdtrit(len(values) - 1, 0.975) * deviation / math.sqrt(len(values))
    return Pooled(setting, "validation", metric, len(values), mean, deviation, mean - float(half), mean + float(half))


def tested(runs: Sequence[Member], metrics: Sequence[str]) -> Iterator[Pooled]:
    """Yield test metrics of finished runs over folds, each image predicted by the run that tests on it, kept in `test`."""
    from ..evaluation import evaluate
    from ..evaluation.compare import rate
    from .data import open_split

    reports: dict[int, list[Any]] = {}
    for member in runs:
        if member.done:
            config = TrainConfig.load(member.out / "config.toml").data[0]
            data = open_split(config, "test")
            options: dict[str, Any] = {"faces": config.faces, "detector": config.detector, "page": False}
            reports.setdefault(member.seed, []).append(evaluate(member.out, data, out=member.out / "test", **options))
    for metric, value in rate(reports, metrics).items() if reports else ():
        number = sum(map(len, reports.values()))
        deviation = math.nan if value.deviation is None else value.deviation
        yield Pooled("", "test", metric, number, value.value, deviation, value.low, value.high)


def _best_row(member: Member) -> dict[str, Any]:
    rows = [json.loads(line) for line in (member.out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return next(row for row in reversed(rows) if row["best"])
