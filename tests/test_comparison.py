"""Comparisons: the same images, corrected tests, rows of results that are rewritten in place."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import mien.cards
from evaluations import Knowing, drawings
from mien.data.datasets import Dataset
from mien.errors import ConfigError, DatasetError
from mien.evaluation import FunctionPredictor, evaluate
from mien.evaluation.compare import Difference, compare
from mien.evaluation.compare.rows import COLUMNS, KEY, read_rows, write_row
from mien.evaluation.compare.statistics import difference
from mien.metrics import holm, mcnemar


def model(name: str, data: Dataset, right: float) -> FunctionPredictor:
    return FunctionPredictor(Knowing(data, right), name)


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Drawn faces whose subjects are not known."""
    return drawings(210).take(np.arange(210), subject=None)


def test_what_differs_and_what_does_not(data: Dataset, tmp_path: Path) -> None:
    first, worse, same = model("first", data, 0.9), model("worse", data, 0.6), model("same", data, 0.89)
    table = compare([first, worse, same], {"all": data, "half": data[:105]}, out=tmp_path)
    assert table.models == ("first", "worse", "same") and table.datasets == ("all", "half")
    assert table.cells["first", "all"].primary is None and table.cells["first", "all"].p is None
    one = table.cells["worse", "all"].differences["accuracy"]
    assert one.value == pytest.approx(-0.3) and one.low is not None and one.high is not None
    assert one.low < -0.3 < one.high < 0 and one.stars == "***"
    assert table.cells["same", "all"].differences["accuracy"].stars == ""
    # Holm over all four tests; McNemar by the binomial test
    raw = []
    for column, number in (("all", 210), ("half", 105)):
        for name in ("worse", "same"):
            mine, theirs = (table.cells[each, column].report.predictions for each in ("first", name))
            a, b = mine.predicted == mine.truth, theirs.predicted == theirs.truth
            only = int((a & ~b).sum()), int((b & ~a).sum())
            raw.append(stats.binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0)
            assert len(a) == number
    keys = [("worse", "all"), ("same", "all"), ("worse", "half"), ("same", "half")]
    assert [table.cells[key].p for key in keys] == pytest.approx(holm(raw))
    markdown, page = (tmp_path / "comparison.md").read_text(), (tmp_path / "comparison.html").read_text()
    assert "60.0***" in markdown and "60.0***" in page and "worse − first" in markdown and "src=" not in page
    rows = read_rows(tmp_path / "comparison.csv")
    assert len(rows) == 3  # the halves have another digest but the same key as the whole, the last stays
    assert {row["model"] for row in rows} == {"first", "worse", "same"}


def test_rows_are_written_in_place(data: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "results" / "mine.csv"
    for place, right in enumerate((0.5, 0.8, 0.8)):
        name = "a" if place < 2 else "b"
        write_row(path, evaluate(model(name, data, right), data, out=tmp_path / str(place), page=False))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["a", "b"] and tuple(rows[0]) == COLUMNS
    assert float(rows[0]["accuracy"]) == 0.8 and rows[0]["n"] == "210" and rows[0]["views"] == "1"
    assert float(rows[0]["accuracy_low"]) < 0.8 < float(rows[0]["accuracy_high"]) and rows[0]["date"]
    assert len({tuple(row[name] for name in KEY) for row in rows}) == 2
    part = evaluate(model("c", data, 1), data, out=tmp_path / "part", page=False, limit=20)
    with pytest.raises(ConfigError) as caught:
        write_row(path, part)
    assert caught.value.value == 20
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError) as refused:
        write_row(tmp_path / "other.csv", evaluate(model("a", data, 1), data, out=tmp_path / "2", page=False, overwrite=True))
    assert refused.value.path == str(tmp_path / "other.csv") and refused.value.expected == KEY


def test_only_images_of_both_are_compared(data: Dataset, tmp_path: Path) -> None:
    whole = evaluate(model("a", data, 0.5), data, out=tmp_path / "a", page=False)
    order = np.random.default_rng(0).permutation(100)
    part = evaluate(model("b", data, 1), data.take(order), out=tmp_path / "b", page=False)
    assert difference({0: [whole]}, {0: [part]}, "accuracy") == Difference(0, 0, 0, 1, "McNemar")  # equal on the first hundred


def test_without_common_images_there_is_no_difference(data: Dataset, tmp_path: Path) -> None:
    first, second = (
        evaluate(model(name, data, 1), part, out=tmp_path / name, page=False)
        for name, part in (("a", data[:20]), ("b", data[20:60]))
    )
    found = difference({0: [first]}, {0: [second]}, "accuracy").with_p(float("nan"))
    assert found == Difference(None)
    unlabeled = dataclasses.replace(
        data[:20], label=np.full(20, -1), valence=np.zeros(20, np.float32), arousal=np.zeros(20, np.float32)
    )
    table = compare([model("a", data, 1), model("b", data, 1)], {"affect": unlabeled}, out=tmp_path / "affect")
    one = table.cells["b", "affect"].differences["accuracy"]
    assert one == Difference(None) and one.stars == "" and not table.cells["b", "affect"].values
    assert "| b − a | affect | Accuracy | – | – … – |  |  |" in (tmp_path / "affect/comparison.md").read_text()


