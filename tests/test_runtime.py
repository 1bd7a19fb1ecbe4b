"""Opening models: a file without a fitting card never runs."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import numpy as np
import pytest

import mien
from mien import cards
from mien.cli import NETWORKS
from mien.errors import UnknownName, WeightsError
from mien.runtime import onnx as sessions
from mien.runtime.onnx import OnnxRuntime
from mien.runtime.open_model import open_model


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The bundled classifier as a lone file: its card is inside."""
    return Path(shutil.copy(cards.load("mien-base").weights, tmp_path / "mine.onnx"))


def test_a_lone_file_carries_its_card(copied: Path) -> None:
    card, runtime = open_model(copied)
    assert card.input is not None and card.labels == cards.load("mien-base").labels
    assert card.weights == copied
    scores = runtime(np.zeros((3, 1, *card.input.size), np.float32))[card.outputs["scores"]]
    assert scores.shape == (3, 7) and np.allclose(scores.sum(1), 1, atol=1e-5)


def test_a_file_without_a_card_is_refused() -> None:
    detector = cards.bundled()["blazeface"].weights
    with pytest.raises(WeightsError) as caught:
        open_model(detector)
    assert caught.value.path == str(detector) and caught.value.expected == detector.with_suffix(".toml")
    with pytest.raises(WeightsError) as caught:
        open_model("blazeface")
    assert (caught.value.value, caught.value.expected) == ("detector", "classifier")


def test_a_network_for_one_face_at_a_time_is_refused(copied: Path) -> None:
    """As exporters write it where nobody says that the first axis is open."""
    onnx = pytest.importorskip("onnx", reason="the file is changed with onnx")
    network = onnx.load(copied)
    network.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(network, copied)
    with pytest.raises(WeightsError) as caught:
        open_model(copied)
    assert caught.value.value == 1


def test_a_card_of_another_file_is_refused(copied: Path) -> None:
    card = Path(cards.load("mien-base").path or "").read_text()
    copied.with_suffix(".toml").write_text(card.replace('file = "mien-base.onnx"', 'file = "mine.onnx"'))
    open_model(copied)
    with copied.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(WeightsError) as caught:
        open_model(copied)
    assert caught.value.path == str(copied) and caught.value.value == cards.sha256(copied)


def test_damaged_and_missing_files_are_refused(copied: Path) -> None:
    copied.write_bytes(copied.read_bytes()[:5000])
    with pytest.raises(WeightsError) as caught:
        OnnxRuntime(copied)
    assert caught.value.path == str(copied)
    with pytest.raises(WeightsError) as caught:
        open_model(copied.with_name("none.onnx"))
    assert caught.value.path == str(copied.with_name("none.onnx"))
    with pytest.raises(UnknownName, match="'mien-base'"):
        open_model("mein-base")
    with pytest.raises(UnknownName) as error:  # what could be named is listed: no detector, no mesh
        open_model("blaze-face")
    bundled = cards.bundled()
    for name in bundled:
        assert (name in str(error.value).partition("Known: ")[2].split(", ")) is (bundled[name].kind == "classifier")


def test_an_output_that_the_network_lacks_is_refused(copied: Path) -> None:
    text = Path(cards.load("mien-base").path or "").read_text()
    copied.with_suffix(".toml").write_text(
        text.replace('file = "mien-base.onnx"', 'file = "mine.onnx"').replace('scores = "scores"', 'scores = "logits"')
    )
    with pytest.raises(WeightsError) as caught:
        open_model(copied)
    assert caught.value.value == "logits" and "scores" in caught.value.expected


def test_eight_bits_are_exact_and_quick_on_this_processor() -> None:
    """Signed int8 weights overflow in onnxruntime where x86 has no VNNI, if it is not told: 2 points of accuracy were lost."""
    onnx = pytest.importorskip("onnx")
    a, y = (onnx.helper.make_tensor_value_info(*value) for value in (("a", 2, [1, 4]), ("y", 6, [1, 1])))
    weights = onnx.helper.make_tensor("b", onnx.TensorProto.INT8, [4, 1], [127] * 4)
    graph = onnx.helper.make_graph([onnx.helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "g", [a], [y], [weights])
    network = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 10)], ir_version=5, producer_name="")
    assert base64.b64decode(sessions.PRODUCT) == network.SerializeToString()
    session = sessions.OnnxRuntime(network.SerializeToString()).session
    assert session.run(None, {"a": np.full((1, 4), 255, np.uint8)})[0].tolist() == [[4 * 255 * 127]]
    if (told := Path("/proc/cpuinfo")).exists() and "avx2" in told.read_text():
        assert sessions.bytes_overflow() is not ("vnni" in told.read_text())


