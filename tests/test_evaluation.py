"""Evaluation with the bundled model on drawn faces and real photographs: the table, the mapping, stops, and bad input."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from miniatures import MINIATURES, write
from PIL import Image
from sklearn import metrics as reference

import mien
from mien.cards import load as load_card
from mien.datasets import Dataset, open_dataset
from mien.errors import ConfigError, DatasetError, MienError, WeightsError
from mien.evaluation import evaluate
from mien.evaluation.mapping import mapping
from mien.evaluation.predictors import open_predictor
from mien.evaluation.views import views
from mien.labels import AFFECTNET8, FER2013, JAFFE6
from mien.preprocessing import Preprocess
from mien.report import Report
from mien.runtime import open_model


@pytest.fixture(scope="module")
def faces() -> Dataset:
    """42 drawn faces of three drawings that the training split does not hold."""
    return open_dataset("synthetic", split="test", number="280")


@pytest.fixture(scope="module")
def report(faces: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return evaluate("mien-base", faces, out=tmp_path_factory.mktemp("report"), page=False)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Oracle:
    """Knows the answer of a synthetic picture by its pixels; the tests decide which it gets wrong."""

    labels = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")

    def __init__(self, data: Dataset, wrong: int = 0) -> None:
        self.known = {data[i].read().tobytes(): int(data.label[i]) for i in range(len(data))}
        self.wrong, self.calls = wrong, 0

    def __call__(self, pictures: list[np.ndarray]) -> np.ndarray:
        answer = np.full((len(pictures), 7), 0.1 / 6)
        for i, picture in enumerate(pictures):
            right = self.known[picture.tobytes()]
            answer[i, (right + 1) % 7 if self.calls < self.wrong else right] = 0.9
            self.calls += 1
        return answer


def test_the_table_holds_what_inference_says_bit_for_bit(report: Report, faces: Dataset) -> None:
    card, run = open_model("mien-base")
    prepare = Preprocess.of(card)
    batch = prepare.tensor(np.stack([prepare.whole(faces[i].read()) for i in range(len(faces))]))
    scores = run(batch)[card.outputs["scores"]]
    found = np.array([[float(row[f"p:{name}"]) for name in card.labels] for row in rows(report.folder)])
    np.testing.assert_allclose(found, scores, atol=1e-6)
    read = mien.load(detector="whole", points=False, actions=False)
    for i in (0, 7, 20):
        face = read(faces[i].read()).faces[0]
        assert rows(report.folder)[i]["predicted"] == face.label
        assert float(rows(report.folder)[i]["confidence"]) == pytest.approx(face.confidence, abs=1e-5)
        assert rows(report.folder)[i]["certain"] == ("yes" if face.certain else "no")


def test_figures_agree_with_scikit_learn_on_the_table(report: Report) -> None:
    table = rows(report.folder)
    truth, answer = [row["label"] for row in table], [row["predicted"] for row in table]
    official = report.figures["official"]
    assert official["n"] == len(table)
    assert official["accuracy"]["value"] == pytest.approx(reference.accuracy_score(truth, answer), abs=1e-6)
    assert official["uar"]["value"] == pytest.approx(reference.balanced_accuracy_score(truth, answer), abs=1e-6)
    f1 = reference.f1_score(truth, answer, labels=sorted(set(truth)), average="macro")
    assert official["macro_f1"]["value"] == pytest.approx(f1, abs=1e-6)
    assert official["accuracy"]["low"] <= official["accuracy"]["value"] <= official["accuracy"]["high"]
    assert report.figures["intervals"] == "subjects"


def test_what_was_evaluated_stands_beside_the_table(report: Report, faces: Dataset) -> None:
    about = json.loads((report.folder / "evaluation.json").read_text())
    assert about["model"]["sha256"] == load_card("mien-base").sha256
    assert about["dataset"]["digest"] == faces.digest and about["dataset"]["pictures"] == len(faces)
    assert about["mapping"]["classes"] == list(FER2013)
    assert "numpy" in about["environment"]["packages"]
    assert not list(report.folder.glob("*.part"))


def test_figures_come_from_the_files_alone(report: Report, tmp_path: Path) -> None:
    shutil.copytree(report.folder, tmp_path / "copy")
    (tmp_path / "copy" / "metrics.json").unlink()
    again = Report.read(tmp_path / "copy")
    again.write(page=False)
    assert (tmp_path / "copy" / "metrics.json").read_bytes() == (report.folder / "metrics.json").read_bytes()


def test_a_finished_evaluation_asks_no_more(faces: Dataset, tmp_path: Path) -> None:
    oracle = Oracle(faces, wrong=5)
    first = evaluate(oracle, faces, out=tmp_path, page=False)
    assert first.figures["official"]["accuracy"]["value"] == pytest.approx(1 - 5 / len(faces), abs=1e-6)
    asked = oracle.calls
    evaluate(oracle, faces, out=tmp_path, page=False)
    assert oracle.calls == asked
    evaluate(oracle, faces, out=tmp_path, page=False, overwrite=True)
    assert oracle.calls == asked + len(faces)
    with pytest.raises(ConfigError, match="holds another evaluation"):
        evaluate(Oracle(faces), faces.take(np.arange(9)), out=tmp_path, page=False)
    evaluate(Oracle(faces), faces.take(np.arange(9)), out=tmp_path, page=False, overwrite=True)
    assert len(rows(tmp_path)) == 9


def test_a_stopped_evaluation_goes_on_where_it_was(faces: Dataset, report: Report, tmp_path: Path) -> None:
    """The rows there, the last of them torn, stay; the result is that of an evaluation that never stopped."""
    lines = (report.folder / "predictions.csv").read_bytes().splitlines(keepends=True)
    about = json.loads((report.folder / "evaluation.json").read_text())
    (tmp_path / "evaluation.json.part").write_text(json.dumps(about))
    (tmp_path / "predictions.csv.part").write_bytes(b"".join(lines[:11]) + lines[11][:9])
    done: list[int] = []
    evaluate("mien-base", faces, out=tmp_path, page=False, progress=done.append)
    assert done[0] == 10 and sum(done) == len(faces)
    ours, theirs = rows(tmp_path), rows(report.folder)
    assert [(row["sample"], row["predicted"]) for row in ours] == [(row["sample"], row["predicted"]) for row in theirs]


@pytest.mark.skipif(os.name == "nt", reason="processes end otherwise there")
def test_a_killed_process_leaves_whole_rows_and_no_result(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = f"""
import mien, time
data = mien.open_dataset("synthetic", split="test", number="350")
mien.evaluate("mien-base", data, out={str(out)!r}, batch=4, page=False, progress=lambda rows: time.sleep(0.05))
"""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
    table = out / "predictions.csv.part"
    while not (table.is_file() and table.read_bytes().count(b"\n") > 8):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "predictions.csv").exists() and not (out / "evaluation.json").exists()
    data = open_dataset("synthetic", split="test", number="350")
    done: list[int] = []
    found = evaluate("mien-base", data, out=out, batch=64, page=False, progress=done.append)
    assert done[0] >= 7 and sum(done) == len(data) == len(found.predictions)
    whole = evaluate("mien-base", data, out=tmp_path / "whole", page=False)
    assert [row["sample"] for row in rows(out)] == [row["sample"] for row in rows(tmp_path / "whole")]
    np.testing.assert_allclose(found.predictions.probabilities, whole.predictions.probabilities, atol=1e-5)


def test_pictures_without_a_face_stay_in_the_denominator(sample: Path, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / "data" / "happiness").mkdir(parents=True, exist_ok=True)
        shutil.copy(sample, tmp_path / "data" / "happiness" / f"{number}.png")
    write(tmp_path / "data" / "neutral" / "sky.png", np.full((300, 300, 3), 128, np.uint8))
    (tmp_path / "data" / "neutral" / "broken.png").write_bytes(b"no picture")
    data = open_dataset("folder", tmp_path / "data", "all", "cross-dataset")
    found = evaluate("mien-base", data, out=tmp_path / "out", faces="detect", page=False)
    assert [row["status"] for row in rows(tmp_path / "out")] == ["ok", "ok", "unreadable", "no face"]
    figures = found.figures
    assert figures["official"]["accuracy"]["value"] == 0.5 and figures["official"]["n"] == 4
    assert figures["answered"]["accuracy"]["value"] == 1 and figures["answered"]["n"] == 2
    assert figures["counts"]["no face"] == figures["counts"]["unreadable"] == 1
    assert all(row["predicted"] == row["confidence"] == "" for row in rows(tmp_path / "out")[2:])


def test_a_photograph_is_read_as_mien_load_reads_it(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "happiness").mkdir(parents=True)
    (tmp_path / "data" / "neutral").mkdir()
    shutil.copy(sample, tmp_path / "data" / "happiness")
    write(tmp_path / "data" / "neutral" / "sky.png", np.full((300, 300, 3), 128, np.uint8))
    data = open_dataset("folder", tmp_path / "data", "all", "cross-dataset", labels="fer2013")
    evaluate("mien-base", data, out=tmp_path / "out", page=False)  # "auto" sees photographs
    face = mien.load()(sample).faces[0]
    row = rows(tmp_path / "out")[0]
    assert [float(row[f"p:{name}"]) for name in FER2013] == pytest.approx([face.scores[n] for n in FER2013], abs=1e-5)
    assert abs(float(row["slice:roll"])) < 20 and float(row["slice:face size"]) > 50


def test_heads_are_chosen_by_the_name_of_the_data_set(tmp_path: Path) -> None:
    MINIATURES["ferplus: fer2013.csv and fer2013new.csv"].build(tmp_path)
    data = open_dataset("ferplus", tmp_path, "test")
    assert open_predictor("mien-base", "auto", data).describe()["output"] == "ferplus"
    found = evaluate("mien-base", data, out=tmp_path / "out", page=False)
    assert "contempt" in found.predictions.classes and np.allclose(found.predictions.probabilities.sum(1), 1, atol=1e-4)
    with pytest.raises(ConfigError, match="has no output 'rafdb'"):
        open_predictor("mien-base", "rafdb", data)


def test_mappings_are_by_name_and_stated() -> None:
    same = mapping(FER2013, FER2013)
    assert same.says == "the same 7 classes" and not same.unknown
    cross = mapping(AFFECTNET8, JAFFE6)
    assert cross.classes == JAFFE6 and set(cross.dropped) == {"neutral", "contempt"} and "left out" in cross.says
    more = mapping(FER2013, AFFECTNET8)
    assert more.unknown == ("contempt",) and "pictures of contempt left out" in more.says
    scores = np.random.default_rng(0).dirichlet(np.ones(8), 5)
    for row, mapped in zip(scores, cross(scores), strict=True):
        kept = {name: row[AFFECTNET8.index(name)] for name in JAFFE6}
        assert mapped == pytest.approx([kept[name] / sum(kept.values()) for name in JAFFE6])
    with pytest.raises(ConfigError, match="share"):
        mapping(("bored", "calm"), FER2013)


def test_pictures_of_a_class_that_the_model_lacks_are_left_out(faces: Dataset, tmp_path: Path) -> None:
    class Six(Oracle):
        labels = FER2013[:6]

        def __call__(self, pictures: list[np.ndarray]) -> np.ndarray:
            whole = super().__call__(pictures)[:, :6]
            return whole / whole.sum(1, keepdims=True)

    found = evaluate(Six(faces), faces, out=tmp_path, page=False)
    assert found.figures["official"]["n"] == (faces.label != 6).sum()
    assert found.figures["official"]["accuracy"]["value"] == 1
    assert {row["status"] for row in rows(tmp_path) if row["label"] == "neutral"} == {"class not known"}


def test_views_are_the_same_every_time_and_averaged(faces: Dataset, tmp_path: Path) -> None:
    few = faces.take(np.arange(6))
    looks = views(4)
    assert looks == views(4) and str(looks[0]) == "as it is" and str(looks[1]) == "mirrored"
    found = evaluate("mien-base", few, out=tmp_path, tta=2, page=False)
    card, run = open_model("mien-base")
    prepare = Preprocess.of(card)
    crops = np.stack([prepare.whole(few[i].read()) for i in range(6)])
    both = [run(prepare.tensor(np.ascontiguousarray(view)))["scores"] for view in (crops, crops[:, :, ::-1])]
    np.testing.assert_allclose(found.predictions.probabilities, np.mean(both, 0), atol=1e-6)


def test_probabilities_of_another_package_join(faces: Dataset, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    probs = random.dirichlet(np.ones(7), len(faces)).astype(np.float32)
    np.savez(tmp_path / "peer.npz", probs=probs, y=faces.label)
    found = evaluate(f"peer:other={tmp_path / 'peer.npz'}", faces, out=tmp_path / "out", page=False)
    assert found.about["model"]["name"] == "other"
    np.testing.assert_allclose(found.predictions.probabilities, probs, atol=1e-6)
    order = random.permutation(len(faces))
    np.savez(tmp_path / "named.npz", probs=probs[order], names=faces.names[order], y=faces.label[order])
    some = faces.take(np.array([3, 11, 5]))
    found = evaluate(f"peer:other={tmp_path / 'named.npz'}", some, out=tmp_path / "named", page=False)
    np.testing.assert_allclose(found.predictions.probabilities, probs[[3, 11, 5]], atol=1e-6)
    np.savez(tmp_path / "named.npz", probs=probs[order][::-1], names=faces.names[order])
    with pytest.raises(ConfigError, match="holds another evaluation"):  # the table has changed
        evaluate(f"peer:other={tmp_path / 'named.npz'}", some, out=tmp_path / "named", page=False)
    np.savez(tmp_path / "wrong.npz", probs=probs, y=np.roll(faces.label, 1))
    with pytest.raises(WeightsError, match="about other pictures"):
        evaluate(f"peer:other={tmp_path / 'wrong.npz'}", faces, out=tmp_path / "wrong", page=False)
    np.savez(tmp_path / "short.npz", probs=probs[:5])
    with pytest.raises(WeightsError, match="5 rows for 42 pictures"):
        evaluate(f"peer:other={tmp_path / 'short.npz'}", faces, out=tmp_path / "short", page=False)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda n: np.full((n, 7), np.nan), "NaN"),
        (lambda n: np.full((n, 6), 1 / 6), "for 7 classes"),
        (lambda n: np.tile([4.0, -2, 1, 0, 0, 0, 0], (n, 1)), "logits"),
        (lambda n: np.full((n, 7), 0.1), "sum to one"),
    ],
)
def test_bad_answers_are_told(answer: object, says: str, faces: Dataset, tmp_path: Path) -> None:
    def model(pictures: list[np.ndarray]) -> np.ndarray:
        return answer(len(pictures))  # type: ignore[operator]

    model.labels = FER2013  # type: ignore[attr-defined]
    with pytest.raises(WeightsError, match=says):
        evaluate(model, faces, out=tmp_path, page=False)
    assert not (tmp_path / "predictions.csv").exists()


def test_bad_requests_are_told(faces: Dataset, tmp_path: Path) -> None:
    def nameless(pictures: list[np.ndarray]) -> np.ndarray:
        return np.zeros((len(pictures), 7))

    empty = faces.take(np.arange(0))
    unlabelled = faces.take(np.arange(4), label=np.full(4, -1))
    (tmp_path / "file").write_text("")
    cases: list[tuple[type[MienError], str, object, Dataset, dict]] = [
        (ConfigError, "no attribute `labels`", nameless, faces, {}),
        (DatasetError, "is empty", "mien-base", empty, {}),
        (DatasetError, "has a label", "mien-base", unlabelled, {}),
        (ConfigError, "not 0 times", "mien-base", faces, {"tta": 0}),
        (ConfigError, "faces are taken", "mien-base", faces, {"faces": "some"}),
        (ConfigError, "cannot be made", "mien-base", faces, {"out": tmp_path / "file" / "out"}),
        (ConfigError, "peer:NAME=FILE", "peer:other", faces, {}),
        (WeightsError, "cannot be read", "peer:other=nowhere.npz", faces, {}),
        (ConfigError, "cannot cut faces", Oracle(faces), faces, {"faces": "detect"}),
    ]
    for kind, says, model, data, options in cases:
        with pytest.raises(kind, match=says):
            evaluate(model, data, **{"out": tmp_path / "out", "page": False, **options})


def test_one_class_missing_is_no_error(faces: Dataset, tmp_path: Path) -> None:
    some = faces.take(np.flatnonzero(faces.label != 2))
    found = evaluate("mien-base", some, out=tmp_path, page=False).figures
    assert found["per_class"]["fear"]["n"] == 0 and found["per_class"]["fear"]["recall"]["value"] is None
    assert found["official"]["uar"]["value"] is not None
    json.dumps(found, allow_nan=False)


def test_groups_and_their_gap(faces: Dataset, tmp_path: Path) -> None:
    half = np.where(np.arange(len(faces)) % 2 == 0, "even", "odd")
    data = dataclasses.replace(faces, groups={"side": half}, subject=None)
    oracle = Oracle(data)
    oracle.known |= {data[i].read().tobytes(): (int(data.label[i]) + 1) % 7 for i in range(1, 21, 2)}
    found = evaluate(oracle, data, out=tmp_path, page=False).figures["groups"]["side"]
    assert found["values"]["even"]["accuracy"]["value"] == 1
    assert found["values"]["odd"]["accuracy"]["value"] == pytest.approx(11 / 21, abs=1e-6)
    gap = found["gap"]
    assert (gap["best"], gap["worst"]) == ("even", "odd")
    assert gap["accuracy"]["value"] == pytest.approx(10 / 21, abs=1e-6) and gap["accuracy"]["low"] > 0


def test_the_london_set_is_read(shared: Path) -> None:
    data = open_dataset("london", shared / "data" / "london", "test")
    assert len(data) == 204 and data.counts["happiness"] == data.counts["neutral"] == 102
    assert set(data.groups) == {"gender", "ethnicity", "age"}
    values, number = np.unique(data.groups["gender"], return_counts=True)
    assert dict(zip(values.tolist(), number.tolist(), strict=True)) == {"female": 98, "male": 106}
    assert len(np.unique(data.subject)) == 102
    assert Image.fromarray(data[0].read()).size == (512, 512)
