"""The training loop on a miniature FER2013 made of random pictures: it learns, resumes exactly and refuses nonsense."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mien.errors import ConfigError, DatasetError, WeightsError
from mien.training import checkpoint
from mien.training.augmentation import augment
from mien.training.config import AugmentConfig, DataConfig, OptimConfig, TrainConfig
from mien.training.data import open_faces
from mien.training.loop import train
from mien.training.optim import learning_rate

RECIPE = Path(__file__).parents[2] / "recipes" / "fer2013-mien-base.toml"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 training, 24 validation, 24 test pictures, their class written in their brightness; picture 0 leaks into the test."""
    random = np.random.default_rng(0)
    usage = np.repeat([0, 1, 2], [96, 24, 24]).astype(np.uint8)
    label = (np.arange(144) % 7).astype(np.uint8)
    images = (random.integers(0, 60, (144, 48, 48)) + label[:, None, None] * 28).astype(np.uint8)
    votes = np.zeros((144, 10), np.uint8)
    votes[np.arange(144), np.array([4, 5, 6, 1, 3, 2, 0])[label]] = 9
    votes[:, 9] = 1
    group = np.arange(144)
    images[-1], group[-1] = images[0], 0
    folder = tmp_path_factory.mktemp("fer2013")
    np.savez(folder / "fer2013.npz", images=images, label=label, usage=usage, ferplus_votes=votes, content_group=group)
    return folder


@pytest.fixture
def config(root: Path) -> TrainConfig:
    return TrainConfig(
        epochs=2,
        batch=16,
        sizes={"0": 32},
        threads=1,
        bf16=False,
        data=DataConfig(root=str(root)),
        augment=AugmentConfig(light=0, erase=0, blur=0),
        optim=OptimConfig(lr=0.02, ema=0.5),
    )


def test_leaked_pictures_are_left_out(config: TrainConfig) -> None:
    assert len(open_faces(config.data, "train")) == 95
    assert len(open_faces(dataclasses.replace(config.data, leak_free=False), "train")) == 96
    faces = open_faces(config.data, "validation")
    assert faces.soft.sum(1).allclose(torch.ones(24))  # the single NF vote is dropped
    assert (faces.majority == torch.from_numpy(np.array([4, 5, 6, 1, 3, 2, 0]))[faces.label]).all()


def test_a_resumed_run_ends_in_the_same_weights(config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = train(config, tmp_path / "straight")
    saves: list[Path] = []

    def stop_before_the_second(path: Path, state: dict) -> None:
        saves.append(path)
        if len(saves) == 2:
            raise KeyboardInterrupt
        save(path, state)

    save = checkpoint.save
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", stop_before_the_second)
        train(config, tmp_path / "broken")
    resumed = train(config, tmp_path / "broken")
    first, second = load_file(straight), load_file(resumed)
    assert all(torch.equal(first[key], second[key]) for key in first)
    rows = [json.loads(line) for line in (tmp_path / "broken" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]


def test_it_learns_what_can_be_learned(config: TrainConfig, tmp_path: Path) -> None:
    rows: list[dict] = []
    train(dataclasses.replace(config, epochs=8), tmp_path, rows.append)
    assert rows[-1]["loss"] < rows[0]["loss"] - 1
    assert max(row["fer2013"] for row in rows) > 0.4


def test_another_config_does_not_continue_a_run(config: TrainConfig, tmp_path: Path) -> None:
    train(dataclasses.replace(config, epochs=1), tmp_path)
    with pytest.raises(ConfigError, match="another config or other data"):
        train(config, tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lower optim\.lr"):
        train(dataclasses.replace(config, optim=OptimConfig(lr=1e30, clip=1e30, warmup=0.0)), tmp_path)


def test_the_recipe_is_complete_and_true() -> None:
    config = TrainConfig.load(RECIPE)
    assert config.model == "mien-base"
    assert [config.size_at(epoch) for epoch in (0, 13, 14, 39)] == [40, 40, 48, 48]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "unknown key 'epoch'; did you mean 'epochs'"),
        ("[optim]\nlr = 'high'", r"\[optim\]: lr must be a float"),
        ("optim = 3", "optim must be a table"),
        ("epochs = ", "not valid TOML"),
    ],
)
def test_a_wrong_recipe_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        TrainConfig.load(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        TrainConfig.load(tmp_path / "none.toml")


def test_a_wrong_place_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="fer2013"):
        open_faces(DataConfig(root=str(tmp_path)), "train")


def test_a_damaged_checkpoint_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "last.pt", {"a": torch.zeros(3)})
    assert checkpoint.load(tmp_path / "last.pt")["a"].tolist() == [0, 0, 0]
    (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:200])
    with pytest.raises(WeightsError, match="cannot be read"):
        train(config, tmp_path)


def test_no_augmentation_is_the_picture_or_its_mirror() -> None:
    image = torch.rand(8, 1, 48, 48)
    still = AugmentConfig(rotate=0, scale=0, shift=0, light=0, blur=0, erase=0)
    varied = augment(image, 48, still, torch.Generator().manual_seed(0))
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(varied, image, strict=True)]
    mirrored = [torch.allclose(a, b.flip(2), atol=1e-5) for a, b in zip(varied, image, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True)) and any(same) and any(mirrored)


def test_augmentation_follows_its_generator() -> None:
    image = torch.rand(4, 1, 48, 48)
    first, second, third = (augment(image, 40, AugmentConfig(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == (4, 1, 40, 40)
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_the_rate_rises_once_and_falls_to_nothing() -> None:
    rates = [learning_rate(OptimConfig(lr=0.1, warmup=0.1), step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(0.1, rel=0.01) and rates[-1] < 1e-4
    assert np.argmax(rates) in (8, 9, 10)
    assert all(np.diff(rates[:8]) > 0) and all(np.diff(rates[10:]) < 0)
