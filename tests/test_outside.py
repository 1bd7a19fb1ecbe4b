"""One network, one dataset and one detector from a file outside the package, by name: trained, measured, used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mien.errors import WeightsError
from mien.runtime.open_model import open_model

PARTS = '''
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from mien.data.datasets import Reader
from mien.data.datasets.folders import of_files
from mien.data.datasets.layout import Layout
from mien.data.datasets.protocols import Protocol, official
from mien.faces.detection import Detections


class Answer(NamedTuple):
    logits: Tensor
    feature: Tensor


class Small(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.head = nn.Linear(128, num_classes)

    def forward(self, image: Tensor) -> Answer:
        feature = self.body(image)
        return Answer(self.head(feature), feature)


def small(num_classes: int = 7) -> nn.Module:
    return Small(num_classes)


def read(place):
    paths = sorted(place.base.glob("*.png"))
    names = [path.name for path in paths]
    labels = [place.labels.index(path.stem.partition("_")[2]) for path in paths]
    parts = [("train", "train", "validation", "test")[int(path.stem.partition("_")[0]) // 2 % 4] for path in paths]
    return of_files(place.base, place.labels, names, labels, parts)


MINE = Reader(
    name="mine", title="numbered files", obtain="Draw them.", labels=("happiness", "neutral"),
    layouts=(Layout("numbered files", ("*_*.png",), read),), protocols={"official": Protocol("by number", official)},
)


class Left:
    """One face, where the bundled photograph has it."""

    def __init__(self, **options):
        pass

    def __call__(self, image):
        height, width = image.shape[:2]
        box = np.array([[0.34 * width, 0.13 * height, 0.55 * width, 0.35 * height]], np.float32)
        return Detections(box, np.ones(1, np.float32), np.zeros(1, np.float32))
'''

RECIPE = """
about = "Parts from outside."
epochs = 1
batch = 8
[model]
name = "outside_parts:small"
[data]
dataset = "outside_parts:MINE"
root = "numbered"
[input]
size = 48
crop = "fer2013"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    from mien.data.datasets.synthetic import draw_face

    folder = tmp_path_factory.mktemp("outside")
    (folder / "outside_parts.py").write_text(PARTS)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "numbered").mkdir()
    for number in range(32):
        label = ("happiness", "neutral")[number % 2]
        Image.fromarray(draw_face(label, number)).save(folder / "numbered" / f"{number}_{label}.png")
    run(folder, "train", "recipe.toml", "-o", "run")
    return folder


def run(folder: Path, *words: str, **variables: str) -> str:
    """The command as it is installed: without the working folder on the path."""
    code = "import sys; sys.path.pop(0); from mien.cli import main; sys.exit(main())"
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry.endswith(("src", "site-packages")))
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_three_are_used_by_the_command(folder: Path, sample: Path) -> None:
    trust = {"MIEN_PLUGINS": "outside_parts:small"}
    words = ("--dataset", "outside_parts:MINE", "--root", "numbered", "--out", "out", "--no-page", "--json")
    figures = json.loads(run(folder, "evaluate", "run", *words, **trust))
    assert figures["counts"]["answered"] == 8
    result = json.loads(run(folder, "predict", str(sample), "--model", "run", "--detector", "outside_parts:Left", **trust))
    assert set(result["faces"][0]["scores"]) == {"happiness", "neutral"}
    assert result["faces"][0]["box"]["left"] == pytest.approx(0.34 * 512, abs=0.01)


def test_a_card_alone_runs_no_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIEN_PLUGINS", raising=False)
    with pytest.raises(WeightsError, match="MIEN_PLUGINS=outside_parts:small"):
        open_model(folder / "run")
    assert "outside_parts" not in sys.modules
