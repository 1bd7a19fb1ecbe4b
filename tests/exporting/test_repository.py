"""Folders for model hubs: metadata, files, and the example that runs."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

import mien
from mien import cards
from mien.cli import main
from mien.exporting.repository import readme

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
pytest.importorskip("torch", reason="the extra [train] is not installed")


def test_a_folder_that_is_ready_to_push(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "fer-nano"
    assert main(["export", "mien-nano", "--push-ready", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "card.json", "example.py", "model.onnx"]
    card = cards.load("mien-nano")
    assert json.loads((folder / "card.json").read_text())["labels"] == list(card.labels)
    assert mien.load(folder / "model.onnx").card.labels == card.labels
    text = (folder / "README.md").read_text()
    table = yaml.safe_load(text.split("---")[1])
    assert table["license"] == "apache-2.0" and "facial-expression-recognition" in table["tags"]
    measured = [one.value for one in card.measured if one.split == "test"]
    found = [result["metrics"][0]["value"] for result in table["model-index"][0]["results"]]
    assert found == pytest.approx(measured, abs=1e-4) and card.limits in text
    done = subprocess.run([sys.executable, str(folder / "example.py")], capture_output=True, text=True, check=True)
    assert "happiness" in done.stdout


def test_a_card_without_measurements() -> None:
    card = dataclasses.replace(cards.load("mien-nano"), measured=(), license="LicenseRef-own", limits="", data="")
    table = yaml.safe_load(readme(card, "x").split("---")[1])
    assert table["license"] == "other" and "model-index" not in table


@pytest.mark.parametrize(
    "arguments", [[], ["--out", "a.onnx", "--push-ready", "b"], ["--push-ready", "b", "--runtime", "openvino"]]
)
def test_one_destination(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "mien-nano", *arguments]) == 1
