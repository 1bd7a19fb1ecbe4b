"""Comparison of models whose answers the tests choose."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mien.comparison import compare
from mien.comparison.rows import KEY, read_rows, write_row
from mien.datasets import Dataset, open_dataset
from mien.errors import ConfigError, DatasetError
from mien.evaluation import StoredPredictor, evaluate


@pytest.fixture(scope="module")
def faces() -> Dataset:
    return open_dataset("synthetic", split="all", number="280")


def peer(tmp_path: Path, name: str, data: Dataset, wrong: np.ndarray, **more: object) -> StoredPredictor:
    """Answers right but for the rows `wrong`."""
    answer = np.where(np.isin(np.arange(len(data)), wrong), (data.label + 1) % 7, data.label)
    probs = np.full((len(data), 7), 0.05)
    probs[np.arange(len(data)), answer] = 0.7
    np.savez(tmp_path / f"{name}.npz", probs=probs, names=data.names, **more)  # type: ignore[arg-type]
    return StoredPredictor(name, tmp_path / f"{name}.npz")


def test_differences_and_their_significance(faces: Dataset, tmp_path: Path) -> None:
    every = np.arange(280)
    models = [
        peer(tmp_path, "good", faces, every[:28]),
        peer(tmp_path, "bad", faces, every[:112]),
        peer(tmp_path, "other", faces, every[10:40]),
    ]
    table = compare(models, {"drawn": faces}, out=tmp_path / "out")
    assert table.models == ("good", "bad", "other")
    bad, other = table.cells["bad", "drawn"], table.cells["other", "drawn"]
    assert bad.difference == pytest.approx(-0.3) and bad.low is not None and bad.low < -0.3 < bad.high < 0  # type: ignore[operator]
    assert bad.p == pytest.approx(2 * stats.binomtest(0, 84).pvalue, rel=1e-6)  # Holm over two tests
    assert bad.stars == "***" and other.stars == ""
    assert other.p == pytest.approx(stats.binomtest(10, 22).pvalue, rel=1e-6)
    assert table.cells["good", "drawn"].p is None
    for kind in ("html", "md", "csv"):
        assert "other" in (tmp_path / "out" / f"comparison.{kind}").read_text()


def test_only_pictures_of_both_are_compared(faces: Dataset, tmp_path: Path) -> None:
    six = np.full((280, 6), 0.04)
    six[np.arange(280), np.minimum(faces.label, 5)] = 0.8
    np.savez(tmp_path / "six.npz", probs=six, labels=np.array(faces.labels[:6]), names=faces.names)
    models = [peer(tmp_path, "seven", faces, np.flatnonzero(faces.label == 6)), StoredPredictor("six", tmp_path / "six.npz")]
    table = compare(models, {"drawn": faces}, out=tmp_path / "out")
    assert table.cells["seven", "drawn"].report.figures["official"]["n"] == 280
    assert table.cells["six", "drawn"].report.figures["official"]["n"] == 240
    assert table.cells["six", "drawn"].difference == 0
    assert "pictures of neutral left out" in (tmp_path / "out" / "comparison.md").read_text()


def test_results_are_rewritten_by_key(faces: Dataset, tmp_path: Path) -> None:
    results = tmp_path / "results" / "x.csv"
    first = evaluate(peer(tmp_path, "a", faces, np.arange(70)), faces, out=tmp_path / "a", page=False)
    write_row(results, first)
    write_row(results, evaluate(peer(tmp_path, "b", faces, np.arange(7)), faces, out=tmp_path / "b", page=False))
    again = evaluate(peer(tmp_path, "a", faces, np.arange(140)), faces, out=tmp_path / "a", page=False, overwrite=True)
    write_row(results, again)
    rows = read_rows(results)
    assert [row["model"] for row in rows] == ["a", "b"]
    assert float(rows[0]["accuracy"]) == 0.5 and float(rows[1]["accuracy"]) == pytest.approx(0.975)
    assert len({tuple(row[name] for name in KEY) for row in rows}) == 2
    assert float(rows[1]["accuracy_low"]) < 0.975 <= float(rows[1]["accuracy_high"])
    with results.open() as file:
        assert all(None not in row for row in csv.DictReader(file))


def test_costs_of_others_are_what_they_state(faces: Dataset, tmp_path: Path) -> None:
    models = [
        peer(tmp_path, "a", faces, np.arange(3), speed=np.array(225.0), memory_mb=np.array(205.0), parameters=np.array(58e3))
    ]
    models.append(peer(tmp_path, "silent", faces, np.arange(3)))
    table = compare(models, {"drawn": faces}, out=tmp_path / "out")
    assert set(table.costs("silent").values()) == {None}
    costs = table.costs("a")
    assert (costs["parameters"], costs["pictures_per_second"], costs["memory_mb"]) == (58e3, 225, 205)


def test_bad_requests_are_told(faces: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one model"):
        compare([], {"drawn": faces}, out=tmp_path)
    twins = [peer(tmp_path, "a", faces, np.arange(3)), peer(tmp_path, "a", faces, np.arange(3))]
    with pytest.raises(ConfigError, match="two of the models are called 'a'"):
        compare(twins, {"drawn": faces}, out=tmp_path / "out")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match="no table of results"):
        read_rows(tmp_path / "other.csv")
    part = evaluate(peer(tmp_path, "a", faces, np.arange(3)), faces, out=tmp_path / "part", limit=50, page=False)
    with pytest.raises(ConfigError, match="only some pictures"):
        write_row(tmp_path / "x.csv", part)
