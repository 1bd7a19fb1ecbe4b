"""Runs over seeds and settings, and their pooled results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from runs import config, recipe
from scipy import stats

from mien import cards
from mien.errors import ConfigError, TrainingError
from mien.training import series
from mien.training.loop import train


def test_the_interval_is_students() -> None:
    for count in (2, 5, 11):
        values = np.random.default_rng(count).normal(0.7, 0.02, count).tolist()
        found = series.interval("", "accuracy", values)
        low, high = stats.t.interval(0.95, count - 1, np.mean(values), stats.sem(values))
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
    assert series.interval("", "accuracy", [0.7]).runs == 1


def test_members_are_all_combinations(tmp_path: Path) -> None:
    settings = series.grid(["optim.lr=0.1,0.2", "batch=16"])
    runs = series.members(config(seed=4), tmp_path, folds=3, seeds=2, settings=settings)
    assert len(runs) == 12 and len({member.out for member in runs}) == 12
    assert runs[0].changes == ("optim.lr=0.1", "batch=16", "seed=4", "data.fold=0", "data.folds=3")
    for wrong in ({"folds": 1}, {"seeds": -1}):
        with pytest.raises(ConfigError):
            series.members(config(), tmp_path, **wrong)
    with pytest.raises(ConfigError):
        series.grid(["optim.lr"])


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
