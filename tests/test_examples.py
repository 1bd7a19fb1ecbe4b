"""The examples in docstrings run and print what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import mien
from clips import moving, write_clip

PACKAGE = Path(mien.__file__).parent
SHOWING = [
    ".".join(("mien", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
"""Modules with examples."""

NEEDS = {
    "mien.io.live": "a network camera",
    "mien.exporting.exporter": "half a minute; the pages export in the tests",
    "mien.models.checkpoints": "a checkpoint of the authors of DAN",
    "mien.models.checkpoints.reading": "a checkpoint of the authors of DAN",
    "mien.models.torch_runtime": "a training run",
    "mien.training.init_weights": "weights of timm",
}
"""Modules with examples that are not run, and what they need."""


@pytest.mark.parametrize("name", SHOWING)
def test_examples_in_docstrings_run(name: str, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(name)
    examples = [example for test in doctest.DocTestFinder().find(module) for example in test.examples]
    assert any(doctest.SKIP in example.options for example in examples) == (name in NEEDS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    if any("clip.mp4" in example.source for example in examples):
        write_clip(tmp_path / "clip.mp4", moving(sample, 10))
    assert doctest.testmod(module).failed == 0


def test_the_package_exports_few_names() -> None:
    """`import mien` provides at most 25 documented names."""
    assert sorted(mien.__all__) == mien.__all__ and len(mien.__all__) <= 25
    assert all(getattr(mien, name).__doc__ for name in mien.__all__)
