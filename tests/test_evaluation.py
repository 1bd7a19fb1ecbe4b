"""Evaluations: real models on drawn faces, miniatures of FER2013 and real photographs; wrong input; stopped and resumed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from miniatures import MINIATURES

import mien
from cli.command import environment, line
from evaluations import Knowing, drawings, evenly
from mien import cards
from mien.cli import main
from mien.data.datasets import Draw, open_dataset
from mien.data.labeled_faces import Face, FaceFinder, mode_for
from mien.errors import ConfigError
from mien.evaluation import CardPredictor, FunctionPredictor, evaluate, memory_mb, open_predictor
from mien.evaluation.predict import mapping
from mien.evaluation.report import Report
from mien.evaluation.report.predictions import read_predictions
from mien.evaluation.tta import View, views
from mien.inference.recognizer import load
from mien.io import provenance
from mien.labels import ACTION_UNITS, AFFECTNET8, FER2013, FERPLUS, JAFFE6
from small_networks import save


@pytest.fixture(scope="module")
def fer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fer2013")
    MINIATURES["fer2013: fer2013.npz"].build(root)
    return root


def test_what_is_known_beforehand_is_measured(tmp_path: Path) -> None:
    data = drawings(70)
    report = evaluate(Knowing(data, 0.8, 0.6), data, out=tmp_path, page=False)
    official = report.figures["official"]
    assert official["n"] == 70 and official["accuracy"]["value"] == pytest.approx(0.8)
    assert official["accuracy"]["low"] < 0.8 < official["accuracy"]["high"]
    assert report.figures["answered"]["ece"]["value"] == pytest.approx(0.2, abs=1e-5)
    assert report.figures["intervals"] == "subjects"  # drawings have a subject
    assert (report.predictions.sample == data.names).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "evaluation.json",
        "metrics.json",
        "mistakes",
        "predictions.csv",
    ]
    assert json.loads((tmp_path / "metrics.json").read_text())["official"] == report.figures["official"]


def test_the_bundled_model_is_evaluated_exactly_as_in_use(fer: Path, tmp_path: Path) -> None:
    data = open_dataset("fer2013", fer, "test")
    report = evaluate("mien-base", data, out=tmp_path, output="scores", page=False)
    read = load("mien-base", detector="whole", points=False, blendshapes=False)
    for sample, row in zip(data, report.predictions.probabilities, strict=True):
        (face,) = read(sample.image).faces
        assert row == pytest.approx([face.scores[name] for name in data.labels], abs=1e-6)


def test_photographs_are_read_as_in_use(shared: Path, tmp_path: Path) -> None:
    data = open_dataset("london", shared / "data" / "london", "test")[:6]
    report = evaluate("mien-base", data, out=tmp_path, page=False)
    assert report.about["identity"]["faces"] == "detect by blazeface"
    read = load("mien-base")
    for sample, row in zip(data, report.predictions.probabilities, strict=True):
        (face,) = read(sample.image).faces
        assert row == pytest.approx([face.scores[name] for name in data.labels], abs=1e-5)
    assert set(report.figures["groups"]) == {"gender", "ethnicity", "age"}
    assert np.median(report.predictions.slices["gaze"]) < 10  # the subjects look at the camera
    assert np.isfinite(report.predictions.slices["yaw"]).all() and (report.predictions.slices["face size"] > 80).all()


def test_the_crop_of_a_photograph_is_that_of_inference_bit_for_bit(sample: Path) -> None:
    predictor = open_predictor("mien-base", "scores")
    assert isinstance(predictor, CardPredictor)
    read = load("mien-base")
    fed: list[np.ndarray] = []
    inner = read.runtime
    read.runtime = lambda batch: (fed.append(np.asarray(batch)), inner(batch))[1]
    read(sample)
    (data,) = [mien.data.datasets.Sample("sample", sample)]
    face = FaceFinder("detect", "blazeface")([0], [data], [data.read()])[0]
    assert face is not None
    assert (predictor.preprocess.batch([predictor.crop(face)]) == fed[0]).all()


def test_fer2013_is_evaluated_by_its_own_labels(fer: Path, tmp_path: Path) -> None:
    """`scores` may mean the judgment of crowds; the output `fer2013` means the labels of FER2013."""
    data = open_dataset("fer2013", fer, "test")
    report = evaluate("mien-base", data, out=tmp_path, page=False)
    assert report.about["model"]["output"] == "fer2013"
    known = open_predictor("mien-base", "fer2013")
    faces = [Face(row, sample.name, sample.read()) for row, sample in enumerate(data)]
    assert report.predictions.probabilities == pytest.approx(known(faces, views(1)).probabilities, abs=1e-6)


def test_the_output_named_after_the_dataset(fer: Path, tmp_path: Path) -> None:
    report = evaluate("mien-base", open_dataset("ferplus", fer, "test"), out=tmp_path, page=False)
    assert report.about["model"]["output"] == "ferplus" and report.predictions.classes == FERPLUS
    assert report.about["model"]["threshold"] == 0  # the card's threshold is of the output scores
    with pytest.raises(ConfigError) as caught:
        open_predictor("mien-base", "rafdb")
    assert caught.value.value == "rafdb" and caught.value.expected == ["scores", "fer2013", "ferplus"]


@pytest.mark.parametrize(
    ("source", "target", "classes", "dropped", "unknown"),
    [
        (FER2013, FER2013, FER2013, (), ()),
        (FERPLUS, FER2013, FER2013, ("contempt",), ()),
        (FER2013, AFFECTNET8, AFFECTNET8[:7], (), ("contempt",)),
        (FER2013, JAFFE6, JAFFE6, ("neutral",), ()),
    ],
)
def test_classes_are_matched_by_name(source: tuple, target: tuple, classes: tuple, dropped: tuple, unknown: tuple) -> None:
    found = mapping(source, target)
    assert (found.classes, found.dropped, found.unknown) == (classes, dropped, unknown)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(len(source)), 5)
    mapped = found(probabilities)
    shared = [source.index(name) for name in classes]
    assert mapped == pytest.approx(probabilities[:, shared] / probabilities[:, shared].sum(1, keepdims=True))
    for name in (*dropped, *unknown):
        assert name in found.says


def test_images_of_classes_that_the_model_does_not_know_are_left_out(tmp_path: Path) -> None:
    data = drawings(70)
    known = tuple(name for name in FER2013 if name != "disgust")
    report = evaluate(Knowing(data, labels=known), data, out=tmp_path, page=False)
    assert report.figures["counts"] | {"images": 70, "class not known": 10, "official": 60} == report.figures["counts"]
    assert report.figures["official"]["accuracy"]["value"] == 1
    assert "disgust" in report.about["mapping"]["says"] and "disgust" not in report.predictions.classes
    with pytest.raises(ConfigError) as caught:
        mapping(("yes", "no"), FER2013)
    assert (caught.value.value, caught.value.expected) == (("yes", "no"), FER2013)


def test_what_cannot_be_read_or_has_no_face_counts_as_wrong(shared: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for place, content in enumerate(((shared / "data/london/images/001_08.jpg").read_bytes(), b"no image", None)):
        path = root / "happy" / f"{place}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            from PIL import Image

            Image.fromarray(np.full((400, 400, 3), 90, np.uint8)).save(path)
        else:
            path.write_bytes(content)
    data = open_dataset("folder", root, "all", labels="fer2013")  # pyrefly: ignore
    report = evaluate("mien-base", data, out=tmp_path / "out", page=False, faces="detect")
    assert report.predictions.status.tolist() == ["ok", "unreadable", "no face"]
    assert report.figures["official"]["accuracy"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert report.figures["answered"]["accuracy"]["value"] == 1
    assert report.figures["confusion"][FER2013.index("happiness")][-1] == 2


def test_views_are_the_same_every_time() -> None:
    assert [str(view) for view in views(4, 3)] == [str(view) for view in views(4, 3)] != [str(view) for view in views(4, 4)]
    first, second, third, fourth = views(4)
    assert (first, second) == (View(), View(mirrored=True)) and third.rotation == fourth.rotation != 0 and fourth.mirrored
    crop = np.random.default_rng(0).integers(0, 255, (48, 48, 1), np.uint8)
    assert (second(crop) == crop[:, ::-1]).all() and first(crop) is crop
    assert third(crop).shape == crop.shape and (third(np.full((9, 9, 3), 7, np.uint8)) == 7).all()
    with pytest.raises(ConfigError) as caught:
        views(0)
    assert caught.value.value == 0


def test_ten_crops_are_the_corners_and_the_center_each_mirrored() -> None:
    found = views("ten-crop")
    assert len({str(view) for view in found}) == len(found) == 10
    side = np.arange(48, dtype=np.uint8) * 5
    crop = np.stack([np.tile(side, (48, 1)), np.tile(side[:, None], (1, 48)), np.full((48, 48), 9, np.uint8)], 2)
    seen = [view(crop) for view in found]
    assert all(each.shape == crop.shape and (each[..., 2] == 9).all() for each in seen)
    center, mirrored, *corners = seen
    assert (mirrored == center[:, ::-1]).all()
    # Columns and rows are 5 levels apart; a crop of 44 pixels begins 0, 2 or 4 pixels from the edge.
    starts = [tuple(round(float(each[24, 24, axis]) / 5 - 22) for axis in (1, 0)) for each in (center, *corners[::2])]
    assert starts == [(2, 2), (0, 0), (0, 4), (4, 0), (4, 4)]
    gray = found[2](crop[..., :1])
    assert (gray == corners[0][..., :1]).all()


def test_the_answer_is_the_mean_of_the_views(fer: Path) -> None:
    predictor = open_predictor("mien-base", "scores")
    sample = open_dataset("fer2013", fer, "test")[0]
    face, mirrored = Face(0, "", sample.read()), Face(0, "", sample.read()[:, ::-1])
    both = predictor([face], views(2)).probabilities
    each = [predictor([one], views(1)).probabilities for one in (face, mirrored)]
    assert both == pytest.approx(np.mean(each, 0), abs=1e-6)


def test_small_images_are_faces_and_large_ones_photographs(shared: Path) -> None:
    assert mode_for(drawings(7), "auto", cuts_faces=True) == "whole"
    photos = open_dataset("london", shared / "data" / "london", "test")[:3]
    assert mode_for(photos, "auto", cuts_faces=True) == "detect" and mode_for(photos, "auto", cuts_faces=False) == "whole"
    with pytest.raises(ConfigError):
        mode_for(photos, "some", cuts_faces=True)  # pyrefly: ignore


def test_one_class_missing(tmp_path: Path) -> None:
    data = drawings(70)
    data = data.take(np.flatnonzero(data.label != 1))
    report = evaluate(Knowing(data, 0.9), data, out=tmp_path)
    assert report.figures["per_class"]["disgust"] | {"n": 0, "f1": None} == report.figures["per_class"]["disgust"]
    assert report.figures["official"]["uar"]["value"] > 0.8
    assert "NaN" not in (tmp_path / "metrics.json").read_text()


def test_a_user_defined_predictor_gets_the_images(tmp_path: Path) -> None:
    class Other:
        name, labels, threshold, cuts_faces = "other", FER2013, 0.0, False
        roles = ("scores", "action_units")

        def __init__(self) -> None:
            self.inner = FunctionPredictor(evenly)

        def prepare(self, data: object) -> None:
            pass

        def describe(self) -> dict[str, str]:
            return {"name": "other", "version": "2", "sha256": "", "output": ""}

        def __call__(self, faces: list[Face], views: list[View]) -> object:
            return dataclasses.replace(self.inner(faces, views), action_units=np.full((len(faces), 12), 0.75))

    report = evaluate(Other(), drawings(7), out=tmp_path, page=False)
    assert report.about["model"]["version"] == "2" and len(report.predictions) == 7
    assert report.predictions.unit_probabilities is not None and (report.predictions.unit_probabilities == 0.75).all()
    assert not report.predictions.affect


def test_a_finished_evaluation_is_not_done_again(tmp_path: Path) -> None:
    data = drawings(70)
    model = Knowing(data, 0.8)
    evaluate(model, data, out=tmp_path, page=False)
    evaluate(model, data, out=tmp_path, page=False)
    assert model.seen == 70
    with pytest.raises(ConfigError) as caught:
        evaluate(model, data[:50], out=tmp_path, page=False)
    assert caught.value.path == str(tmp_path)
    better = Knowing(data, 1.0)  # of the same name, and a function has no digest
    assert evaluate(better, data, out=tmp_path, page=False, overwrite=True).figures["official"]["accuracy"]["value"] == 1
    assert better.seen == 70
    evaluate(model, data[:50], out=tmp_path, page=False, overwrite=True)
    assert model.seen == 120 and len(Report.read(tmp_path).predictions) == 50


def test_an_interrupted_evaluation_leaves_a_valid_partial_file(tmp_path: Path) -> None:
    """Killed in a process of its own; the rows so far are whole, and the next evaluation starts over."""
    arguments = ["evaluate", "evaluations:halting", "--dataset", "synthetic", "--split", "all", "--option", "number=40"]
    arguments += ["--batch", 4, "--no-page", "--out"]
    command, pipe = line(*arguments, tmp_path), subprocess.PIPE
    process = subprocess.Popen(command, env=environment(HALT_AT="12"), stdin=pipe, stdout=pipe, stderr=pipe)
    assert process.stderr is not None
    assert b"halted\n" in process.stderr  # in the fourth batch
    process.kill()
    process.communicate()
    part = tmp_path / "predictions.csv.part"
    assert len(read_predictions(part)) == 12 and not (tmp_path / "predictions.csv").exists()
    data = open_dataset("synthetic", split="all", number="40")  # pyrefly: ignore
    report = evaluate(evenly, data, out=tmp_path, page=False)
    assert len(report.predictions) == 40 and not part.exists()


@pytest.mark.parametrize("name", ["a b.png", 'a"b.png', "a\u2028b.png", "a\x85b.png", "a\nb.png", "a\rb.png"])
def test_names_of_files_survive_the_table(name: str, tmp_path: Path) -> None:
    data = drawings(3)
    data = dataclasses.replace(data, names=np.array([name, f"{name}2", f"{name}3"]))
    evaluate(evenly, data, out=tmp_path, page=False)
    assert Report.read(tmp_path).predictions.sample.tolist() == data.names.tolist()


def test_a_corrupt_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text("[]")
    with pytest.raises(ConfigError) as caught:
        evaluate(evenly, drawings(7), out=tmp_path, page=False)
    assert caught.value.path == str(tmp_path / "evaluation.json")


def test_the_commit_is_of_our_own_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of the project whose tree contains the environment with the installed package."""
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@localhost", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    (tmp_path / "provenance.py").write_text("")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.commit() == ""
    subprocess.run([*git, "add", "provenance.py"], check=True)
    assert provenance.commit().endswith("+")


