"""Runs over seeds and settings, and their pooled results."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import config, environment, recipe
from scipy import stats

from mien import cards, open_dataset
from mien.errors import ConfigError, TrainingError
from mien.evaluation import Report
from mien.training import series
from mien.training.loop import train


def test_the_interval_is_students() -> None:
    for count in (2, 5, 11, 20):
        values = np.random.default_rng(count).normal(0.7, 0.02, count).tolist()
        found = series.interval("", "accuracy", values)
        low, high = stats.t.interval(0.95, count - 1, np.mean(values), stats.sem(values))
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
    assert series.interval("", "accuracy", [0.7]).runs == 1


def test_members_are_all_combinations(tmp_path: Path) -> None:
    settings = series.settings_of(series.space(["optim.lr=0.1,0.2", "batch=16"]))
    runs = series.members(config(seed=4), tmp_path, folds=3, seeds=2, settings=settings)
    assert len(runs) == 12 and len({member.out for member in runs}) == 12
    assert runs[0].changes == ("optim.lr=0.1", "batch=16", "seed=4", "data.fold=0", "data.folds=3")
    for wrong in ({"folds": 1}, {"seeds": -1}):
        with pytest.raises(ConfigError):
            series.members(config(), tmp_path, **wrong)
    for wrong in ("optim.lr", "optim.lr=", "optim.lr=1..1", "optim.lr=a..b"):
        with pytest.raises(ConfigError):
            series.space([wrong])


def test_random_settings_lie_in_their_intervals() -> None:
    space = series.space(["optim.lr=1e-4..1e-2", "batch=16..64", "optim.name=sgd,adamw"])
    with pytest.raises(ConfigError):
        series.settings_of(space)
    settings = series.settings_of(space, 200, seed=1)
    rates = [float(each["optim.lr"]) for each in settings]
    assert min(rates) >= 1e-4 and max(rates) <= 1e-2 and 5e-4 < np.median(rates) < 2e-3  # even on a logarithmic scale
    assert {int(each["batch"]) for each in settings} <= {*range(16, 65)}
    assert {each["optim.name"] for each in settings} == {"sgd", "adamw"}
    assert settings == series.settings_of(space, 200, seed=1)
    few = series.settings_of(series.space(["batch=1,2,3,4"]), 2, seed=1)
    assert len({each["batch"] for each in few}) == 2


def test_optuna_searches_and_an_interrupted_search_repeats_its_trials() -> None:
    pytest.importorskip("optuna")
    space = series.space(["optim.lr=1e-5..1", "batch=16,32"])
    trained: list[dict[str, str]] = []

    def train(settings: list[dict[str, str]]) -> list[float]:
        trained.extend(settings)
        return [-abs(math.log10(float(each["optim.lr"])) + 3) - (each["batch"] == "16") for each in settings]

    settings = series.search(space, 40, seed=3, jobs=2, train=train)
    best = max(settings, key=lambda each: train([each])[0])
    assert best["batch"] == "32" and 3e-4 < float(best["optim.lr"]) < 3e-3
    first = trained[:40]
    trained.clear()
    series.search(space, 10, seed=3, jobs=2, train=train)
    assert trained == first[:10]


@pytest.mark.slow
def test_a_series_skips_finished_runs_and_pools_the_rest(tmp_path: Path) -> None:
    path = recipe(tmp_path, epochs=1)
    events: list[tuple[str, str]] = []

    def report(member: series.Member, event: str) -> None:
        events.append((member.out.name, event))

    runs = series.members(config(epochs=1), tmp_path / "runs", seeds=2)
    series.run(path, [], runs[:1], report=report)
    series.run(path, [], runs, report=report)
    assert events == [
        ("seed-1", "started"), ("seed-1", "finished"), ("seed-1", "skipped"), ("seed-2", "started"), ("seed-2", "finished"),
    ]  # fmt: skip
    rows = [json.loads((member.out / "metrics.jsonl").read_text()) for member in runs]
    (found,) = series.pooled(runs, ["accuracy"])
    assert found.mean == pytest.approx(np.mean([row["accuracy"] for row in rows])) and found.runs == 2
    assert cards.read(runs[1].out / "best.toml").training["seed"] == 2
    with pytest.raises(TrainingError) as caught:
        series.run(path, ["batch=100000"], series.members(config(), tmp_path / "failing"), report=report)
    assert caught.value.path == str(tmp_path / "failing")


def test_the_card_of_a_run_names_its_fold(tmp_path: Path) -> None:
    folds = config(epochs=1, data__protocol="subject-folds", data__folds=4, data__fold=2, data__draw=7)
    training = cards.read(train(folds, tmp_path / "fold").with_suffix(".toml")).training
    assert (training["fold"], training["folds"], training["draw"]) == (2, 4, 7)
    assert "fold" not in cards.read(train(config(epochs=1), tmp_path / "run").with_suffix(".toml")).training


@pytest.mark.slow
def test_folds_are_pooled_over_their_test_images(tmp_path: Path) -> None:
    """Every image is tested once, by the run of its fold; the interval is that of whole subjects."""
    path = recipe(tmp_path, epochs=1, data__protocol="subject-folds")
    runs = series.members(config(epochs=1), tmp_path / "runs", folds=3)
    series.run(path, [], runs, report=lambda member, event: None)
    (found,) = series.tested(runs, ["accuracy"])
    tables = [Report.read(member.out / "test").predictions for member in runs]
    assert sorted(np.concatenate([table.sample for table in tables])) == sorted(
        open_dataset("synthetic", split="all", number="120").names
    )
    right = np.concatenate([table.predicted == table.truth for table in tables])
    assert found.mean == pytest.approx(right.mean()) and found.low < found.mean < found.high and found.runs == 3


@pytest.mark.slow
def test_a_killed_sweep_continues(tmp_path: Path) -> None:
    path, out = recipe(tmp_path, epochs=1), tmp_path / "sweep"
    command = [sys.executable, "-m", "mien", "sweep", str(path), "--set", "optim.lr=0.01,0.02", "-o", str(out)]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as sweep:
        assert sweep.stderr is not None
        for line in sweep.stderr:
            if line.startswith("started") and "0.02" in line:
                os.killpg(sweep.pid, signal.SIGKILL)
    assert sweep.returncode == -signal.SIGKILL
    again = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    events = [line.split()[0] for line in again.stderr.splitlines() if line.startswith(("skipped", "started", "finished"))]
    assert events == ["skipped", "started", "finished"]
    settings = {json.loads(line)["setting"] for line in again.stdout.splitlines()}
    assert settings == {"optim.lr=0.01", "optim.lr=0.02"}