@pytest.mark.parametrize("name", ["mien-base", "mien-nano"])
def test_bundled_classifiers_answer_the_same_on_the_slower_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What processors without VNNI are told to compute is what the others compute, to the last digit."""
    card = cards.load(name)
    assert card.input is not None
    faces = np.random.default_rng(0).uniform(-1, 1, (16, 1, *card.input.size)).astype(np.float32)
    quick = open_model(name)[1](faces)
    monkeypatch.setattr(sessions, "bytes_overflow", lambda: True)
    slow = open_model(name)[1](faces)
    assert all(np.array_equal(quick[output], slow[output]) for output in quick)


@pytest.mark.parametrize("name", ["mien-base", "mien-nano"])
def test_bundled_classifiers_average_the_logits_of_two_views(name: str) -> None:
    card, runtime = open_model(name)
    assert card.input is not None and isinstance(runtime, OnnxRuntime)
    faces = np.random.default_rng(0).uniform(-1, 1, (3, 1, *card.input.size)).astype(np.float32)
    views = [runtime.one_view(each) for each in (faces, np.ascontiguousarray(faces[..., ::-1]))]
    for output, found in runtime(faces).items():
        one, other = (view[output].astype(np.float64) for view in views)
        assert np.abs(one - other).max() > 1e-3
        mean = np.sqrt(one * other)
        assert found == pytest.approx(mean / mean.sum(1, keepdims=True), abs=1e-6)


def test_a_network_without_views_has_one() -> None:
    detector = OnnxRuntime(cards.bundled()["blazeface"].weights)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 192, 192, 3)).astype(np.float32)
    found, same = detector(image), detector.one_view(image)
    assert all(np.array_equal(found[name], same[name]) for name in found)


def test_metadata_that_is_no_text_is_refused(copied: Path) -> None:
    """Any byte may stand in a string of an ONNX file: here one more entry, "x" → FF, at its end."""
    copied.write_bytes(copied.read_bytes() + b"\x72\x06\x0a\x01x\x12\x01\xff")
    with pytest.raises(WeightsError) as caught:
        open_model(copied)
    assert caught.value.path == str(copied)


def test_what_is_no_model_is_said(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"best\.toml"):
        open_model(tmp_path)
    with pytest.raises(WeightsError) as caught:
        open_model(tmp_path / "none.safetensors")
    assert caught.value.path == str(tmp_path / "none.safetensors")
    (tmp_path / "lone.safetensors").touch()
    with pytest.raises(WeightsError) as caught:
        open_model(tmp_path / "lone.safetensors")
    assert caught.value.expected == tmp_path / "lone.toml"
    card = Path(cards.load("mien-base").path or "").read_text()
    (tmp_path / "odd.toml").write_text(card.replace("mien-base.onnx", "mine.h5"))
    with pytest.raises(WeightsError, match=r"mine\.h5"):
        open_model(tmp_path / "odd.toml")
    copied.write_bytes(copied.read_bytes()[:1000])
    with pytest.raises(WeightsError) as caught:
        open_model(copied)
    assert caught.value.path == str(copied)


def test_bundled_weights_are_checked_before_they_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mien import cards as weights

    with pytest.raises(WeightsError, match=r"none\.onnx"):
        weights.bundled_file("none.onnx")
    monkeypatch.setattr(weights, "WEIGHTS", tmp_path)
    with pytest.raises(WeightsError, match=r"blazeface\.onnx"):
        weights.bundled_file("blazeface.onnx")
    (tmp_path / "blazeface.onnx").write_bytes(b"other")
    with pytest.raises(WeightsError) as caught:
        weights.bundled_file("blazeface.onnx")
    assert caught.value.value == weights.sha256(tmp_path / "blazeface.onnx")


def test_what_predict_opens_early_is_what_it_loads() -> None:
    """A network that is not asked for would be opened for nothing; each is used once."""
    sessions.open_early(NETWORKS)
    early = dict(sessions._EARLY)
    mien.load()
    assert early and not sessions._EARLY
    assert all(session.result().get_inputs() for session in early.values())