def test_functions_are_found_again_by_their_names(data: Dataset, tmp_path: Path) -> None:
    for _ in range(2):
        knowing = Knowing(data, 1)
        compare([knowing], {"all": data}, out=tmp_path)
    assert knowing.asked == 0 and (tmp_path / "knowing/all/predictions.csv").is_file()


def test_subjects_are_drawn_whole(data: Dataset, tmp_path: Path) -> None:
    """All of the difference lies in two of twenty subjects: by images it is certain, by subjects it is chance."""
    subject = np.repeat([f"s{i:02}" for i in range(21)], 10)
    known = data.take(np.arange(210), subject=subject)
    mine, theirs = model("a", known, 1), model("b", known, 190 / 210)
    reports = [evaluate(one, known, out=tmp_path / one.name, page=False) for one in (mine, theirs)]
    found = difference({0: reports[:1]}, {0: reports[1:]}, "accuracy")
    assert found.test == "bootstrap over subjects" and found.value == pytest.approx(-20 / 210)
    assert found.high is not None and found.p is not None and found.high >= 0 and found.p > 0.05
    a, b = (report.predictions.predicted == report.predictions.truth for report in reports)
    assert mcnemar(a, b) < 1e-4 and found.low is not None and found.low < found.value


def test_runs_of_several_seeds(tmp_path: Path) -> None:
    """Runs of one recipe are told apart by their seed, and their mean and deviation is stated."""
    data = drawings(70)
    for seed in (1, 2, 3):
        folder = tmp_path / "drawn" / str(seed)
        folder.mkdir(parents=True)
        path = Path(mien.cards.load("mien-base").weights)
        (folder / "best.onnx").write_bytes(path.read_bytes())
        card = path.with_suffix(".toml") if path.with_suffix(".toml").exists() else mien.cards.load("mien-base").path
        text = card.read_text().replace('file = "mien-base.onnx"', 'file = "best.onnx"')
        (folder / "best.toml").write_text(re.sub(r"(?m)^seed = \d+", f"seed = {seed}", text))
    table = compare([str(tmp_path / "drawn" / str(seed)) for seed in (1, 2, 3)], {"drawn": data}, out=tmp_path / "out")
    assert table.models == ("mien-base, seed 1", "mien-base, seed 2", "mien-base, seed 3")
    spread = table.recipes["mien-base", "drawn"].values["accuracy"]
    values = [table.cells[name, "drawn"].report.figures["official"]["accuracy"]["value"] for name in table.models]
    assert spread.seeds == 3 and spread.value == pytest.approx(np.mean(values))
    assert spread.deviation == pytest.approx(np.std(values, ddof=1))
    assert table.members == {"mien-base": table.models}
    assert [row["model"] for row in read_rows(tmp_path / "out/comparison.csv")] == list(table.models)


def test_wrong_comparisons(data: Dataset, tmp_path: Path) -> None:
    first, second = model("a", data, 1), model("a", data, 1)
    second.name = "b"  # another folder
    second.describe = lambda: first.describe()
    with pytest.raises(ConfigError) as caught:
        compare([first, second], {"all": data}, out=tmp_path)
    assert caught.value.value == "a"
    with pytest.raises(ConfigError):
        compare([], {"all": data}, out=tmp_path)


def test_heads_of_one_model(tmp_path: Path) -> None:
    table = compare(["mien-base", "mien-base@fer2013"], {"drawn": drawings(14)}, out=tmp_path)
    assert table.models == ("mien-base", "mien-base, output fer2013")
    assert table.cells["mien-base, output fer2013", "drawn"].report.about["model"]["output"] == "fer2013"
    if importlib.util.find_spec("onnx"):  # which counts them
        assert table.costs("mien-base")["parameters"] > 1e6
    assert table.costs("mien-base")["images_per_second"]
    assert "FER2013 Training split" in table.trained_on("mien-base")


def test_only_its_own_statement_says_what_a_table_cost(data: Dataset, tmp_path: Path) -> None:
    probs = np.full((len(data), 7), 1 / 7)
    np.savez(tmp_path / "silent.npz", probs=probs)
    np.savez(tmp_path / "told.npz", probs=probs, speed=np.array(225.0), memory_mb=np.array(205.0), parameters=np.array(58e3))
    models = [f"peer:{name}={tmp_path / name}.npz" for name in ("silent", "told")]
    table = compare(models, {"drawn": data}, out=tmp_path / "out")
    assert set(table.costs("silent").values()) == {None}
    assert [table.costs("told")[key] for key in ("parameters", "images_per_second", "memory_mb")] == [58e3, 225, 205]