def test_valence_arousal_and_action_units(tmp_path: Path) -> None:
    """A card with all three tasks: its runtime is a function whose answers are known."""
    data = drawings(70)
    random = np.random.default_rng(0)
    valence, arousal = random.uniform(-1, 1, (2, 70)).astype(np.float32)
    units = random.integers(-1, 2, (70, 12)).astype(np.int8)
    names = tuple(f"AU{number}" for number in (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26))
    data = dataclasses.replace(data, valence=valence, arousal=arousal, action_units=units, unit_names=names)
    card = dataclasses.replace(
        cards.load("mien-base"),
        outputs={"scores": "scores", "valence_arousal": "va", "action_units": "au"},
        figures={"unit_thresholds": {"AU1": 0.95}},
    )
    row = iter(range(70))

    def runtime(batch: np.ndarray) -> dict[str, np.ndarray]:
        rows = [next(row) for _ in batch]
        return {
            "scores": np.eye(7)[data.label[rows]],
            "va": np.stack([valence[rows], -arousal[rows]], 1),
            "au": np.where(units[rows] == 1, 0.9, 0.1),
        }

    figures = evaluate(CardPredictor(card, runtime), data, out=tmp_path).figures
    assert figures["affect"]["valence"]["ccc"]["value"] == pytest.approx(1)
    assert figures["affect"]["arousal"]["pearson"]["value"] == pytest.approx(-1)
    assert figures["units"]["AU2"]["f1"]["value"] == 1
    assert figures["units"]["AU1"]["f1_at_thresholds"]["value"] == 0
    ccc = [figures["affect"][name]["ccc"]["value"] for name in ("valence", "arousal")]
    assert figures["abaw_p"]["value"] == pytest.approx(sum(ccc) / 2 + 1 + 1, abs=1e-5)
    assert "Action units" in (tmp_path / "report.html").read_text()


