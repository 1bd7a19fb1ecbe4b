"""Every architecture as a file without torch: the same outputs through `mien.load`; differences are refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from torch import nn

import mien
from mien import cards, models
from mien.errors import ConfigError, ExportError, UnknownName, WeightsError
from mien.exporting import export, parity
from mien.exporting.graphs import trace
from mien.faces.preprocessing import Preprocess
from mien.io.images import read_image
from mien.labels import FER2013, RAFDB
from mien.metrics.calibration import softmax
from mien.runtime.onnx import OnnxRuntime
from mien.runtime.open_model import open_model
from small_networks import BASE, RGB, SMALL, save
from zoo import CASES, Case

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_consumer.py"
SLOW = {"dda-resnet50"}
ROLES = {
    "ddamfn-mtl": {"scores": "logits", "valence_arousal": "valence_arousal", "action_units": "action_logits"},
    "global-roi": {"scores": "logits", "whole": "whole_logits"},
}


def weights_of(case: Case, folder: Path, network: nn.Module | None = None, **fields: Any) -> Path:
    """A network of the zoo on disk, with settled weights and a calibrated card."""
    size, labels = case.sizes["image"], {"ddamfn-mtl": (*RAFDB, "other"), "efficientnet-b3": FER2013[:6]}
    size_NCHW = cards.Input(**{**dataclasses.asdict(RGB), "size": (size, size)} | fields.pop("input", {}))
    return save(
        folder,
        case.name,
        case.options,
        network or case.settled(),
        labels=labels.get(case.name, FER2013),
        outputs=ROLES.get(case.name, {"scores": "logits"}),
        input=size_NCHW,
        reading={"inputs": case.sizes} if len(case.sizes) > 1 else {},
        calibration=cards.Calibration(temperature=2.0),
        **fields,
    )


def read_whole(model: Path | str, image: np.ndarray) -> mien.Face:
    (face,) = mien.load(model, detector="whole", points=False, blendshapes=False)(image).faces
    return face


def values_of(face: mien.Face) -> list[float]:
    more = [face.valence, face.arousal, *(face.action_units or {}).values()]
    return [*face.scores.values(), *(value for value in more if value is not None)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    return save(
        folder, "mien-base", SMALL, crop=cards.Crop(template="fer2013"), calibration=cards.Calibration(temperature=0.5), **BASE
    )


@pytest.fixture(scope="module")
def image(sample: Path) -> np.ndarray:
    """(150, 150, 3): the face of the bundled photograph."""
    return np.ascontiguousarray(read_image(sample).pixels[60:210, 180:330])


def test_the_matrix_has_every_architecture() -> None:
    assert set(models.MODELS) - {"mien-base", "mien-nano"} <= set(CASES)  # mien-base has tests of its own below


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name, marks=[pytest.mark.slow] if name in SLOW else []) for name, case in CASES.items()]
)
def test_every_architecture_has_the_same_outputs_as_its_file(case: Case, tmp_path: Path, image: np.ndarray) -> None:
    network = case.settled()
    weights, out = weights_of(case, tmp_path, network), tmp_path / "out.onnx"
    done = export(weights, out)
    assert 0 < max(done.differences.values()) <= 1e-4
    assert not any(node.op_type == "PRelu" for node in onnx.load(out).graph.node)
    card, runtime = open_model(out)
    assert isinstance(runtime, OnnxRuntime) and runtime.inputs == list(case.sizes)
    roles = ROLES.get(case.name, {"scores": "logits"})
    assert card.outputs == {role: role for role in [*roles, "feature"]}

    def wanted(images: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
        """The network's outputs, activated here instead of by the package."""
        with torch.inference_mode():
            answer = network(**images)
        found = {"scores": softmax(answer.logits.numpy() / 2), "feature": answer.feature.numpy()}
        if case.name == "ddamfn-mtl":
            found["action_units"] = answer.action_logits.sigmoid().numpy()
            found["valence_arousal"] = answer.valence_arousal.numpy()
        if case.name == "global-roi":
            found["whole"] = softmax(answer.whole_logits.numpy())
        return found

    for batch in (1, 3):  # noise instead of prepared images
        images = case.images(batch)
        found = runtime({name: value.numpy() for name, value in images.items()})
        for role, values in wanted(images).items():
            assert found[role] == pytest.approx(values, abs=1e-4 * max(1.0, float(np.abs(values).max()))), role

    preprocess = Preprocess.of(card)
    if not preprocess.regions:  # whose places in the image depend on the mesh
        (values,) = wanted({"image": torch.from_numpy(preprocess.batch([preprocess.take(image)]))})["scores"]
        assert list(read_whole(out, image).scores.values()) == pytest.approx(values.tolist(), abs=1e-4)


