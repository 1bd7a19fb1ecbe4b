"""The words for devices mean the same for torch as for onnxruntime; `compile` changes how a network runs, not what it says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from runs import config
from safetensors.torch import load_file
from torch import Tensor, nn

import mien
from mien.errors import ConfigError
from mien.models.torch_runtime import PLUGINS, TorchRuntime, named, torch_device
from mien.runtime.devices import AUTO, CPU, Device, use
from mien.runtime.open_model import open_model
from mien.runtime.openvino import OpenvinoRuntime
from mien.training import loop
from mien.training import run_dir as checkpoint
from small_networks import BASE, GRAY, SMALL, save

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
without_mps = pytest.mark.skipif(torch.backends.mps.is_available(), reason="this is an Apple processor")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"), "mien-base", SMALL, **BASE)


def test_names_go_both_ways() -> None:
    for device in (CPU, Device("cuda", 3), Device("mps")):
        assert named(torch.device(str(device))) == device
    assert named(torch.device("cuda")) == Device("cuda", 0)
    assert torch_device(CPU) == torch.device("cpu")


@without_cuda
@without_mps
def test_what_torch_does_not_find_is_refused(base: Path) -> None:
    assert torch_device(AUTO) == torch.device("cpu")
    for word in ("cuda", "cuda:1", "mps"):
        with pytest.raises(ConfigError) as error:
            torch_device(Device.parse(word))
        assert torch.__version__ in str(error.value) and repr(str(Device.parse(word))) in str(error.value)
        with use(word), pytest.raises(ConfigError, match="torch"):
            open_model(base)
        with pytest.raises(ConfigError, match=word):
            mien.load(base, device=word)


def test_a_network_says_where_it_runs_and_answers_as_before(base: Path) -> None:
    batch = np.random.default_rng(0).normal(size=(3, 1, 48, 48)).astype(np.float32)
    _, plain = open_model(base)
    assert plain.device == CPU
    with use("cpu"):
        _, chosen = open_model(base)
    for name, values in plain(batch).items():
        assert np.array_equal(chosen(batch)[name], values)
    assert isinstance(plain, TorchRuntime) and {tensor.device.type for tensor in plain.network.parameters()} == {"cpu"}


def test_openvino_has_no_word_for_a_gpu() -> None:
    with use("cuda"), pytest.raises(ConfigError, match="cuda:0"):
        OpenvinoRuntime((b"", b""))


def test_an_export_is_compared_on_the_cpu_whatever_is_chosen_around_it(base: Path, tmp_path: Path) -> None:
    with use("mps"):
        done = mien.export(base, tmp_path / "net.onnx")
    assert max(done.differences.values()) <= 1e-4


class Answer(NamedTuple):
    logits: Tensor


class Flat(nn.Module):
    """One matrix: quick to compile."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(48 * 48, 7)

    def forward(self, image: Tensor) -> Answer:
        return Answer(self.matrix(image.flatten(1)))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the compiler, which is not ours
def test_a_compiled_network_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{__name__}:Flat"
    monkeypatch.setenv(PLUGINS, name)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    path = save(tmp_path, name, network=Flat(), input=GRAY)
    card, plain = open_model(path)
    compiled = TorchRuntime(card, compile=True)
    torch._dynamo.utils.counters.clear()
    for number in (3, 2):
        batch = np.random.default_rng(number).normal(size=(number, 1, 48, 48)).astype(np.float32)
        assert compiled(batch)["logits"] == pytest.approx(plain(batch)["logits"], abs=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1  # it was compiled, not passed through
    assert type(compiled.network) is Flat


@pytest.mark.parametrize(("changes", "message"), [
    ({"device": "gpu"}, "'cuda'"),
    ({"device": "cuda:-1"}, "cuda:-1"),
    pytest.param({"device": "cuda"}, "cuda", marks=without_cuda),
    pytest.param({"device": "mps"}, "mps", marks=without_mps),
    ({"device": "cpu", "precision": "fp16"}, "fp16"),
])  # fmt: skip
def test_training_refuses_what_is_not_there(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        loop.train(config(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_training_on_the_cpu_by_name_and_compiled(tmp_path: Path) -> None:
    """By name it is the run that it is by default. With `compile` names and weights stay those of the network.

    Compiling takes minutes here, so torch is told to run what it was given to compile as it is; weights must then be the same.
    """
    folders = [tmp_path / name for name in ("default", "cpu", "compiled")]
    for folder, changes in zip(folders, ({}, {"device": "cpu"}, {"compile": True}), strict=True):
        with torch.compiler.set_stance("force_eager"):
            loop.train(config(epochs=1, **changes), folder)
        assert json.loads((folder / "env.json").read_text())["machine"]["device"] == "cpu"
    weights = [load_file(folder / "best.safetensors") for folder in folders]
    for other in weights[1:]:
        assert other.keys() == weights[0].keys()
        assert all(torch.equal(value, other[name]) for name, value in weights[0].items())
    assert 'device = "cpu"' in (folders[1] / "config.toml").read_text()
    compiled = loop.open_run(config(epochs=1, compile=True), tmp_path / "looked")
    assert compiled.parts.learner.model._compiled_call_impl is not None
    plain = loop.open_run(config(epochs=1), tmp_path / "plain")
    assert plain.parts.learner.model._compiled_call_impl is None


def test_a_run_may_go_on_elsewhere() -> None:
    """Where a run learns is not what it is: one that was begun on a GPU can be finished without it."""
    here = config()
    for changes in ({"device": "cuda:1"}, {"compile": True}):
        assert checkpoint.identity_of(dataclasses.replace(here, **changes)) == checkpoint.identity_of(here)


def test_precision_follows_the_device() -> None:
    assert loop.fastest_precision("mps") == "fp32"
    assert loop.fastest_precision("cpu") == loop.fastest_precision()
