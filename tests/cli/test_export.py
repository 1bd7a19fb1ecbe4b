"""`mien export`: every option, and what is said where it cannot be done."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import Done, mien, on_terminal

from mien import cards
from mien.cli import main
from mien.runtime.open_model import open_model
from small_networks import BASE, SMALL, save

QUANTIZED = ("--precision", "int8", "--calibration", "synthetic", "--calibration-images", 16)

Export = Callable[..., Done]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights."""
    crop = cards.Crop(template="fer2013")
    return save(tmp_path_factory.mktemp("network"), "mien-base", SMALL, crop=crop, **BASE)


@pytest.fixture
def export(weights: Path, capsys: pytest.CaptureFixture[str]) -> Export:
    """The command in this process: torch is slow to come up."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        status = main(["export", str(weights), *map(str, arguments)])
        return Done([], status, *capsys.readouterr())

    return run


def types(path: Path) -> set[int]:
    """The types of the numbers in a file."""
    return {tensor.data_type for tensor in onnx.load(path).graph.initializer}


def test_precisions_and_their_report(weights: Path, export: Export, tmp_path: Path) -> None:
    told = {}
    for precision, chosen in (("fp32", ()), ("fp16", ("--precision", "fp16", "--threads", 2))):
        out = tmp_path / f"{precision}.onnx"
        done = mien("export", weights, "-o", out) if precision == "fp32" else export("-o", out, *chosen)
        assert done.returncode == 0, done.stderr
        told[precision] = json.loads(done.stdout)
        assert told[precision]["out"] == str(out) and told[precision]["file"]["precision"] == precision
        assert max(told[precision]["differences"].values()) <= {"fp32": 1e-4, "fp16": 1e-2}[precision]
        assert told[precision]["file"]["size"] == out.stat().st_size
        assert told[precision]["source"]["speed"] > 0 and told[precision]["file"]["accuracy"] is None
        assert "comparing with the source" in done.stderr and "measuring speed" in done.stderr
    assert told["fp16"]["file"]["size"] < 0.75 * told["fp32"]["file"]["size"]
    assert onnx.TensorProto.FLOAT16 in types(tmp_path / "fp16.onnx")
    card, _ = open_model(tmp_path / "fp16.onnx")
    assert card.export["precision"] == "fp16" and card.export["source"] == "best.safetensors"


def test_int8_with_every_option(export: Export, tmp_path: Path) -> None:
    out, keep = tmp_path / "int8.onnx", ("--keep", "Add", "--keep", "*stem*")
    done = export("-o", out, *QUANTIZED, "--root", tmp_path, "--option", "number=140", "--tolerance", 100, *keep)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["file"]["n"] == told["source"]["n"] > 0 and told["file"]["accuracy"] is not None
    assert onnx.TensorProto.UINT8 in types(out)
    card, _ = open_model(out)
    assert card.export["kept_float"] == ["Add", "*stem*"] and "16 images of synthetic train" in card.export["calibration"]
    assert {row.metric for row in card.measured} == {"accuracy", "ECE"}


@pytest.mark.parametrize("before", [None, b"of an earlier run"])
def test_int8_that_loses_too_much_is_refused_and_what_was_there_stays(
    before: bytes | None, export: Export, tmp_path: Path
) -> None:
    out = tmp_path / "out.onnx"
    if before:
        out.write_bytes(before)
    done = export("-o", out, *QUANTIZED, "--option", "number=140", "--tolerance", -101)
    assert done.returncode == 1 and done.stdout == ""
    said = " ".join(done.stderr.split())
    assert "points of accuracy on synthetic validation" in said and "--keep" in said
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([before] if before else [])


def test_preparation_inside_replaces_an_existing_file(export: Export, tmp_path: Path) -> None:
    out = tmp_path / "raw.onnx"
    out.write_bytes(b"of an earlier run")
    done = export("-o", out, "--raw-input")
    assert done.returncode == 0, done.stderr
    card, runtime = open_model(out)
    assert card.input is not None and card.input.dtype == "uint8"
    assert runtime(np.zeros((2, 70, 90, 3), np.uint8))["scores"].shape == (2, 7)
    assert [path.name for path in tmp_path.iterdir()] == ["raw.onnx"]


def test_a_table_on_a_terminal(weights: Path, tmp_path: Path) -> None:
    done = on_terminal("export", weights, "-o", tmp_path / "out.onnx")
    assert done.returncode == 0, done.stderr
    assert "images/s" in done.stdout and "out.onnx" in done.stdout and "accuracy" not in done.stdout
    assert "largest difference" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--precision", "fp8", "-o", "out.onnx"), 2, "fp8"),
        (("--runtime", "tensorrt", "-o", "out.onnx"), 2, "tensorrt"),
        ((), 1, "--out"),
        (("-o", "out.pth"), 1, ".onnx"),
        (("-o", "out.onnx", "--runtime", "openvino"), 1, ".xml"),
        (("-o", "none/out.onnx"), 1, "folder none"),
        (("-o", "taken.onnx"), 1, "taken.onnx is a folder"),
        (("-o", "out.onnx", "--precision", "int8"), 1, "--calibration"),
        (("-o", "out.onnx", "--keep", "Add"), 1, "int8"),
        (("-o", "out.onnx", "--precision", "int8", "--calibration", "fer2014"), 1, "did you mean"),
        (("-o", "out.onnx", *QUANTIZED[:-1], 0), 1, "--calibration-images"),
        (("-o", "out.onnx", *QUANTIZED, "--option", "number"), 1, "--option"),
        (("-o", "out.onnx", *QUANTIZED, "--protocol", "mine"), 1, "mine"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: tuple[object, ...], status: int, said: str, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken.onnx").mkdir()
    monkeypatch.chdir(tmp_path)
    done = export(*arguments)
    told = " ".join(done.stderr.split())
    assert done.returncode == status and said in told and done.stdout == "", done
    assert status == 2 or "mien: " in told
    assert [path.name for path in tmp_path.iterdir()] == ["taken.onnx"]


def test_cards_and_recipes_beside_the_file_stay(weights: Path, export: Export, tmp_path: Path) -> None:
    """OpenVINO's files need a card beside them: under the name of the source it would take the place of the source's own."""
    before = weights.with_suffix(".toml").read_bytes()
    done = export("-o", weights.with_suffix(".xml"), "--runtime", "openvino")
    assert done.returncode == 1 and weights.name in " ".join(done.stderr.split())
    assert weights.with_suffix(".toml").read_bytes() == before and not weights.with_suffix(".xml").exists()
    recipe = tmp_path / "out.toml"
    recipe.write_text("epochs = 3\n")
    done = export("-o", tmp_path / "out.xml", "--runtime", "openvino")
    assert done.returncode == 1 and "another file" in " ".join(done.stderr.split())
    assert export("-o", tmp_path / "out.onnx").returncode == 0
    assert recipe.read_text() == "epochs = 3\n" and (tmp_path / "out.onnx").is_file()


def test_a_folder_that_may_not_be_written_is_said_before_anything_is_done(export: Export, tmp_path: Path) -> None:
    place = tmp_path / "read-only"
    place.mkdir(mode=0o555)
    if os.geteuid() == 0:  # who may write everywhere but there
        place = Path("/sys/kernel")
        if not place.is_dir():
            pytest.skip("root may write everywhere here")
    done = export("-o", place / "out.onnx")
    assert done.returncode == 1
    assert " ".join(done.stderr.split()).startswith(f"mien: {place / 'out.onnx'} cannot be written: ")


@pytest.mark.skipif(importlib.util.find_spec("openvino") is not None, reason="openvino is installed")
def test_openvino_that_is_missing_is_said(export: Export, tmp_path: Path) -> None:
    done = export("-o", tmp_path / "out.xml", "--runtime", "openvino")
    assert done.returncode == 1 and "mien[openvino]" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_source_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"a model")
    assert main(["export", str(path), "-o", str(path)]) == 1
    assert path.read_bytes() == b"a model"
