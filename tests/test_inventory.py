"""The bill of materials and the lowest versions are those of this installation and of pyproject.toml."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

pytest.importorskip("packaging", reason="maintainers' tools need it")

import inventory
import lowest_versions
from mien.cards import WEIGHTS, sha256

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_bill_names_what_the_core_needs_and_no_more() -> None:
    bill = inventory.bill()
    found = {part["name"]: part for part in bill["components"] if part["type"] == "library"}
    assert {"numpy", "pillow", "onnxruntime", "cyclopts", "rich"} <= set(found)  # rich by way of cyclopts
    assert not {"torch", "scikit-learn", "pytest", "mien"} & set(found)
    assert found["numpy"]["version"] == version("numpy") and found["numpy"]["purl"] == f"pkg:pypi/numpy@{version('numpy')}"
    assert all(part["licenses"] for part in found.values())
    assert len({part["bom-ref"] for part in bill["components"]}) == len(bill["components"])
    assert inventory.bill() == bill


def test_the_bill_has_the_digest_of_every_bundled_weight() -> None:
    weights = [part for part in inventory.bill()["components"] if part["type"] == "machine-learning-model"]
    assert {part["hashes"][0]["content"] for part in weights} == {sha256(path) for path in WEIGHTS.glob("*.onnx")}


def test_unusual_licenses_are_pointed_at() -> None:
    odd = inventory.UNUSUAL.search
    assert all(map(odd, ("GPL-3.0-only", "AGPL-3.0", "CC-BY-NC-4.0", "NVIDIA Proprietary Software", "LicenseRef-NVIDIA")))
    assert not any(map(odd, ("MIT", "LGPL-2.1", "BSD-3-Clause AND 0BSD", "Apache-2.0", "PSF-2.0")))
    assert inventory.table()[1] == []


def test_every_requirement_states_its_lowest_version() -> None:
    core = lowest_versions.constraints()
    assert [line.partition("==")[0] for line in core] == sorted(line.partition(">=")[0] for line in PROJECT["dependencies"])
    assert lowest_versions.constraints(PROJECT["optional-dependencies"])
