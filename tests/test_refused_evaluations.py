"""Models, cards and tables of probabilities that cannot be evaluated."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import mien
from evaluations import drawings, evenly, labeled
from mien import cards
from mien.errors import ConfigError, DatasetError, UnknownName, WeightsError
from mien.evaluation import CardPredictor, evaluate, open_predictor
from mien.labels import AFFECTNET8, FER2013


@pytest.mark.parametrize("batch", [0, -5])
def test_a_batch_of_nothing(batch: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        evaluate(evenly, drawings(7), out=tmp_path, page=False, batch=batch)
    assert caught.value.value == batch


def test_an_empty_split(tmp_path: Path) -> None:
    data = drawings()
    with pytest.raises(DatasetError):
        evaluate(evenly, data[:0], out=tmp_path)
    unlabeled = dataclasses.replace(data, label=np.full(len(data), -1))
    with pytest.raises(DatasetError):
        evaluate(evenly, unlabeled, out=tmp_path)


def test_an_unknown_metric_is_refused_before_the_evaluation(tmp_path: Path) -> None:
    with pytest.raises(UnknownName):
        evaluate(evenly, drawings(7), out=tmp_path / "out", page=False, metrics=["uar"])
    assert not (tmp_path / "out").exists()


@labeled()
def broken(images: list[np.ndarray]) -> np.ndarray:
    return np.full((len(images), 7), np.nan)


@labeled()
def logits(images: list[np.ndarray]) -> np.ndarray:
    return np.full((len(images), 7), 3.0)


@labeled(AFFECTNET8)
def short(images: list[np.ndarray]) -> np.ndarray:
    return np.full((len(images), 7), 1 / 7)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (broken, WeightsError, "NaN"),
        (logits, WeightsError, "3 to 3"),
        (short, WeightsError, r"\(64, 7\)"),
        (lambda images: images, ConfigError, "labels"),
        ("peer:human", ConfigError, "peer:NAME=FILE.npz"),
        ("nothing:here", mien.MienError, "nothing:here"),
        ("mien-bse", mien.MienError, "'mien-base'"),
    ],
)
def test_models_that_cannot_be_evaluated(model: object, error: type, message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        evaluate(model, drawings(), out=tmp_path, page=False)


def test_a_card_of_other_weights_is_refused(tmp_path: Path) -> None:
    card = cards.load("mien-base")
    (tmp_path / "mine.onnx").write_bytes(card.weights.read_bytes() + b"\0")
    text = cards.CARDS.joinpath("mien-base.toml").read_text().replace('file = "mien-base.onnx"', 'file = "mine.onnx"')
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(WeightsError, match=r"mine\.onnx"):
        evaluate(tmp_path / "mine.toml", drawings(), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_card_with_too_many_labels_is_refused(tmp_path: Path) -> None:
    predictor = open_predictor("mien-base", "scores")
    assert isinstance(predictor, CardPredictor)
    wrong = CardPredictor(dataclasses.replace(predictor.card, labels=AFFECTNET8), predictor.runtime)
    with pytest.raises(WeightsError, match=r"\(64, 7\)"):
        evaluate(wrong, drawings(), out=tmp_path, page=False)


def test_probabilities_of_another_package(tmp_path: Path) -> None:
    data = drawings(70)
    probs = np.full((70, 7), 0.05)
    probs[np.arange(70), data.label] = 0.7
    np.savez(tmp_path / "p.npz", probs=probs, y=data.label)
    report = evaluate(f"peer:other={tmp_path / 'p.npz'}", data, out=tmp_path / "a", page=False)
    assert report.about["model"]["name"] == "other" and report.figures["official"]["accuracy"]["value"] == 1
    order = np.random.default_rng(0).permutation(70)
    np.savez(tmp_path / "named.npz", probs=probs[order], names=data.names[order], y=data.label[order], labels=np.array(FER2013))
    named = evaluate(f"peer:other={tmp_path / 'named.npz'}", data[10:40], out=tmp_path / "b", page=False)
    assert named.figures["official"]["accuracy"]["value"] == 1
    np.savez(tmp_path / "named.npz", probs=probs[order][::-1], names=data.names[order], labels=np.array(FER2013))
    with pytest.raises(ConfigError):  # the same name, another table
        evaluate(f"peer:other={tmp_path / 'named.npz'}", data[10:40], out=tmp_path / "b", page=False)
    np.savez(tmp_path / "shifted.npz", probs=probs, y=np.roll(data.label, 1))
    with pytest.raises(WeightsError, match=r"shifted\.npz") as caught:
        evaluate(f"peer:other={tmp_path / 'shifted.npz'}", data, out=tmp_path / "c")
    assert (caught.value.line, caught.value.value, caught.value.expected) == (0, "neutral", "anger")
    with pytest.raises(WeightsError, match=r"p\.npz") as caught:
        evaluate(f"peer:other={tmp_path / 'p.npz'}", data[:7], out=tmp_path / "c")
    assert (caught.value.value, caught.value.expected) == (70, 7)
    with pytest.raises(WeightsError, match="nowhere"):
        evaluate("peer:other=nowhere.npz", data, out=tmp_path / "c")


def test_tables_of_probabilities_that_are_none(tmp_path: Path) -> None:
    data = drawings(14)
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "single.npy", np.zeros((14, 7)))
    for name in ("cut.npz", "empty.npz", "single.npy"):
        with pytest.raises(WeightsError, match=name):
            open_predictor(f"peer:other={tmp_path / name}")
    probs = np.full((14, 7), 1 / 7)
    for label in (np.zeros(3, int), np.full(14, 7), np.zeros(14, np.float32)):
        np.savez(tmp_path / "y.npz", probs=probs, y=label)
        with pytest.raises(WeightsError, match=r"y\.npz"):
            open_predictor(f"peer:other={tmp_path / 'y.npz'}").prepare(data)


def test_images_without_a_label_are_none_in_a_table_either(tmp_path: Path) -> None:
    data = drawings(14)
    some = dataclasses.replace(data, label=np.where(np.arange(14) < 2, -1, data.label))
    backwards = np.where(some.label < 0, -1, 6 - some.label)  # −1 must not mean the last class
    for label, fits in ((backwards, True), (np.where(backwards < 0, 0, backwards), False)):
        np.savez(tmp_path / "y.npz", probs=np.full((14, 7), 1 / 7), labels=np.array(FER2013[::-1]), y=label)
        predictor = open_predictor(f"peer:other={tmp_path / 'y.npz'}")
        if fits:
            predictor.prepare(some)
        else:
            with pytest.raises(WeightsError) as caught:
                predictor.prepare(some)
            assert (caught.value.value, caught.value.expected) == ("neutral", "not labeled")
