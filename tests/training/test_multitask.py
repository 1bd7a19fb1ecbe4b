import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from miniatures import MINIATURES
from runs import config
from sklearn.metrics import f1_score

from mien import cards
from mien.errors import ConfigError
from mien.labels import ACTION_UNITS
from mien.metrics.affect import GRID, choose_thresholds, halves, tune_units
from mien.models.ddamfn_mtl import MultiTaskOutput
from mien.training import loop
from mien.training.config import TrainConfig
from mien.training.loop import train
from mien.training.teachers import fill, pseudo_labeled

UNITS = ("AU1", "AU2", "AU4")


def faces(rows: int = 400, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of three units that are good, shifted low, and useless; a tenth is not annotated."""
    random = np.random.default_rng(seed)
    truth = (random.random((rows, 3)) < [0.4, 0.2, 0.1]).astype(int)
    score = truth * [2.0, 2.0, 0.0] + random.normal(size=(rows, 3)) - [1.0, 2.5, 1.0]
    return 1 / (1 + np.exp(-score)), np.where(random.random((rows, 3)) < 0.1, -1, truth)


def best_by_search(probability: np.ndarray, truth: np.ndarray) -> float:
    known = truth >= 0
    return max(f1_score(truth[known], probability[known] > threshold, zero_division=0) for threshold in GRID)


def test_thresholds_are_the_best_of_the_grid() -> None:
    probability, truth = faces()
    values = choose_thresholds(probability, truth)
    for unit, threshold in enumerate(values):
        known = truth[:, unit] >= 0
        reached = f1_score(truth[known, unit], probability[known, unit] > threshold, zero_division=0)
        assert reached == pytest.approx(best_by_search(probability[:, unit], truth[:, unit]))
    assert values[1] < 0.4  # this unit's probabilities are too low


def test_thresholds_stay_at_one_half_where_nothing_is_better() -> None:
    probability = np.array([[0.05, 0.2], [0.95, 0.9], [0.95, 0.3]])
    truth = np.array([[0, 0], [1, 0], [1, -1]])
    assert choose_thresholds(probability, truth).tolist() == [0.5, 0.5]
    probability[0] = np.nan
    assert choose_thresholds(probability, truth).tolist() == [0.5, 0.5]


def test_halves_keep_videos_together_whatever_their_order() -> None:
    videos = np.repeat([f"video{i}" for i in range(20)], np.arange(1, 21))
    side = halves(videos)
    assert all(len(set(side[videos == video])) == 1 for video in videos)
    assert 0.35 < side.mean() < 0.65
    turned = np.random.default_rng(0).permutation(len(videos))
    assert np.array_equal(halves(videos[turned]), side[turned])


def test_thresholds_are_judged_on_faces_they_were_not_chosen_on() -> None:
    probability, truth = faces()
    names = [f"face{i}" for i in range(len(truth))]
    found = tune_units(probability, truth, UNITS, names)
    side = halves(names)
    assert found.chosen_on == side.sum() and found.judged_on == (~side).sum()
    assert list(found.values.values()) == choose_thresholds(probability[side], truth[side]).tolist()
    expected = [
        f1_score(truth[rows, unit], probability[rows, unit] > threshold)
        for unit, threshold in enumerate(found.values.values())
        for rows in [~side & (truth[:, unit] >= 0)]
    ]
    assert found.f1 == pytest.approx(np.mean(expected))
    assert found.f1 > found.f1_half
    truth[~side] = 1 - np.abs(truth[~side])  # other answers on the judged part leave the thresholds alone
    assert tune_units(probability, truth, UNITS, names).values == found.values
    assert found.figures()["unit_thresholds"] == {name: pytest.approx(value) for name, value in found.values.items()}


def answer(logits: list[list[float]], affect: list[list[float]], units: list[list[float]]) -> MultiTaskOutput:
    empty = torch.zeros(len(logits), 1)
    return MultiTaskOutput(torch.tensor(logits), torch.tensor(affect), torch.tensor(units), empty, empty, ())


def test_only_missing_annotations_are_filled_and_only_by_sure_answers() -> None:
    nan = float("nan")
    targets = {
        "label": torch.tensor([2, -1, -1]),
        "valence_arousal": torch.tensor([[0.5, 0.5], [nan, nan], [nan, nan]]),
        "action_units": torch.tensor([[1.0, -1.0], [-1.0, -1.0], [0.0, -1.0]]),
    }
    sure, unsure = [9.0, 0.0, 0.0], [1.0, 0.5, 0.0]
    first = answer([sure, sure, unsure], [[0.9, 0.9], [0.2, 0.4], [0.0, 0.0]], [[-9.0, 9.0], [9.0, 0.1], [9.0, -9.0]])
    second = answer([sure, sure, unsure], [[0.9, 0.9], [0.3, 0.4], [0.0, 0.5]], [[-9.0, 9.0], [9.0, 0.1], [9.0, -9.0]])
    found = fill(targets, [first, second], confidence=0.9, tolerance=0.11)
    assert found["label"].tolist() == [2, 0, -1]
    assert found["action_units"].tolist() == [[1, 1], [1, -1], [0, 0]]
    assert torch.allclose(found["valence_arousal"][:2], torch.tensor([[0.5, 0.5], [0.25, 0.4]]))
    assert found["valence_arousal"][2].isnan().all()
    assert targets["label"].tolist() == [2, -1, -1]
    assert fill(targets, [first], 0.9, 0.1)["valence_arousal"][1].isnan().all()  # one view says nothing about how sure it is


def test_soft_labels_are_annotations_too() -> None:
    targets = {"label": torch.tensor([-1, -1]), "soft": torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])}
    found = fill(targets, [answer([[9.0, 0.0, 0.0]] * 2, [[0.0, 0.0]] * 2, [[0.0, 0.0]] * 2)], 0.9, 0.1)
    assert found["label"].tolist() == [-1, 0]
    assert found["soft"][0].tolist() == [0.5, 0.5, 0.0] and found["soft"][1, 0] > 0.99
    assert found["soft"].sum(1).tolist() == pytest.approx([1, 1])


def test_a_run_writes_its_thresholds_into_the_card(tmp_path: Path) -> None:
    MINIATURES["affwild2: cropped_aligned and annotations filter=none"].build(tmp_path / "data")
    recipe = TrainConfig.load(
        Path(__file__).parents[2] / "recipes/affwild2-ddamfn-mtl-mien.toml",
        {"epochs": 1, "batch": 4, "threads": 1, "stages": [], "model.init.file": "", "data.root": str(tmp_path / "data")}
        | {"data.limit": 8, "data.validation_limit": 4, "data.fraction": 0.4},
    )
    best = train(recipe, tmp_path / "mtl" / "1")
    row = json.loads((best.parent / "metrics.jsonl").read_text())
    figures = cards.read(best.with_suffix(".toml")).figures
    assert tuple(figures["unit_thresholds"]) == ACTION_UNITS
    assert all(0.1 <= value <= 0.89 for value in figures["unit_thresholds"].values())
    assert figures["unit_thresholds_fit"]["f1_at_thresholds"] == pytest.approx(
        row["au_f1_at_thresholds"], nan_ok=True, abs=1e-6
    )


def test_a_run_takes_pseudo_labels_from_its_averaged_weights(tmp_path: Path) -> None:
    run = loop.open_run(config(pseudo_labels={"confidence": 0.6, "epoch": 1}), tmp_path)
    teacher = run.parts.pseudo_teacher
    assert teacher is not None and teacher is run.parts.kept
    batch = next(iter(run.loader.epoch(0)))
    images = dict(batch.images)
    targets = {"label": torch.full_like(batch.targets["label"], -1)}
    assert pseudo_labeled(teacher, run.config, images, targets, 0) is targets  # not before its epoch
    with torch.no_grad():
        teacher.fer2013.bias[3] += 50
    targets["label"][0] = 5
    found = pseudo_labeled(teacher, run.config, images, targets, 1)["label"]
    assert found[0] == 5 and (found[1:] == 3).all()
    run.progress.epoch = 1
    assert math.isfinite(loop.gradients(run, dataclasses.replace(batch, targets=targets))["loss"])
    with pytest.raises(ConfigError, match=r"optim\.ema"):
        loop.open_run(config(pseudo_labels={"confidence": 0.6}, optim__ema=0.0), tmp_path / "b")
    with pytest.raises(ConfigError) as caught:
        loop.open_run(config(pseudo_labels={"confidence": 0.4}), tmp_path / "c")
    assert caught.value.value == 0.4
