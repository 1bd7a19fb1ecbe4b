"""The examples in docstrings do what they show; the reference of Python is made of them."""

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
    "mien.exporting": "half a minute; README and docs/export.md export in the tests",
    "mien.models.checkpoints": "a file that DAN's authors give out",
    "mien.models.checkpoints.checkpoints": "a file that DAN's authors give out",
    "mien.models.torch_runtime": "a training run",
    "mien.training.init_weights": "weights of timm",
}
"""Modules of which some example is shown and not run, and what it needs."""


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


def test_the_front_door_has_few_names() -> None:
    """What `import mien` gives is what its users must learn, each name with its own words in the reference."""
    page = (PACKAGE.parents[1] / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    assert sorted(mien.__all__) == mien.__all__ and len(mien.__all__) <= 25
    for name in mien.__all__:
        assert getattr(mien, name).__doc__
        assert f"\n### mien.{name}\n" in page
