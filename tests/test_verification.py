"""Claims against measurements, and what is found when a network is fed the wrong way."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mien import cards
from mien.datasets import Dataset, open_dataset
from mien.datasets.pictures import Pixels
from mien.errors import ConfigError
from mien.evaluation import CardPredictor
from mien.runtime import OnnxRuntime, open_model
from mien.verification import verify


@pytest.fixture(scope="module")
def tinted() -> Dataset:
    """Anger is red, neutral is blue."""
    random = np.random.default_rng(0)
    label = np.arange(60) % 2 * 6
    images = random.integers(0, 120, (60, 16, 16, 3), dtype=np.uint8)
    images[label == 0, ..., 0] += 100
    images[label == 6, ..., 2] += 100
    drawn = open_dataset("synthetic", split="all", number="60")
    return dataclasses.replace(drawn, pictures=Pixels(images, np.arange(60)), label=label, subject=None)


def red_or_blue(colour: str) -> CardPredictor:
    """A real network that says anger where its first channel is stronger than its last."""
    mean = helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0)
    product = helper.make_node("Gemm", ["mean", "weight", "bias"], ["logits"])
    softmax = helper.make_node("Softmax", ["logits"], ["scores"])
    weight, bias = np.zeros((3, 7), np.float32), np.full(7, -20, np.float32)
    weight[0, 0], weight[2, 6], bias[[0, 6]] = 9, 9, 0
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, value.shape, value.ravel())
        for name, value in (("weight", weight), ("bias", bias))
    ]
    graph = helper.make_graph(
        [mean, product, softmax],
        "red or blue",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 7])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    base = cards.load("mien-base")
    fed = cards.Input(size=(16, 16), colour=colour)  # type: ignore[arg-type]
    card = dataclasses.replace(base, name="red-or-blue", input=fed, outputs={"scores": "scores"}, crop=None, measured=())
    return CardPredictor(card, OnnxRuntime(model.SerializeToString()))


def test_swapped_colours_are_found(tinted: Dataset, tmp_path: Path) -> None:
    found = verify(red_or_blue("bgr"), tinted, out=tmp_path, claims={"accuracy": 1.0}, faces="whole")
    assert not found.agrees and found.claims[0].measured == 0
    best = found.hypotheses[0]
    assert best.name == "RGB instead of BGR" and best.better and best.p < 1e-6
    assert best.says == "your 0.0 becomes 100.0 with RGB instead of BGR"
    assert found.claims[0].says == "accuracy: claimed 100.0, measured 0.0 (0.0 … 0.0): does not agree"


def test_right_colours_agree_and_nothing_is_better(tinted: Dataset, tmp_path: Path) -> None:
    found = verify(red_or_blue("rgb"), tinted, out=tmp_path, claims={"accuracy": 1.0, "UAR": 1.0}, faces="whole")
    assert found.agrees and [claim.metric for claim in found.claims] == ["accuracy", "uar"]
    swapped = next(each for each in found.hypotheses if each.name == "BGR instead of RGB")
    assert swapped.after == 0 and not swapped.better


def test_a_wrong_value_range_is_found_on_real_faces(shared: Path, tmp_path: Path) -> None:
    card, run = open_model("mien-base")
    data = open_dataset("fer2013", shared / "data" / "fer2013", "validation").take(np.arange(0, 3589, 24))
    wrong = dataclasses.replace(card, input=dataclasses.replace(card.input, scale=1.0, offset=(0.0,)))
    found = verify(CardPredictor(wrong, run), data, out=tmp_path, claims={"accuracy": 0.99}, pictures=150)
    assert not found.agrees
    better = [each for each in found.hypotheses if each.better]
    assert better and better[0].name == "values −1 … 1" and better[0].after > 0.55
    assert "another copy" in found.data or "not known" in found.data


def test_claims_of_the_card_about_other_pictures_do_not_count(tinted: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="claims nothing about synthetic"):
        verify("mien-base", tinted, out=tmp_path, faces="whole")
    with pytest.raises(ConfigError, match="no metric 'speed'"):
        verify(red_or_blue("rgb"), tinted, out=tmp_path / "b", claims={"speed": 3}, faces="whole", pictures=0)

    def function(pictures: list[np.ndarray]) -> np.ndarray:
        return np.full((len(pictures), 7), 1 / 7)

    function.labels = tinted.labels  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="no card"):
        verify(function, tinted, out=tmp_path)
