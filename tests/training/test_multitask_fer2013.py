import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mien.data.datasets import open_dataset
from mien.faces.landmarks import Blendshapes, Landmarker
from mien.labels import BLENDSHAPES, FERPLUS

TOOL = Path(__file__).resolve().parents[2] / "tools" / "make_multitask_fer2013.py"


def run(root: Path, out: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), "--root", str(root), "--out", str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "MIEN_CACHE": str(cache)},
    )


@pytest.fixture(scope="module")
def miniature(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A few rows of each split as `fer2013.npz`; the second row of train is made a copy of a test image."""
    folder = tmp_path_factory.mktemp("fer2013")
    with np.load(shared / "data/fer2013/fer2013.npz") as file:
        whole = {name: file[name] for name in ("images", "label", "usage", "content_group", "ferplus_votes")}
    rows = np.concatenate([np.flatnonzero(whole["usage"] == part)[:number] for part, number in ((0, 40), (1, 12), (2, 12))])
    mini = {name: column[rows].copy() for name, column in whole.items()}
    mini["content_group"] = np.arange(len(rows))
    mini["content_group"][1] = mini["content_group"][-1]
    mini["images"][1] = mini["images"][-1]
    mini["images"][5] = 127  # no face
    np.savez(folder / "fer2013.npz", **mini)
    return folder, mini


def test_labels_follow_the_stated_rules(miniature: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    root, mini = miniature
    first = run(root, tmp_path / "a", tmp_path)
    assert first.returncode == 0, first.stderr
    data = {split: open_dataset("csv", tmp_path / "a", split, labels="ferplus") for split in ("train", "validation", "test")}
    train = data["train"]
    assert [len(split) for split in data.values()] == [39, 12, 12]
    assert train.labels == FERPLUS
    assert train.unit_names == tuple(f"AU{number}" for number in (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26))
    assert "train/00001.png" not in train.names.tolist()  # it also occurs in test
    assert np.array_equal(train[0].read()[..., 0], mini["images"][0])

    votes = mini["ferplus_votes"][:40][np.arange(40) != 1].astype(float)
    place = {"neutral": 0, "happiness": 1}
    for index, row in enumerate(votes):
        if row[:8].sum() == row[place["happiness"]] + row[place["neutral"]] >= 5 and not np.isnan(train.valence[index]):
            share = row[place["happiness"]] / row[:8].sum()
            assert train.valence[index] == pytest.approx(0.81 * share, abs=1e-4)
            assert train.arousal[index] == pytest.approx(0.51 * share, abs=1e-4)
        winner = np.where(row > 1, row, 0)
        clear = winner.max() * 2 > winner.sum() and winner.argmax() < 8
        assert train.label[index] == (winner.argmax() if clear else -1)

    faceless = int(np.flatnonzero(train.names == "train/00005.png")[0])
    assert np.isnan([train.valence[faceless], train.arousal[faceless]]).all()
    assert (train.action_units[faceless] == -1).all()

    mesh = Landmarker("mesh478").crops(list(mini["images"][:40]))
    seen = np.delete(mesh.presence >= 0.5, 1)
    jaw = np.delete(Blendshapes()(mesh.points)[:, BLENDSHAPES.index("jawOpen")], 1)
    jaw26 = train.action_units[:, train.unit_names.index("AU26")]
    assert (jaw26[~seen] == -1).all()
    assert jaw[seen][jaw26[seen] == 1].min() > jaw[seen][jaw26[seen] == -1].max() > jaw[seen][jaw26[seen] == 0].max()
    assert (jaw26 == 1).sum() == pytest.approx(0.12 * (jaw26 >= 0).sum(), abs=1)

    facts = json.loads((tmp_path / "a/facts.json").read_text())
    assert facts["splits"]["train"]["images"] == 39
    assert "not annotated" in facts["what"]
    with (tmp_path / "a/labels.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + 39 + 12 + 12


def test_the_same_images_give_the_same_files(miniature: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    root, _ = miniature
    outputs = [run(root, tmp_path / name, tmp_path / "cache" / name).stdout for name in ("a", "b")]
    assert outputs[0] == outputs[1] != ""
    again = run(root, tmp_path / "a", tmp_path)
    assert again.returncode != 0
    assert "is not empty; give a new folder" in again.stderr