def test_an_exported_file_always_averages_over_both_views(tmp_path: Path) -> None:
    """Other runtimes would warn about the optional input of the bundled file."""
    assert max(export("mien-nano", tmp_path / "out.onnx").differences.values()) <= 1e-6
    runtime = OnnxRuntime(tmp_path / "out.onnx")
    assert runtime.inputs == ["image"] and not runtime.session.get_overridable_initializers()


@pytest.mark.parametrize(
    ("name", "resize", "color"),
    [("ddamfn-mtl", "pil-bilinear", "rgb"), ("global-roi", "pil-bilinear", "bgr"), ("timm:test_resnet", "cv2-bilinear", "bgr")],
)
def test_preparation_inside_the_file(name: str, resize: str, color: str, tmp_path: Path, image: np.ndarray) -> None:
    weights = weights_of(CASES[name], tmp_path, input={"resize": resize, "color": color})
    done = export(weights, tmp_path / "raw.onnx", raw_input=True)
    assert done.card.input is not None and done.card.input.dtype == "uint8"
    read = read_whole(weights, image)
    assert values_of(read_whole(done.path, image)) == pytest.approx(values_of(read), abs=1e-4)
    assert all(each.type.tensor_type.elem_type == onnx.TensorProto.UINT8 for each in onnx.load(done.path).graph.input)
    if name != "global-roi":  # the file alone resizes according to the card
        (scores,) = OnnxRuntime(done.path)(image[None])["scores"]
        assert scores.tolist() == pytest.approx(list(read.scores.values()), abs=1e-4)


@pytest.mark.parametrize("raw", [False, True])
def test_the_example_reads_a_file_without_mien(raw: bool, base: Path, tmp_path: Path, image: np.ndarray) -> None:
    export(base, tmp_path / "face.onnx", raw_input=raw)
    Image.fromarray(image).save(tmp_path / "crop.png")
    code = (
        "import sys; sys.modules['mien'] = None; import runpy; "
        f"sys.argv = ['x', {str(tmp_path / 'face.onnx')!r}, {str(tmp_path / 'crop.png')!r}]; "
        f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == pytest.approx(read_whole(base, image).scores, abs=1e-5)


def test_invalid_exports_are_refused_and_nothing_is_written(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.onnx"
    with pytest.raises(WeightsError, match=r"best\.toml"):
        export(tmp_path, out)
    with pytest.raises(UnknownName, match="precision"):
        export(base, out, precision="fp8")  # pyrefly: ignore
    with pytest.raises(ConfigError) as caught:
        export(base, out, precision="int8")
    assert caught.value.value == "int8"
    with pytest.raises(ConfigError) as caught:
        export(base, tmp_path / "out.pth")
    assert (caught.value.value, caught.value.expected) == (".pth", ".onnx")
    with pytest.raises(ExportError):
        export(base, tmp_path / "none" / "out.onnx")
    monkeypatch.setitem(parity.TOLERANCES, "fp32", 1e-12)
    with pytest.raises(ExportError) as refused:
        export(base, out)
    assert refused.value.expected == 1e-12
    assert list(tmp_path.iterdir()) == []


def test_a_changed_weight_is_noticed(base: Path, tmp_path: Path) -> None:
    done = export(base, tmp_path / "out.onnx")
    model = onnx.load(done.path)
    tensor = max(model.graph.initializer, key=lambda each: np.prod(each.dims))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.5), tensor.name))
    file = OnnxRuntime(model.SerializeToString())
    with pytest.raises(ExportError):
        parity.largest_difference(*open_model(base), done.card, file, parity.TOLERANCES["fp32"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddamfn", "timm:test_resnet"])
def test_int8(name: str, tmp_path: Path, image: np.ndarray) -> None:
    """PReLU is rewritten, weights are stored in bytes, and probabilities stay near; accuracy is measured on real data."""
    weights = weights_of(CASES[name], tmp_path)
    drawn = {split: mien.open_dataset("synthetic", tmp_path, split, number="140") for split in ("train", "validation")}
    done = export(
        weights, tmp_path / "int8.onnx", precision="int8", training=drawn["train"], validation=drawn["validation"],
        images=8, tolerance=100,
    )  # fmt: skip
    graph = onnx.load(done.path).graph
    operators = {node.op_type for node in graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators and "PRelu" not in operators
    stored = [t.data_type for t in graph.initializer if len(t.dims) == 4 and np.prod(t.dims) >= 128]
    assert onnx.TensorProto.INT8 in stored and onnx.TensorProto.FLOAT not in stored
    assert done.file.n == done.source.n == len(drawn["validation"]) and done.card.measured[0].n == done.file.n
    assert values_of(read_whole(done.path, image)) == pytest.approx(values_of(read_whole(weights, image)), abs=0.1)


def test_a_network_that_onnx_cannot_represent_is_refused_with_the_reason() -> None:
    with pytest.raises(ExportError, match="adaptive_avg_pool2d"):
        trace(nn.AdaptiveAvgPool2d(4), {"image": torch.zeros(2, 3, 11, 11)}, ["scores"])
