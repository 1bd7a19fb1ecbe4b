"""Comparisons: the same images, corrected tests, rows of results that are rewritten in place."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from scipy import stats

import mien.cards
from evaluations import Knowing, drawings
from mien.cli import main
from mien.data.datasets import Dataset, Draw, open_dataset
from mien.data.labeled_faces import Face
from mien.errors import ConfigError, DatasetError, UnknownName
from mien.evaluation import FunctionPredictor, evaluate
from mien.evaluation.compare import Difference, compare, difference
from mien.evaluation.compare.tables import COLUMNS, KEY, read_rows, tables, write_row
from mien.evaluation.predictors import Outputs
from mien.evaluation.report.metrics import Metric
from mien.evaluation.report.predictions import Predictions
from mien.evaluation.tta import View
from mien.labels import ACTION_UNITS, FER2013
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
    assert knowing.seen == 0 and (tmp_path / "knowing/all/predictions.csv").is_file()


def test_subjects_are_drawn_whole(data: Dataset, tmp_path: Path) -> None:
    """The whole difference comes from two of twenty subjects: significant over images, not over subjects."""
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
    """Runs of one recipe are distinguished by their seed and have mean and deviation."""
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
    assert "FER2013 training split" in (data := table.trained_on("mien-base"))
    cells = [cell for _, _, rows in tables(table) for row in rows for cell in row]
    assert cells.count(data) == len(table.models)  # once, not in the tables of every metric


def test_only_its_own_statement_says_what_a_table_cost(data: Dataset, tmp_path: Path) -> None:
    probs = np.full((len(data), 7), 1 / 7)
    np.savez(tmp_path / "silent.npz", probs=probs)
    np.savez(tmp_path / "stated.npz", probs=probs, speed=np.array(225.0), memory_mb=np.array(205.0), parameters=np.array(58e3))
    models = [f"peer:{name}={tmp_path / name}.npz" for name in ("silent", "stated")]
    table = compare(models, {"drawn": data}, out=tmp_path / "out")
    assert set(table.costs("silent").values()) == {None}
    assert [table.costs("stated")[key] for key in ("parameters", "images_per_second", "memory_mb")] == [58e3, 225, 205]


def run_of(root: Path, name: str, seed: int, fold: int | None = None, **config: object) -> str:
    """A training run: mien-base's weights with the card and config of a run."""
    folder = root / name / str(seed if fold is None else f"{seed}-{fold}")
    folder.mkdir(parents=True)
    base = mien.cards.load("mien-base")
    (folder / "best.onnx").write_bytes(Path(base.weights).read_bytes())
    training = {"seed": seed} | ({} if fold is None else {"fold": fold, "folds": 3})
    data = "synthetic, subject-folds, number=42" if fold is not None else base.data
    card = dataclasses.replace(base, name=name, file="best.onnx", training=training, data=data, measured=())
    (folder / "best.toml").write_text(tomli_w.dumps(card.to_dict()))
    rows = [{"epoch": epoch, "loss": 2.0 - epoch, "accuracy": 0.5 + epoch / 10} for epoch in range(2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"seed": seed, "optim": {"lr": 0.1}, "data": {"fold": fold or 0}} | config
    (folder / "config.toml").write_text(tomli_w.dumps(settings))
    return str(folder)


def test_runs_are_grouped_by_configuration_and_not_by_name(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / "a", "net", seed) for seed in (1, 2)] + [run_of(tmp_path / "b", "net", 3, optim={"lr": 0.01})]
    table = compare(runs, {"drawn": drawings(28)}, out=tmp_path / "out")
    assert sorted(map(len, table.members.values())) == [1, 2]
    pair = next(members for members in table.members.values() if len(members) == 2)
    assert all("optim.lr=0.1" in name for name in pair) and {name[-6:] for name in pair} == {"seed 1", "seed 2"}


