"""OpenVINO files have the outputs of their source, run by `mien.load` and by OpenVINO alone; changed files are refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from command import mien as command

import mien
from mien import cards
from mien.errors import WeightsError
from mien.faces.preprocessing import Preprocess
from mien.io.images import read_image
from mien.runtime.open_model import open_model
from small_networks import BASE, SMALL, save

openvino = pytest.importorskip("openvino", reason="needs mien[openvino]", exc_type=ImportError)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    crop = cards.Crop(template="fer2013")
    calibration = cards.Calibration(temperature=0.5)
    return save(tmp_path_factory.mktemp("network"), "mien-base", SMALL, crop=crop, calibration=calibration, **BASE)


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-4), ("fp16", 1e-2)])
def test_files_have_the_outputs_of_their_source(
    precision: str, limit: float, weights: Path, tmp_path: Path, sample: Path
) -> None:
    out = tmp_path / "out.xml"
    done = command("export", weights, "-o", out, "--runtime", "openvino", "--precision", precision)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["file"]["size"] == out.stat().st_size + out.with_suffix(".bin").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.bin", "out.toml", "out.xml"]
    (wanted,), (found,) = mien.load(weights)(sample).faces, mien.load(out)(sample).faces
    assert found.scores == pytest.approx(wanted.scores, abs=limit) and found.label == wanted.label

    card, source = open_model(weights)
    exported = Preprocess.of(open_model(out)[0])
    image = np.random.default_rng(0).integers(0, 255, (90, 90, 3)).astype(np.uint8)
    alone = openvino.Core().compile_model(str(out), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for number in (1, 3):  # any number of faces
        fed = exported.batch([exported.take(image)] * number)
        scores = np.asarray(alone({"image": fed})["scores"])
        assert scores == pytest.approx(source(fed)[card.outputs["scores"]], abs=limit) and len(scores) == number


def test_preparation_inside_and_the_bundled_int8_network(tmp_path: Path, sample: Path) -> None:
    out = tmp_path / "base.xml"
    mien.export("mien-base", out, runtime="openvino", raw_input=True)
    (wanted,), (found,) = mien.load()(sample).faces, mien.load(out)(sample).faces
    assert found.label == wanted.label and found.scores == pytest.approx(wanted.scores, abs=5e-2)


def test_files_that_do_not_belong_together_are_refused(weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.xml"
    mien.export(weights, out, runtime="openvino")
    binary = out.with_suffix(".bin")
    whole = binary.read_bytes()
    binary.write_bytes(whole[:-4] + b"\0\0\0\1")
    with pytest.raises(WeightsError, match=r"out\.bin"):
        mien.load(out)
    binary.write_bytes(whole)
    out.with_suffix(".toml").unlink()
    with pytest.raises(WeightsError, match=r"out\.toml"):
        mien.load(out)


def test_threads_get_their_own_outputs(weights: Path, tmp_path: Path, sample: Path) -> None:
    """`CompiledModel` itself uses one request, in which threads would get the outputs of others."""
    mien.export(weights, tmp_path / "out.xml", runtime="openvino")
    card, run = open_model(tmp_path / "out.xml")
    preprocess, pixels = Preprocess.of(card), read_image(sample).pixels
    batches = [preprocess.batch([preprocess.take(pixels[i : 200 + i, i : 200 + i])] * (1 + i % 3)) for i in range(12)]
    wanted = [run(batch)[card.outputs["scores"]] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: run(batches[number % 12])[card.outputs["scores"]], range(120)))
    assert all(np.array_equal(each, wanted[number % 12]) for number, each in enumerate(found))
