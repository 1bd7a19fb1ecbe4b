"""Ensembles: pooled scores, fitted weights, members without landmarks, cards, export as one file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mien
from evaluations import drawings
from mien import cards
from mien.cards import FOUND, Crop
from mien.errors import ConfigError, WeightsError
from mien.evaluation.fusion import fit_weights, fuse
from mien.evaluation.predictors import split_output
from mien.faces.preprocessing import Preprocess
from mien.metrics.calibration import softmax
from mien.runtime.open_model import open_model
from mien.runtime.pooling import pooled, votes
from small_networks import BASE, SMALL, save


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small gray network, and Global-ROI, which reads regions of the face in color."""
    root = tmp_path_factory.mktemp("members")
    crop = Crop(template="fer2013")
    plain = save(root / "plain", "mien-base", SMALL, crop=crop, **BASE)
    regional = save(
        root / "regional",
        "global-roi",
        {},
        input=cards.Input(size=(224, 224)),
        crop=crop,
        reading={"inputs": {"image": 224, "eye": 90, "nose": 90, "mouth": 90}},
        outputs={"scores": "logits"},
    )
    return regional, plain


def test_logits_are_pooled_as_published() -> None:
    """softmax of the weighted sum of logits, though members give probabilities."""
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 20, 7))
    wanted = softmax(0.55 * first + 0.45 * second)
    assert pooled([softmax(first), softmax(second)], np.array([0.55, 0.45])) == pytest.approx(wanted, abs=1e-6)
    mean = pooled([softmax(first), softmax(second)], np.array([3.0, 1.0]), "probabilities")
    assert mean == pytest.approx(0.75 * softmax(first) + 0.25 * softmax(second), abs=1e-6)


def test_members_with_regions_need_landmarks() -> None:
    weights, regional = np.array([0.55, 0.45]), np.array([True, False])
    assert votes(weights, regional, np.array([1.0, 0.0])).tolist() == [[0.55, 0.45], [0.0, 1.0]]
    assert votes(weights, regional, None) is weights and votes(weights, np.array([True, True]), np.array([0.0])) is weights


@pytest.mark.parametrize("rule", ["logits", "probabilities"])
def test_fitted_weights_prefer_the_better_member(rule: str) -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 7, 600)
    good, bad = random.normal(size=(2, 600, 7))
    good[np.arange(600), label] += 3
    members = [softmax(good), softmax(bad)]
    weights, temperature = fit_weights(members, label, rule)
    assert weights.sum() == pytest.approx(1) and weights[0] > 0.9 and 0.2 < temperature < 0.5  # the best logits are 3 x
    best = np.mean([-np.log(pooled(members, weights, rule, temperature)[np.arange(600), label])])
    for other in (0.0, 0.3, 0.6, 1.0):
        probabilities = pooled(members, np.array([other, 1 - other]), rule)
        assert best <= -np.log(probabilities[np.arange(600), label]).mean() + 1e-3


def test_an_ensemble_is_a_card(members: tuple[Path, Path], tmp_path: Path, sample: Path) -> None:
    card = fuse(members, tmp_path / "deep" / "fused.toml", weights=(0.55, 0.45))
    assert [each.weight for each in card.members] == [0.55, 0.45] and card == cards.read(tmp_path / "deep" / "fused.toml")
    assert not any(Path(each.card).is_absolute() for each in card.members)
    read = mien.load(tmp_path / "deep" / "fused.toml")
    (face,) = read(sample).faces  # landmarks are known: both members vote
    singles = [mien.load(member)(sample).faces[0].scores for member in members]
    probabilities = [np.array([list(each.values())]) for each in singles]
    assert list(face.scores.values()) == pytest.approx(pooled(probabilities, np.array([0.55, 0.45]))[0], abs=1e-5)
    report = mien.evaluate(tmp_path / "deep" / "fused.toml", drawings(14), out=tmp_path / "out", page=False)
    assert report.about["model"]["sha256"] == card.sha256 and report.figures["counts"]["answered"] == 14


def test_without_landmarks_the_global_net_decides_alone(members: tuple[Path, Path], tmp_path: Path) -> None:
    fuse(members, tmp_path / "fused.toml", weights=(0.55, 0.45))
    card, runtime = open_model(tmp_path / "fused.toml")
    pixels = np.asarray(Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)))
    batch = Preprocess.of(card).batch([Preprocess.of(card).take(pixels)])
    assert isinstance(batch, dict) and batch[FOUND].tolist() == [0]
    alone_card, alone = open_model(members[1])
    wanted = alone(Preprocess.of(alone_card).batch([Preprocess.of(alone_card).take(pixels)]))
    assert runtime(batch)["scores"] == pytest.approx(wanted[alone_card.outputs["scores"]], abs=1e-6)


