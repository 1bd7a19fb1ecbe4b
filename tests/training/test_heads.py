"""Further linear heads on the feature of a network: resume, export, evaluation by their outputs, wrong recipes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import TABLE, same_weights
from test_mixtures import photographs

import mien
from mien import cards, models
from mien.data.datasets import open_dataset
from mien.errors import ConfigError, MienError, UnknownName, WeightsError
from mien.evaluation.predictors import open_predictor
from mien.labels import FER2013, FERPLUS
from mien.models.stock import Classified
from mien.models.torch_runtime import PREFIX, add_heads, feature_width, open_network
from mien.runtime.open_model import open_model
from mien.training.config import InitConfig, TrainConfig
from mien.training.init_weights import load_initial_weights
from mien.training.loop import Interrupted, train

MODEL = TABLE["model"] | {"heads": {"lfw": "ferplus", "mood": "rafdb"}}
SMALL = MODEL["options"]


def config(tmp_path: Path, **changes: Any) -> TrainConfig:
    """Return a run on drawn faces, with a head for photographs and one for the drawings in another order of classes."""
    loss = [
        {"kind": "cross-entropy", "output": "fer2013", "data": ["drawn"]},
        {"kind": "cross-entropy", "output": "lfw", "data": ["photos"]},
        {"kind": "cross-entropy", "output": "mood", "data": ["ordered"]},
    ]
    drawn = {"dataset": "synthetic", "root": ".", "options": {"number": "120"}}
    data = [
        {**drawn, "name": "drawn"},
        {"name": "photos", "dataset": "csv", "root": str(photographs(tmp_path / "photos")), "labels": "ferplus"},
        {**drawn, "name": "ordered", "labels": "rafdb"},
    ]
    metric = "accuracy + photos.lfw.uar"
    return TrainConfig.of(TABLE | {"model": MODEL, "data": data, "loss": loss, "validation": {"metric": metric}} | changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads")
    return train(config(folder), folder / "run").parent


def test_heads_are_trained_validated_and_written_to_the_card(run: Path) -> None:
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"accuracy", "photos.lfw.accuracy", "ordered.mood.uar", "loss cross-entropy lfw"} <= row.keys()
    card = cards.read(run / "best.toml")
    assert card.outputs == {"scores": "fer2013", "lfw": "lfw", "mood": "mood"}
    assert card.heads == {"lfw": FERPLUS, "mood": open_predictor(run, "mood").labels}
    assert {"photos.lfw.accuracy"[7:], "accuracy"} <= {each.metric for each in card.measured}
    network = open_network(card)
    before = models.build("mien-base", **SMALL).state_dict().keys()
    assert {name for name in network.state_dict() if not name.startswith(PREFIX)} == before


def test_an_interrupted_run_with_heads_resumes_to_the_same_weights(run: Path, tmp_path: Path) -> None:
    def interrupt(event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            raise KeyboardInterrupt

    settings = TrainConfig.load(run / "config.toml")
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        train(settings, tmp_path / "parts", report=interrupt)
    assert same_weights(run / "best.safetensors", train(settings, tmp_path / "parts", resume=True))
    with pytest.raises(ConfigError):
        train(config(run.parent, epochs=3), tmp_path / "parts", resume=True)


def test_a_head_is_linear_in_the_feature_and_exported(run: Path, tmp_path: Path) -> None:
    mien.export(run, tmp_path / "heads.onnx")
    x = np.random.default_rng(0).uniform(-1, 1, (3, 1, 32, 32)).astype(np.float32)
    (card, network), (exported, file) = open_model(run), open_model(tmp_path / "heads.onnx")
    wanted, given = network(x), file(x)
    assert exported.heads == card.heads and {"lfw", "mood"} <= given.keys()
    weights = open_network(card).state_dict()
    scores = wanted["feature"] @ weights["extra_heads.lfw.weight"].numpy().T + weights["extra_heads.lfw.bias"].numpy()
    assert torch.from_numpy(scores).softmax(1).numpy() == pytest.approx(wanted["lfw"], abs=1e-5)
    for name in ("lfw", "mood"):
        assert given[name] == pytest.approx(wanted[name], abs=1e-4)
    again = models.build("mien-base", **SMALL)
    add_heads(again, {"lfw": 8, "mood": 7}, 32)
    load_initial_weights(again, "mien-base", InitConfig(file=str(tmp_path / "heads.onnx")), images=lambda: torch.from_numpy(x))
    assert torch.allclose(again.state_dict()["extra_heads.lfw.weight"], weights["extra_heads.lfw.weight"], atol=1e-6)


@pytest.mark.parametrize("source", ["run", "onnx"])
def test_an_evaluation_by_a_head_compares_its_classes(run: Path, tmp_path: Path, source: str) -> None:
    model: Path = run
    if source == "onnx":
        model = mien.export(run, tmp_path / "heads.onnx").path
    data = open_dataset("synthetic", split="train", number="40")
    for output, classes in (("lfw", FERPLUS), ("mood", cards.read(run / "best.toml").heads["mood"]), ("scores", FER2013)):
        report = mien.evaluate(model, data, out=tmp_path / output, output=output, page=False)
        assert open_predictor(model, output).labels == classes
        assert report.about["identity"]["model"]["output"] == output
    same = [(tmp_path / output / "predictions.csv").read_text() for output in ("lfw", "scores")]
    assert same[0] != same[1]
    with pytest.raises(ConfigError):
        open_predictor(model, "ferplus")  # an output of the network that this run has not trained


def test_weights_with_heads_start_networks_without_and_with_them(run: Path) -> None:
    init = InitConfig(file=str(run / "best.safetensors"))
    bare = models.build("mien-base", **SMALL)
    assert not load_initial_weights(bare, "mien-base", init).missing
    headed = models.build("mien-base", **SMALL)
    add_heads(headed, {"lfw": 8, "new": 3}, 32)
    report = load_initial_weights(headed, "mien-base", init)
    assert {*report.missing} == {f"{PREFIX}new.weight", f"{PREFIX}new.bias"}


def test_a_card_whose_heads_are_not_in_the_file_is_refused(run: Path, tmp_path: Path) -> None:
    card = cards.read(run / "best.toml")
    for heads in ({"other": FERPLUS}, {"lfw": FERPLUS[:3], "mood": FER2013}):
        with pytest.raises(WeightsError):
            open_network(dataclasses.replace(card, heads=heads))


@pytest.mark.parametrize("name", ["dan", "dda-resnet34", "ddamfn-mtl", "global-roi", "mfer", "poster", "timm:resnet18"])
def test_every_architecture_takes_heads(name: str) -> None:
    options = {"timm:resnet18": {"in_chans": 1}, "poster": {"backbone": "sface", "size": 64}}
    network = models.build(name, **options.get(name, {"backbone": "sface"})).eval()
    side = {"ddamfn-mtl": 112, "dda-resnet34": 48}.get(name, 64)
    regions = {part: torch.zeros(2, 1, 32, 32) for part in ("eye", "nose", "mouth")} if name == "global-roi" else {}
    with torch.inference_mode():
        before = network(torch.zeros(2, 1, side, side), **regions)
        add_heads(network, {"lfw": 8}, feature_width(before, ("lfw",)))
        after = network(torch.zeros(2, 1, side, side), **regions)
    assert after._fields == (*before._fields, "lfw") and after.lfw.shape == (2, 8)
    properties = [field for field, value in vars(type(before)).items() if isinstance(value, property)]
    assert torch.equal(after.feature, before.feature) and all(hasattr(after, field) for field in properties)


@pytest.mark.parametrize(
    ("heads", "error", "value"),
    [
        ({"lfw": "ferplsu"}, UnknownName, None),
        ({"feature": "ferplus"}, ConfigError, "feature"),
        ({"fer2013": "ferplus"}, ConfigError, "fer2013"),
        ({"a.b": "ferplus"}, ConfigError, "a.b"),
        ({"idle": "ferplus"}, ConfigError, "idle"),
    ],
)
def test_wrong_heads_are_refused(tmp_path: Path, heads: dict[str, str], error: type[MienError], value: Any) -> None:
    with pytest.raises(error) as caught:
        train(config(tmp_path, model=MODEL | {"heads": MODEL["heads"] | heads}), tmp_path / "run")
    assert value is None or caught.value.value == value


def test_labels_of_another_order_and_networks_without_feature_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train(config(tmp_path, model=MODEL | {"heads": {"lfw": "ferplus", "mood": "affectnet7"}}), tmp_path / "run")
    assert caught.value.value != caught.value.expected and {*caught.value.value} == {*caught.value.expected}
    with pytest.raises(ConfigError):
        config(tmp_path, loss=[{"kind": "votes", "output": "mood"}, {"output": "lfw"}])
    with pytest.raises(ConfigError):
        feature_width(Classified(torch.zeros(2, 7), None), ("lfw",))  # pyrefly: ignore
    with pytest.raises(ConfigError):
        feature_width(Classified(torch.zeros(2, 7), torch.zeros(2, 5)), ("logits",))
