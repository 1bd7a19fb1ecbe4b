"""A run's card says how sure its network may be: temperature and threshold, fitted on the validation split."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from runs import config

from mien import cards
from mien.faces.preprocessing import Preprocess
from mien.metrics.calibration import fit_temperature, log_loss, softmax
from mien.runtime.open_model import open_model
from mien.training import validation
from mien.training.data import open_splits
from mien.training.loop import train


def answers(count: int, *, sure: float = 5.0) -> tuple[dict[str, np.ndarray], Any]:
    """Scores that would be calibrated by a temperature of `sure`, and a split of as many images."""
    random = np.random.default_rng(0)
    scores = 1.5 * random.normal(size=(count, 7))
    label = (softmax(scores).cumsum(1) < random.random((count, 1))).sum(1)
    split = SimpleNamespace(targets={"label": torch.from_numpy(label)}, data=SimpleNamespace(name="drawn", split="validation"))
    split.parts, split.rows = (split,), lambda index: slice(None)
    return {"fer2013": (sure * scores).astype(np.float32)}, split


def test_temperature_and_threshold_are_fitted() -> None:
    outputs, split = answers(4000)
    found = validation.calibration(outputs, split, config())
    assert found.temperature == pytest.approx(5, rel=0.05) and found.fitted_on == "drawn validation"
    probabilities, label = softmax(outputs["fer2013"] / found.temperature), split.targets["label"].numpy()
    certain = probabilities.max(1) >= found.threshold
    assert 0.05 < certain.mean() < 0.9 and (probabilities.argmax(1) == label)[certain].mean() == pytest.approx(0.8, abs=0.01)
    assert validation.calibration(outputs, split, config(validation__certain=0.95)).threshold > found.threshold
    assert validation.calibration(outputs, split, config(validation__certain=0.0)).threshold == 0.0


def test_what_has_no_label_or_no_answer_is_left_out() -> None:
    outputs, split = answers(400)
    wanted = validation.calibration(outputs, split, config())
    more = np.full((50, 7), np.nan, np.float32)
    outputs["fer2013"] = np.concatenate([outputs["fer2013"], more, np.eye(7, dtype=np.float32).repeat(10, 0)])
    split.targets["label"] = torch.cat([split.targets["label"], torch.zeros(50).long(), torch.full((70,), -1)])
    assert validation.calibration(outputs, split, config()) == wanted


def test_a_handful_of_images_says_nothing() -> None:
    assert validation.calibration(*answers(validation.MIN_CALIBRATION - 1), config()) == cards.Calibration()


def test_the_card_of_a_run_is_followed(tmp_path: Path) -> None:
    """The card's temperature is the one for the kept weights, and whoever runs them divides by it."""
    settings = config(epochs=3, augment=[], data__options={"number": "1100"})
    train(settings, tmp_path)
    card, runtime = open_model(tmp_path)
    _, split = open_splits(settings)
    assert len(split) >= validation.MIN_CALIBRATION
    preprocess = Preprocess.of(card)
    batch = preprocess.tensor(np.stack([preprocess.whole(sample.read()) for sample in split.data]))
    given = runtime(batch)[card.outputs["scores"]]
    label = split.targets["label"].numpy()
    assert card.calibration.fitted_on == "synthetic validation" and abs(card.calibration.temperature - 1) > 0.01
    assert fit_temperature(np.log(given), label) == pytest.approx(1, abs=0.01)  # nothing is left to divide by
    raw = softmax(np.log(given) * card.calibration.temperature)
    assert log_loss(given, label) < log_loss(raw, label)
