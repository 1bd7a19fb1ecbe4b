"""Weights with a card beside them run as their exported network does, and everything that does not fit is refused."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import mien as run_mien
from torch import Tensor, nn

import mien
from mien import cards
from mien.cards import sha256
from mien.errors import WeightsError
from mien.faces.preprocessing import Preprocess
from mien.inference.recognizer import NO_REGIONS
from mien.io.images import read_image
from mien.labels import ACTION_UNITS, FER2013, RAFDB
from mien.metrics.calibration import softmax
from mien.models.torch_runtime import TorchRuntime
from mien.runtime.onnx import OnnxRuntime
from mien.runtime.open_model import open_model
from small_networks import BASE, GRAY, RGB, SMALL, save


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(
        tmp_path_factory.mktemp("base"),
        "mien-base",
        SMALL,
        crop=cards.Crop(template="fer2013"),
        calibration=cards.Calibration(temperature=0.5),
        **BASE,
    )


class Named(nn.Module):
    """The fields of a network as a tuple, for the exporter."""

    def __init__(self, network: nn.Module, fields: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.fields = network, fields

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        answer = self.network(image)
        return tuple(getattr(answer, name) for name in self.fields)


@pytest.mark.parametrize(("architecture", "options", "fields", "shape"), [
    ("mien-base", SMALL, ("fer2013", "ferplus", "feature"), (1, 48, 48)),
    ("timm:resnet18", {"num_classes": 7}, ("logits", "feature"), (3, 64, 64)),
])  # fmt: skip
def test_the_same_as_onnx(
    architecture: str, options: dict[str, Any], fields: tuple[str, ...], shape: tuple[int, ...], tmp_path: Path
) -> None:
    """Scores and heads are the softmax of what the exported network gives; the feature is as it is."""
    outputs = {"scores": fields[0], **{name: name for name in fields[1:] if name != "feature"}}
    path = save(tmp_path, architecture, options, outputs=outputs, input=GRAY if shape[0] == 1 else RGB)
    _, runtime = open_model(path)
    assert isinstance(runtime, TorchRuntime)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, and that the quick exporter is the old one
        torch.onnx.export(
            Named(runtime.network, fields).eval(), (torch.zeros(1, *shape),), tmp_path / "net.onnx", dynamo=False,
            input_names=["image"], output_names=list(fields), dynamic_axes={"image": {0: "n"}},
        )  # fmt: skip
    exported = OnnxRuntime(tmp_path / "net.onnx")
    for n in (1, 2, 7):
        batch = np.random.default_rng(n).normal(size=(n, *shape)).astype(np.float32)
        found, wanted = runtime(batch), exported(batch)
        assert set(found) == set(fields)
        for name in fields:
            expected = wanted[name] if name == "feature" else softmax(wanted[name])
            assert found[name] == pytest.approx(expected, abs=1e-4)


def test_scores_are_calibrated_and_other_heads_are_not(base: Path, tmp_path: Path) -> None:
    card, runtime = open_model(base)
    batch = np.random.default_rng(0).normal(size=(3, 1, 48, 48)).astype(np.float32)
    assert isinstance(runtime, TorchRuntime)
    with torch.no_grad():
        raw = runtime.network(torch.from_numpy(batch))
    found = runtime(batch)
    assert found["fer2013"] == pytest.approx(softmax(raw.fer2013.numpy() / 0.5), abs=1e-6)
    assert found["ferplus"] == pytest.approx(softmax(raw.ferplus.numpy()), abs=1e-6)
    assert card.calibration.temperature == 0.5 and not runtime.network.training


def test_threads_are_put_back(base: Path) -> None:
    before = torch.get_num_threads()
    TorchRuntime(cards.read(base.with_suffix(".toml")), before + 1)(np.zeros((3, 1, 48, 48), np.float32))
    assert torch.get_num_threads() == before


def test_three_ways_to_name_it_and_a_reading(base: Path, sample: Path) -> None:
    """Weights, card and folder of the run are one model; the command reads with it as Python does."""
    faces = [mien.load(each)(sample).faces for each in (base, base.with_suffix(".toml"), base.parent)]
    assert faces[0] == faces[1] == faces[2] and list(faces[0][0].scores) == list(FER2013)
    run = run_mien("predict", "--model", base, sample)
    assert run.returncode == 0 and f'"label": "{faces[0][0].label}"' in run.stdout


def test_a_network_that_answers_three_tasks(tmp_path: Path, sample: Path) -> None:
    outputs = {"scores": "logits", "valence_arousal": "valence_arousal", "action_units": "action_logits"}
    path = save(
        tmp_path,
        "ddamfn-mtl",
        labels=(*RAFDB, "other"),
        outputs=outputs,
        input=dataclasses.replace(RGB, size=(112, 112)),
        crop=cards.Crop(template="ddamfn5"),
    )
    read = mien.load(path)
    (face,) = read(sample).faces
    assert face.valence is not None and face.arousal is not None and face.action_units is not None
    assert -1 <= face.valence <= 1 and -1 <= face.arousal <= 1 and face.valence != face.arousal
    assert tuple(face.action_units) == ACTION_UNITS and all(0 < value < 1 for value in face.action_units.values())
    runtime = read.runtime
    assert isinstance(runtime, TorchRuntime) and face.points is not None
    pixels = read_image(sample).pixels
    batch = Preprocess.of(read.card).batch([Preprocess.of(read.card).cut(pixels, face.points)])
    with torch.no_grad():
        answer = runtime.network(torch.from_numpy(np.asarray(batch)))
    assert list(face.action_units.values()) == pytest.approx(answer.action_units[0].tolist(), abs=1e-5)
    assert [face.valence, face.arousal] == pytest.approx(answer.valence_arousal[0].tolist(), abs=1e-5)

    other = save(tmp_path / "one", "ddamfn-mtl", {"tasks": ["expression"]}, labels=read.card.labels, outputs=outputs)
    runtime = open_model(other)[1]
    with pytest.raises(WeightsError, match="valence_arousal"):
        runtime(np.zeros((1, 3, 112, 112), np.float32))


def test_a_network_that_reads_regions(tmp_path: Path, sample: Path) -> None:
    """Photographs give dlib's chip and its parts; a crop without a mesh says where its parts come from."""
    sides = {"image": 224, "eye": 90, "nose": 90, "mouth": 90}
    path = save(tmp_path, "global-roi", input=dataclasses.replace(RGB, size=(224, 224)), reading={"inputs": sides})
    (face,) = mien.load(path)(sample).faces
    assert sum(face.scores.values()) == pytest.approx(1, abs=1e-5)
    found = mien.explain(path, sample, method="grad-cam", target="anger")  # asked about the same images
    assert found.probability == pytest.approx(face.scores["anger"], abs=1e-4) and set(found.regions) >= {"eyes", "mouth"}
    read = mien.load(path, detector="whole")
    crop = read_image(sample).pixels[60:200, 150:290]
    assert read(crop).notes == ()
    assert read(np.full((48, 48, 3), 127, np.uint8)).notes == (NO_REGIONS,)


