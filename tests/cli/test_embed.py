"""`mien embed`: summary, files and plot of one run agree."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from command import mien as run_mien

import mien
from mien import cards
from mien.cli import main


def test_two_models(tmp_path: Path) -> None:
    out, plot = tmp_path / "features.npz", tmp_path / "plots" / "both.svg"
    words = ["embed", "mien-base", "mien-base", "--dataset", "synthetic", "--limit", 28, "--title", "one", "--title", "two"]
    run = run_mien(*words, "--out", out, "--plot", plot, "--method", "pca")
    assert run.returncode == 0, run.stderr
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert [Path(row["file"]).name for row in rows] == ["features-mien-base-1.npz", "features-mien-base-2.npz"]
    with np.load(rows[0]["file"]) as file:
        assert file["features"].shape == (rows[0]["faces"], rows[0]["dimensions"]) == (28, 7)
    assert rows[0]["features"] == "scores, as logarithms" and rows[0]["silhouette"] == rows[1]["silhouette"]
    assert plot.stat().st_size > 10_000


def test_a_plot_joins_a_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mien.evaluate("mien-base", mien.open_dataset("synthetic", split="test"), out=tmp_path, limit=14, page=False)
    words = ["embed", "mien-base", "--dataset", "synthetic", "--limit", "28", "--method", "pca", "--report", str(tmp_path)]
    assert main(words) == 0, capfd.readouterr().err
    (extra,) = mien.Report.read(tmp_path).extra
    version = cards.load("mien-base").version
    assert (extra.section, extra.title) == ("Features", f"PCA of mien-base {version}") and "silhouette" in extra.note


def test_a_missing_package_is_reported_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    assert main(["embed", "mien-base", "--dataset", "synthetic", "--limit", "7", "--out", str(tmp_path / "f.npz")]) == 1
    assert "scikit-learn is not installed" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("words", "message"), [
    ([], "--out"),
    (["--out", "features.txt"], ".npz or .csv or .parquet"),
    (["--plot", "p.png", "--title", "a", "--title", "b"], "given 2 times for 1 models"),
    (["--plot", "p.gif", "--limit", "14"], ".png"),
    (["--report", "nowhere"], "nowhere"),
])  # fmt: skip
def test_mistakes(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["embed", "mien-base", "--dataset", "synthetic", *words]) == 1
    captured = capfd.readouterr()
    assert message in captured.err and not captured.out and not list(tmp_path.iterdir())