def test_an_ensemble_is_exported_as_one_file(members: tuple[Path, Path], tmp_path: Path, sample: Path) -> None:
    fuse(members, tmp_path / "fused.toml", weights=(0.55, 0.45))
    exported = mien.export(tmp_path / "fused.toml", tmp_path / "fused.onnx")
    assert max(exported.differences.values()) < 1e-4
    (ours,), (theirs,) = (mien.load(tmp_path / f"fused.{kind}")(sample).faces for kind in ("toml", "onnx"))
    assert list(ours.scores.values()) == pytest.approx(list(theirs.scores.values()), abs=1e-4)


def test_members_of_one_contract_share_an_input(members: tuple[Path, Path], tmp_path: Path) -> None:
    plain = members[1]
    card = fuse([plain, plain], tmp_path / "twice.toml")
    preprocess = Preprocess.of(card)
    batch = preprocess.batch([preprocess.take(np.zeros((48, 48, 3), np.uint8))])
    assert isinstance(batch, np.ndarray)
    alone_card, alone = open_model(plain)
    both = open_model(tmp_path / "twice.toml")[1](batch)["scores"]
    assert both == pytest.approx(alone(batch)[alone_card.outputs["scores"]], abs=1e-6)


def test_bundled_models_and_their_outputs(tmp_path: Path) -> None:
    card = fuse(["mien-base@ferplus", "mien-nano"], tmp_path / "fused.toml", rule="probabilities")
    assert set(card.labels) == set(cards.load("mien-nano").labels) and card.members[0].output == "ferplus"
    with pytest.raises(WeightsError):
        _ = card.weights


@pytest.mark.parametrize(
    ("given", "model", "output"),
    [
        ("mien-base@fer2013", "mien-base", "fer2013"),
        ("hf://owner/repo@main", "hf://owner/repo@main", ""),
        ("hf://owner/repo@main@ferplus", "hf://owner/repo@main", "ferplus"),
        ("peer:other=a@b.npz", "peer:other=a@b.npz", ""),
    ],
)
def test_outputs_follow_the_name(given: str, model: str, output: str) -> None:
    assert split_output(given) == (model, output)


def test_weights_are_fitted_on_data(members: tuple[Path, Path], tmp_path: Path) -> None:
    card = fuse(members, tmp_path / "fused.toml", weights="fit", data=drawings(35))
    assert sum(each.weight for each in card.members) == pytest.approx(1, abs=1e-3)
    assert card.calibration.fitted_on == "synthetic all" and card.measured[0].n == 35


def test_invalid_ensembles(members: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        fuse(members[:1], tmp_path / "fused.toml")
    assert (caught.value.value, caught.value.expected) == (1, 2)
    for weights in ((1.0,), (0.0, 0.0), (-1.0, 2.0), "some"):
        with pytest.raises(ConfigError):
            fuse(members, tmp_path / "fused.toml", weights=weights)
    with pytest.raises(ConfigError):
        fuse(members, tmp_path / "fused.toml", weights="fit")
    with pytest.raises(ConfigError) as caught:
        fuse(members, tmp_path / "fused.onnx")
    assert caught.value.expected == ".toml" and not list(tmp_path.iterdir())
    card = fuse(members, tmp_path / "fused.toml")
    other = dataclasses.replace(card.members[0], sha256="0" * 64)
    text = (tmp_path / "fused.toml").read_text().replace(card.members[0].sha256, other.sha256)
    (tmp_path / "fused.toml").write_text(text)
    with pytest.raises(WeightsError) as refused:
        open_model(tmp_path / "fused.toml")
    assert refused.value.expected == "0" * 64


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_precisions_of_an_ensemble(members: tuple[Path, Path], tmp_path: Path, sample: Path, precision: str) -> None:
    fuse(members, tmp_path / "fused.toml", weights=(0.55, 0.45))
    file, data = tmp_path / "fused.onnx", drawings(35)
    splits = {"training": data, "validation": data} if precision == "int8" else {}
    exported = mien.export(tmp_path / "fused.toml", file, precision=precision, tolerance=100, images=8, **splits)
    single = mien.export(tmp_path / "fused.toml", tmp_path / "single.onnx")
    assert exported.card.export["precision"] == precision
    assert file.stat().st_size < 0.6 * single.path.stat().st_size
    (face,) = mien.load(file)(sample).faces
    assert sum(face.scores.values()) == pytest.approx(1, abs=1e-3)
