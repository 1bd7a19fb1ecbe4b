"""Every architecture against what its authors' network answers, kept in ../shared/golden."""

import gc
import importlib.util
import json
from types import ModuleType

import fill
import numpy as np
import pytest
from author_outputs import GOLDEN, NETWORKS, author_outputs, folder_of

TOLERANCE = 1e-5
"""Largest difference as a share of the output's largest value."""
ROUNDED = {"heads_logsoftmax": 1e-4, "map3_every97": 5e-5, "map4_every97": 5e-5}
"""Outputs whose golden values are themselves no nearer to exact arithmetic: our networks in float64 differ from them by 5.8e-5
(DAN's heads, behind attention weights of order 1000) and 1.5e-5 (DDA's last maps), and processors round differently."""

pytestmark = pytest.mark.shared

VARIANTS = {"globalroi8", "global8", "ddamfn8", "dan6", "dan8", "poster8"}
"""Networks that differ from another one in their number of classes only: compared by `make parity` and `make test-slow`."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in VARIANTS else []) for name in NETWORKS]
)
def test_outputs_equal_the_authors(name: str) -> None:
    ours = author_outputs(name, seed="a")
    gc.collect()
    with np.load(folder_of(name) / f"{name}.npz") as golden:
        assert set(ours) == set(golden.files)
        for key, theirs in ((key, golden[key]) for key in golden.files):
            assert ours[key].shape == theirs.shape
            error = np.abs(ours[key] - theirs).max() / np.abs(theirs).max()
            assert error <= ROUNDED.get(key, TOLERANCE), f"{name} {key}: {error:.1e}"


def test_every_golden_model_is_compared() -> None:
    for folder in (GOLDEN, GOLDEN / "poster"):
        networks = {name for name in NETWORKS if folder_of(name) == folder}
        listed = json.loads((folder / "summary.json").read_text())
        assert networks == set(listed) == {each.stem for each in folder.glob("*.npz")}


@pytest.fixture(scope="module")
def golden_rule() -> ModuleType:
    specification = importlib.util.spec_from_file_location("golden_fill", GOLDEN / "fill.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", ["a", "something else"])
@pytest.mark.parametrize(
    "name", ["ddamfn7", "global7", "mfer7"]
)  # BatchNorm, one-channel norms, layer scales and linear layers
def test_our_filling_rule_is_the_golden_one(name: str, seed: str, golden_rule: ModuleType) -> None:
    keys = fill.read_keys(GOLDEN / "keys" / f"{name}.tsv")
    assert keys == golden_rule.read_keys(GOLDEN / "keys" / f"{name}.tsv")
    small = [row for row in keys if np.prod(row[1]) < 50_000]
    ours, theirs = fill.state_dict(seed, small), golden_rule.state_dict(seed, small)
    for key in theirs:
        np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
        assert ours[key].dtype == theirs[key].dtype


def test_our_images_are_the_golden_ones(golden_rule: ModuleType) -> None:
    shape = (2, 3, 90, 90)
    np.testing.assert_array_equal(fill.images("b", "eye", shape), golden_rule.images("b", "eye", shape))