def test_what_does_not_fit_is_refused(base: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(base, tmp_path / "best.safetensors"))
    with pytest.raises(WeightsError, match=r"best\.toml"):
        open_model(path)
    with pytest.raises(WeightsError, match=r"best\.toml"):
        open_model(tmp_path)
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        open_model(tmp_path / "none.safetensors")
    text = base.with_suffix(".toml").read_text()
    card = path.with_suffix(".toml")

    def refused(old: str, new: str, message: str, kind: type[Exception] = WeightsError) -> None:
        assert old in text
        card.write_text(text.replace(old, new))
        with pytest.raises(kind, match=message):
            open_model(path)

    refused("    32,\n", "    40,\n", "mien-base")
    refused('architecture = "mien-base"', 'architecture = "os:system"', "os:system")
    refused('architecture = "mien-base"', 'other = "mien-base"', "architecture")
    refused('scores = "fer2013"', 'scores = "rafdb"', "'rafdb'")
    refused('file = "best.safetensors"', 'file = "best.pth"', r"best\.pth")
    path.write_bytes(path.read_bytes()[:1000])
    refused(sha256(base), sha256(path), "safetensors")


def test_a_card_makes_the_network_fetch_nothing(tmp_path: Path) -> None:
    """`pretrained` in a recipe's options would download, and `checkpoint_path` would open another file."""
    path = save(tmp_path, "timm:resnet18", {"num_classes": 7})
    card = path.with_suffix(".toml")
    more = '[network.options]\npretrained = true\ncheckpoint_path = "/nowhere.pth"'
    card.write_text(card.read_text().replace("[network.options]", more))
    open_model(path)


def test_without_torch_it_says_what_to_install(base: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
from mien.errors import MissingExtra
from mien.runtime.open_model import open_model
try:
    open_model({str(base)!r})
except MissingExtra as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "mien[train]" in run.stdout, run.stderr