def test_memory_is_that_of_this_program_alone() -> None:
    """A small program that a large one starts is not said to be large."""
    ballast = np.ones(40_000_000)
    code = "from mien.evaluation import memory_mb; print(memory_mb())"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 10 < float(output) < 300 < ballast.nbytes / 2**20
    assert (memory_mb() or 0) > 300


def test_a_run_is_evaluated_on_its_own_fold(tmp_path: Path) -> None:
    """Of another fold its training images would be test images: refused; the command takes the fold of the run."""
    base = cards.load("mien-nano")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/best.onnx").write_bytes(Path(base.weights).read_bytes())
    training = {"seed": 1, "fold": 1, "folds": 3}
    data = "synthetic, subject-folds, number=42"
    card = dataclasses.replace(base, name="run", file="best.onnx", training=training, data=data, measured=())
    (tmp_path / "run/best.toml").write_text(tomli_w.dumps(card.to_dict()))
    chosen = {"protocol": "subject-folds", "number": "42", "split": "test"}
    other = open_dataset("synthetic", draw=Draw(folds=3, fold=0), **chosen)  # pyrefly: ignore
    with pytest.raises(ConfigError) as caught:
        evaluate(tmp_path / "run", other, out=tmp_path / "out", page=False)
    assert (caught.value.value, caught.value.expected) == ((0, 3), (1, 3))
    command = ["evaluate", str(tmp_path / "run"), "--dataset", "synthetic", "--protocol", "subject-folds"]
    command += ["--option", "number=42"]
    assert main([*command, "--no-page", "--out", str(tmp_path / "own")]) == 0
    own = open_dataset("synthetic", draw=Draw(folds=3, fold=1), **chosen)  # pyrefly: ignore
    assert Report.read(tmp_path / "own").predictions.sample.tolist() == own.names.tolist()
    assert main([*command, "--fold", "2", "--no-page", "--out", str(tmp_path / "wrong")]) == 1


def test_columns_that_are_never_labeled(tmp_path: Path) -> None:
    """The authors' multi-task DDAMFN: nine expression columns for eight classes, valence and arousal, twelve action units."""
    options = {"form": "code", "num_classes": 9}
    outputs = {"scores": "logits", "valence_arousal": "valence_arousal", "action_units": "action_logits"}
    size = cards.Input(size=(112, 112))
    weights = save(tmp_path / "run", "ddamfn-mtl", options, labels=AFFECTNET8, outputs=outputs, input=size)
    random = np.random.default_rng(0)
    data = drawings(14)
    units = random.integers(0, 2, (14, 12)).astype(np.int8)
    both = random.uniform(-1, 1, (2, 14)).astype(np.float32)
    data = dataclasses.replace(data, valence=both[0], arousal=both[1], action_units=units, unit_names=ACTION_UNITS)
    figures = evaluate(weights, data, out=tmp_path / "out", page=False).figures
    assert figures["counts"]["answered"] == 14 and {"affect", "unit_f1", "abaw_p"} <= set(figures)
    (face,) = load(weights, detector="whole")(data[0].read()).faces
    assert len(face.scores) == 8 and sum(face.scores.values()) == pytest.approx(1, abs=1e-5)
