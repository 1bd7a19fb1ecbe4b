"""Networks, losses, optimizers and schedules of a user, named `module:attribute`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import config

from mien import cards, open_dataset
from mien.cli.train import introduction
from mien.errors import ConfigError, UnknownName
from mien.models.torch_runtime import PLUGINS
from mien.runtime.open_model import open_model
from mien.training.loop import train

OWN: dict[str, Any] = {
    "epochs": 1,
    "model__name": "own:Linear",
    "model__options": {},
    "model__scores": "logits",
    "loss": [{"kind": "own:margin", "options": {"margin": 0.5}}, {"options": {"class_weights": [1, 1, 1, 2, 1, 1, 1]}}],
    "optim__name": "own:rmsprop",
    "optim__lr": 1e-3,
    "schedule__kind": "own:triangle",
    "schedule__warmup": 0.0,
}


def test_a_run_of_own_parts_trains_and_its_network_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[dict[str, Any]] = []
    best = train(config(**OWN), tmp_path / "run", report=events.append)
    rates = [event["lr"] for event in events if event["event"] == "step"]
    assert rates == pytest.approx([1e-3 * (1 - abs(2 * step / 6 - 1)) for step in range(6)])
    monkeypatch.setenv(PLUGINS, "own:Linear")
    card, runtime = open_model(best.with_suffix(".toml"))
    assert runtime(np.zeros((2, 1, 32, 32), np.float32))[card.outputs["scores"]].shape == (2, 7)


@pytest.mark.parametrize("field", ["optim__name", "schedule__kind", "model__name"])
def test_missing_parts_are_named(field: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownName):
        train(config(**OWN | {field: "own:missing"}), tmp_path / "run")


def test_a_run_says_at_its_start_what_it_trains_on(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    train(config(epochs=1), tmp_path / "run", report=events.append)
    start = events[0]
    assert (start["event"], start["device"], start["precision"], start["model"]) == ("start", "cpu", "fp32", "mien-base")
    (data,) = start["datasets"]
    assert data["train"] == 98 and data["leaks"] == 0 and data["empty"] == []
    assert start["steps"] == 6 and start["parameters"] > 1000
    assert not [line for line in introduction(start) if line.startswith("!")]


def test_classes_without_images_are_named_at_the_start(tmp_path: Path) -> None:
    """The head has the classes of the dataset, those without training images included."""
    events: list[dict[str, Any]] = []
    unlabeled = [{"label": name, "shares": {}} for name in ("fear", "disgust")]
    best = train(config(epochs=1, data__relabel=unlabeled), tmp_path / "run", report=events.append)
    (warning,) = (line for line in introduction(events[0]) if line.startswith("!"))
    assert events[0]["datasets"][0]["empty"] == ["disgust", "fear"] and "disgust, fear" in warning
    assert cards.read(best.with_suffix(".toml")).labels == open_dataset("synthetic").labels


def test_a_single_class_cannot_be_trained(tmp_path: Path) -> None:
    rule = {"label": "", "shares": {"fear": 1.0}}
    with pytest.raises(ConfigError) as caught:
        train(config(data__relabel=[rule]), tmp_path / "run")
    assert caught.value.value == "fear"
