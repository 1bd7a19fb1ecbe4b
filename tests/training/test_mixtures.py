"""Several datasets at once: partial labels, rates, relabeling, resume, two processes."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from runs import TABLE, environment, recipe, run, same_weights

from mien.data.datasets import open_dataset
from mien.errors import ConfigError
from mien.models.mien_base import MienBaseOutput
from mien.training.config import Relabel, Term, TrainConfig
from mien.training.criterion import Criterion
from mien.training.data import open_splits, sample_rates, split_of
from mien.training.loader import Loader, sampled
from mien.training.loop import Interrupted, train

SMILES = {"happiness": ("yes", "no"), "neutral": ("no", "yes")}


def photographs(folder: Path, number: int = 60) -> Path:
    """Write face crops with a second annotation as a csv: happiness is frequent, anger rare."""
    faces = open_dataset("synthetic", split="train", number="400")
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for label, share in (("happiness", 0.5), ("neutral", 0.4), ("anger", 0.1)):
        samples = [sample for sample in faces if sample.label == label][: round(share * number)]
        for index, sample in enumerate(samples):
            name = f"{label}{index}.png"
            Image.fromarray(sample.read()).save(folder / name)
            smile = SMILES.get(label, ("no", "no"))[index % 4 == 0]
            rows.append({"path": name, "label": label, "split": "validation" if index % 5 == 0 else "train", "smile": smile})
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "labels.csv"


def two(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """Return the fields of a run on two datasets: seven classes of one, eight of the other."""
    faces = {"dataset": "synthetic", "root": ".", "options": {"number": "120"}}
    photos = {
        "name": "photos",
        "dataset": "csv",
        "root": str(photographs(tmp_path / "photos")),
        "labels": "ferplus",
        "weight": 2.0,
        "balance": 0.5,
        "leak_free": False,
        "relabel": [{"label": "happiness", "where": {"smile": "no"}, "shares": {"happiness": 0.75, "neutral": 0.25}}],
    }
    soft = {"kind": "cross-entropy", "output": "ferplus", "data": ["photos"], "options": {"soft": True}}
    return {
        "data": [faces, photos],
        "loss": [{"kind": "cross-entropy", "output": "fer2013", "data": ["synthetic"]}, soft],
        "validation": {"metric": "accuracy + photos.ferplus.uar"},
        **changes,
    }


def config(table: dict[str, Any]) -> TrainConfig:
    return TrainConfig.of(TABLE | table)


def test_a_single_table_is_a_list_of_one_dataset() -> None:
    settings = TrainConfig.of(TABLE)
    assert len(settings.data) == 1 and settings.data[0].dataset == "synthetic"
    assert settings.to_dict()["data"]["dataset"] == "synthetic"


def test_fields_of_one_of_several_datasets_are_set_by_index(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    path.write_text('[[data]]\ndataset = "synthetic"\n[[data]]\ndataset = "csv"\n')
    assert TrainConfig.load(path, ["data.1.root=photos"]).data[1].root == "photos"
    for wrong in ("data.root=photos", "data.2.root=photos"):
        with pytest.raises(ConfigError):
            TrainConfig.load(path, [wrong])


def test_targets_that_a_dataset_lacks_are_unknown(tmp_path: Path) -> None:
    train_split, validation = open_splits(config(two(tmp_path)))
    first, second = train_split.rows(0), train_split.rows(1)
    assert (train_split.targets["soft"][first] == 0).all()
    assert torch.allclose(train_split.targets["soft"][second].sum(1), torch.ones(second.stop - second.start))
    assert train_split.targets["soft"].shape[1] == 8 and len(train_split.labels) == 7
    assert train_split.targets["dataset"][first].unique().tolist() == [0]
    assert train_split.targets["dataset"][second].unique().tolist() == [1]
    assert len(validation) == sum(map(len, validation.parts)) and len({*train_split.digests}) == 2
    images, readable = train_split.images(np.array([0, first.stop, 1]))
    assert readable.all()
    assert (images["image"][1] == train_split.parts[1].images(np.array([0]))[0]["image"][0]).all()


def test_rules_replace_labels_and_the_first_counts(tmp_path: Path) -> None:
    data = open_dataset("csv", photographs(tmp_path), "train")
    chosen = dataclasses.replace(
        config(two(tmp_path)).data[1],
        relabel=(
            Relabel(label="happiness", where={"smile": "no"}, shares={"happiness": 3.0, "neutral": 1.0}),
            Relabel(label="happiness", shares={"surprise": 1.0}),
            Relabel(label="neutral", where={"smile": "yes"}),
        ),
    )
    split = split_of(data, config(two(tmp_path)), chosen)
    index = split.labels.index
    smile, label, soft = data.groups["smile"], split.targets["label"], split.targets["soft"]
    slight = torch.from_numpy((data.label == data.labels.index("happiness")) & (smile == "no"))
    assert (soft[slight][:, index("happiness")] == 0.75).all() and (label[slight] == index("happiness")).all()
    broad = torch.from_numpy((data.label == data.labels.index("happiness")) & (smile == "yes"))
    assert (soft[broad][:, index("surprise")] == 1).all() and (label[broad] == index("surprise")).all()
    doubtful = torch.from_numpy((data.label == data.labels.index("neutral")) & (smile == "yes"))
    assert doubtful.any() and (soft[doubtful] == 0).all() and (label[doubtful] == -1).all()


@pytest.mark.parametrize(
    "rule", [{"label": "joy"}, {"where": {"grin": "no"}}, {"shares": {"joy": 1.0}}, {"shares": {"anger": -1.0}}]
)
def test_rules_that_match_nothing_are_refused(tmp_path: Path, rule: dict[str, Any]) -> None:
    table = two(tmp_path)
    table["data"][1]["relabel"] = [rule]
    with pytest.raises(ConfigError):
        open_splits(config(table))


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_rates_balance_classes_and_keep_the_mean(balance: float) -> None:
    label = np.repeat([0, 1, -1], [90, 10, 20])
    rates = sample_rates(label, 1.5, balance)
    assert rates[label >= 0].mean() == pytest.approx(1.5) and rates[label < 0] == pytest.approx(1.5)
    assert rates[label == 1].mean() / rates[label == 0].mean() == pytest.approx(9**balance)


def test_every_sample_is_shown_as_often_as_its_rate_says() -> None:
    rates = np.random.default_rng(1).uniform(0, 3, 200)
    counts = np.array([np.bincount(sampled(rates, np.random.default_rng(seed)), minlength=200) for seed in range(400)])
    assert (counts.sum(1) == round(rates.sum())).all()
    assert (np.floor(rates * 0.99) <= counts).all() and (counts <= np.ceil(rates * 1.01)).all()
    assert np.abs(counts.mean(0) - rates).max() < 0.12  # 5 standard deviations of a mean of 400 draws


def test_terms_with_data_ignore_the_samples_of_other_datasets() -> None:
    logits = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    answer = MienBaseOutput(logits[:, :7], logits, logits)
    targets = {
        "label": torch.tensor([0, 1, 2, 7, 7, 7]),
        "dataset": torch.tensor([0, 0, 0, 1, 1, 1]),
    }
    term = Term(output="fer2013", data=("first",))
    objective = Criterion([term], answer, 7, torch.ones(7), datasets=("first", "second"))
    whole, _ = objective(answer, targets)
    expected = torch.nn.functional.cross_entropy(logits[:3, :7], targets["label"][:3]) / 2
    assert torch.allclose(whole, expected)
    halves = [
        objective(MienBaseOutput(*(value[rows] for value in answer)), {name: value[rows] for name, value in targets.items()})[0]
        for rows in (slice(0, 3), slice(3, 6))
    ]
    assert torch.allclose(sum(halves) / 2, whole)  # as two processes share a batch
    with pytest.raises(ConfigError):
        Criterion([Term(data=("third",))], answer, 7, torch.ones(7), datasets=("first", "second"))


def test_a_run_on_two_datasets_stops_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    settings = config(two(tmp_path))
    train(settings, tmp_path / "whole")
    seen = []

    def interrupt(event: dict[str, Any]) -> None:
        seen.append(event)
        if event["event"] == "epoch":
            raise KeyboardInterrupt

    with pytest.raises((Interrupted, KeyboardInterrupt)):
        train(settings, tmp_path / "parts", report=interrupt)
    best = train(settings, tmp_path / "parts", resume=True)
    assert same_weights(tmp_path / "whole" / "best.safetensors", best)
    row = json.loads((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"accuracy", "photos.ferplus.accuracy", "photos.ferplus.uar", "loss cross-entropy fer2013"} <= row.keys()
    from mien import cards

    card = cards.read(tmp_path / "whole" / "best.toml")
    assert len(card.training["data_digests"]) == 4
    assert {measured.dataset for measured in card.measured} == {"synthetic", "csv"}


def test_names_and_epochs_follow_from_weights(tmp_path: Path) -> None:
    table = two(tmp_path)
    loader = Loader(open_splits(config(table))[0], config(table))
    photos = loader.split.rows(1)
    shown = loader.order(0)
    assert np.isin(shown, np.arange(photos.start, photos.stop)).sum() == pytest.approx(2 * (photos.stop - photos.start), abs=1)
    table["data"][1]["name"] = "synthetic"
    with pytest.raises(ConfigError):
        open_splits(config(table))


@pytest.mark.slow
def test_two_processes_learn_from_two_datasets_what_one_learns(tmp_path: Path) -> None:
    same = {
        "model__options": {"widths": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "dropout": 0.0},
        "sync_batch_norm": True,
        "optim__ema": 0.0,
        **two(tmp_path),
    }
    path = recipe(tmp_path, **same)
    alone = run(path, tmp_path / "one")
    assert alone.returncode == 0, alone.stderr
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "mien"]
    together = subprocess.run(
        [*launch, "train", str(path), "-o", str(tmp_path / "two")],
        env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert together.returncode == 0, together.stderr[-3000:]
    rows = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()] for name in ("one", "two")
    ]
    for a, b in zip(*rows, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-3)
        assert a["photos.ferplus.accuracy"] == b["photos.ferplus.accuracy"]
