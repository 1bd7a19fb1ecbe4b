"""Configs and recipes that make no sense are refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs import config

from mien.errors import ConfigError, MienError, UnknownName
from mien.training.config import TrainConfig
from mien.training.loop import train


@pytest.mark.parametrize(
    ("changes", "error", "value"),
    [
        ({"loss": [{"kind": "cross-entrpy", "output": "fer2013"}]}, UnknownName, None),
        ({"loss": [{"kind": "cross-entropy", "output": "logits"}]}, ConfigError, "logits"),
        ({"loss": [{"output": "fer2013", "options": {"smothing": 1}}]}, ConfigError, "smothing"),
        ({"loss": [{"kind": "votes", "output": "ferplus"}]}, ConfigError, "votes"),
        ({"loss": []}, ConfigError, None),
        ({"model__scores": "ferplus"}, ConfigError, 8),
        ({"optim__name": "sdg"}, ConfigError, "sdg"),
        ({"schedule__kind": "cosin"}, ConfigError, "cosin"),
        ({"loss": [{"output": "fer2013", "options": {"class_weights": [1.0, 2.0]}}]}, ConfigError, (1.0, 2.0)),
        ({"batch": 4096}, ConfigError, 4096),
        ({"precision": "fp16"}, ConfigError, "fp16"),
        ({"augment": [{"op": "flipp"}]}, UnknownName, None),
        ({"input__crop": "arcfase112"}, UnknownName, None),
        ({"augment": [{"op": "colour-jitter"}]}, ConfigError, "colour-jitter"),
        ({"input": {"size": 32, "color": "gray", "normalize": "imagenet"}}, ConfigError, "imagenet"),
        ({"validation": {"metric": "accuracies"}}, ConfigError, "accuracies"),
        ({"validation": {"metric": "loss"}}, ConfigError, "loss"),
        ({"validation": {"metric": "p"}}, ConfigError, "p"),
        ({"validation": {"metric": "last"}, "schedule": {"kind": "plateau"}}, ConfigError, "last"),
        ({"epochs": 0}, ConfigError, 0),
        ({"workers": -1}, ConfigError, -1),
        ({"schedule": {"kind": "step", "every": 0}}, ConfigError, 0),
        ({"optim__betas": [0.9]}, ConfigError, [0.9]),
        ({"validation": {"views": 3}}, ConfigError, 3),
        ({"mix": {"mixup": -1.0}}, ConfigError, -1.0),
        ({"input__sizes": {"first": 32}}, ConfigError, "first"),
        ({"input__regions": {"eye": 0}}, ConfigError, 0),
        ({"model__init": "mien-base"}, ConfigError, "mien-base"),
        ({"fill": {"confidence": 0.9}}, ConfigError, "fill"),
    ],
)
def test_invalid_configs_are_refused_before_training(
    changes: dict[str, Any], error: type[MienError], value: Any, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        train(config(**changes), tmp_path / "run")
    assert caught.value.value == value or error is UnknownName
    assert not (tmp_path / "run").exists()


def test_a_learning_rate_must_be_a_number() -> None:
    with pytest.raises(ConfigError) as caught:
        config(optim__lr=float("nan"))
    assert str(caught.value.expected) == "0 or more"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epoch = 3", "epochs"),
        ("[optim]\nlr = 'high'", "a number"),
        ("optim = 3", None),
        ("epochs = ", None),
        pytest.param(f"epochs = {'9' * 5_000}", None, id="thousands of digits"),
        pytest.param(f"epochs = {'[' * 5_000}", None, id="thousands of lists"),
        pytest.param(f"precision = 0x{'f' * 5_000}", "auto", id="hexadecimal"),
        pytest.param(f"[optim]\nlr = 0x{'f' * 500}", "a number", id="too large for a float"),
        ("[schedule]\nkind = 'cosin'", "cosine"),
        ("[input]\nnormalise = 'half'", "normalize"),
        ("[input]\ncolor = 'grey'", "gray"),
    ],
)
def test_invalid_recipes_are_refused(text: str, expected: str | None, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        TrainConfig.load(path)
    assert expected is None or expected in caught.value.expected
    with pytest.raises(ConfigError) as caught:
        TrainConfig.load(tmp_path / "none.toml")
    assert caught.value.path == str(tmp_path / "none.toml")
    path.write_text("")
    with pytest.raises(ConfigError) as caught:
        TrainConfig.load(path, ["--epochs"])
    assert caught.value.value == "--epochs"