def test_recipes_over_seeds_and_folds(tmp_path: Path) -> None:
    """Each run is evaluated on its own fold; a recipe has all images, and its difference to itself is zero."""
    cases = [(name, seed, fold) for name in ("one", "two") for seed in (1, 2) for fold in (0, 1, 2)]
    runs = [run_of(tmp_path, name, seed, fold, model={"name": name}) for name, seed, fold in cases]

    def own_fold(model: str) -> Dataset:
        fold = mien.cards.read(Path(model) / "best.toml").training["fold"]
        return open_dataset("synthetic", split="test", protocol="subject-folds", draw=Draw(folds=3, fold=fold), number="42")

    metrics = ("accuracy", "f1:fear", "uar")
    table = compare(runs, {"drawn": own_fold}, out=tmp_path / "out", metrics=metrics)
    assert {name: len(members) for name, members in table.members.items()} == {"one": 6, "two": 6}
    cell = table.recipes["two", "drawn"]
    assert sum(report.figures["counts"]["official"] for report in cell.reports) == 2 * 42
    assert (cell.values["uar"].seeds, cell.values["uar"].folds) == (2, 3) and tuple(cell.values) == metrics
    assert cell.differences["accuracy"].value == 0 and cell.differences["f1:fear"].p == 1
    assert cell.differences["uar"].test == "bootstrap over subjects and seeds"
    text = (tmp_path / "out/comparison.tex").read_text()
    assert text.count("\\midrule") == 1 and "f1:fear" in text and text.count(r" \\") == 4
    with (tmp_path / "out/comparison-table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and {row["metric"] for row in rows} == set(metrics)


def test_a_recipe_is_tested_over_images_and_seeds(data: Dataset, tmp_path: Path) -> None:
    """Differences larger than the spread of images and seeds are significant, others are not."""
    reports = {
        name: {seed: [evaluate(model(f"{name}{seed}", data, right), data, out=tmp_path / f"{name}{seed}", page=False)]
               for seed, right in enumerate(shares)}
        for name, shares in {"low": (0.5, 0.55), "high": (0.8, 0.85), "like": (0.5, 0.57)}.items()
    }  # fmt: skip
    better, alike = (difference(reports["low"], reports[name], "macro_f1") for name in ("high", "like"))
    assert better.value is not None and better.p is not None and better.p < 0.01 and better.low is not None and better.low > 0
    assert alike.p is not None and alike.p > 0.05
    assert better.test == "bootstrap over images and seeds"


def test_other_inputs_are_marked(shared: Path, tmp_path: Path) -> None:
    """A model without a crop contract sees whole photographs, and cannot be compared with models that see faces."""
    photos = open_dataset("london", shared / "data" / "london", "test")[:4]
    card = dataclasses.replace(mien.cards.load("mien-nano"), name="uncut", crop=None, measured=())
    folder = tmp_path / "uncut"
    folder.mkdir()
    (folder / "best.onnx").write_bytes(Path(mien.cards.load("mien-nano").weights).read_bytes())
    (folder / "best.toml").write_text(tomli_w.dumps(dataclasses.replace(card, file="best.onnx").to_dict()))
    table = compare(["mien-nano", str(folder)], {"london": photos}, out=tmp_path / "out")
    assert table.unlike == {("uncut", "london")} and len(table.warnings) == 1
    for kind in ("md", "html", "tex"):
        text = (tmp_path / f"out/comparison.{kind}").read_text()
        assert "not comparable" in text and ("†" in text or "dagger" in text)
    assert any("whole image" in note for note in table.cells["uncut", "london"].report.about["dataset"]["notes"])


def test_metrics_of_all_tasks(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    valence, arousal = random.uniform(-1, 1, (2, 70)).astype(np.float32)
    units = random.integers(0, 2, (70, 12)).astype(np.int8)
    data = dataclasses.replace(
        drawings(70), valence=valence, arousal=arousal, action_units=units, unit_names=ACTION_UNITS, subject=np.arange(70) // 7
    )

    class Tasks:
        labels, threshold, cuts_faces, roles = FER2013, 0.0, False, ("valence_arousal", "action_units")

        def __init__(self, name: str, noise: float) -> None:
            self.name, self.noise = name, noise

        def prepare(self, data: Dataset) -> None:
            pass

        def describe(self) -> dict[str, str]:
            return {"name": self.name, "version": "1", "sha256": "", "output": ""}

        def __call__(self, faces: Sequence[Face], views: Sequence[View]) -> Outputs:
            rows = [face.row for face in faces]
            noise = self.noise * np.random.default_rng(1).normal(size=(len(rows), 2))
            light = np.zeros((len(rows), 2))
            both = np.stack([valence[rows], arousal[rows]], 1) + noise
            return Outputs(np.eye(7)[data.label[rows]], light, both, np.abs(units[rows] - 0.6 * (self.noise > 1)))

    metrics = ("ccc", "ccc_valence", "unit_f1", "f1:AU12", "p", "macro_f1")
    table = compare([Tasks("good", 0.01), Tasks("poor", 2.0)], {"all": data}, out=tmp_path, metrics=metrics)
    good, poor = (table.cells[name, "all"].values for name in ("good", "poor"))
    assert good["p"].value == pytest.approx(3, abs=0.01) and good["ccc"].value > 0.99 > 0.6 > poor["ccc"].value
    assert table.cells["poor", "all"].differences["ccc"].stars and table.cells["poor", "all"].differences["p"].value < -0.3
    with pytest.raises(UnknownName):
        compare([Tasks("good", 0.01)], {"all": data}, out=tmp_path, metrics=("charm",))


def fear_share(table: Predictions) -> float:
    """A metric from outside the package: the share of images that are predicted to show fear."""
    return float((table.predicted == table.classes.index("fear")).mean())


ERROR_RATE = Metric(
    lambda table: np.stack([table.predicted != table.truth, np.ones(len(table))], 1), lambda sums: sums[..., 0] / sums[..., 1]
)


def test_metrics_from_outside(data: Dataset, tmp_path: Path) -> None:
    names = ("test_comparison:fear_share", "test_comparison:ERROR_RATE")
    report = evaluate(model("a", data, 0.8), data, out=tmp_path / "a", metrics=names)
    share, error = (report.figures["own"][name] for name in names)
    assert error["value"] == pytest.approx(0.2) and error["low"] < 0.2 < error["high"]
    assert share["low"] < share["value"] < share["high"] and names[0] in (tmp_path / "a/report.html").read_text()
    table = compare([model("a", data, 0.8), model("b", data, 0.5)], {"all": data}, out=tmp_path / "out", metrics=names[1:])
    assert table.cells["b", "all"].differences[names[1]].value == pytest.approx(0.3)


def test_curves_of_several_runs(tmp_path: Path) -> None:
    runs = [run_of(tmp_path, name, 1) for name in ("one", "two")]
    assert main(["curves", *runs, "--out", str(tmp_path / "curves.svg")]) == 0
    assert (tmp_path / "curves.svg").stat().st_size > 5000
    assert main(["curves", str(tmp_path), "--out", str(tmp_path / "none.svg")]) == 1
