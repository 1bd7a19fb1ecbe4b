"""The bill of materials lists the dependencies and the bundled weights; every requirement has a lowest version."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("cyclonedx_py", reason="the bill of materials needs cyclonedx-bom (extra dev)")

import sbom
from mien.cards import WEIGHTS, sha256

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_bill_lists_dependencies_and_weights() -> None:
    parts = sbom.bill()["components"]
    packages = {part["name"]: part for part in parts if part["type"] == "library"}
    assert {"numpy", "pillow", "onnxruntime", "cyclopts", "rich"} <= set(packages)  # cyclopts needs rich
    assert not {"torch", "scikit-learn", "pytest"} & set(packages)
    assert packages["numpy"]["version"] == version("numpy")
    weights = [part for part in parts if part["type"] == "machine-learning-model"]
    assert {part["hashes"][0]["content"] for part in weights} == {sha256(path) for path in WEIGHTS.glob("*.onnx")}


def test_every_requirement_has_a_lowest_version() -> None:
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    assert all(">=" in line for line in lines if not line.startswith("mien["))
