"""Claims against measurements, and networks that are fed the wrong way on purpose."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluations import eye_reader
from mien import cards
from mien.data.datasets import Dataset, open_dataset
from mien.data.datasets.synthetic import draw_face
from mien.data.labeled_faces import FaceFinder
from mien.errors import ConfigError
from mien.evaluation import CardPredictor, open_predictor
from mien.evaluation.verify import Claim, _changed, variants, verify
from mien.labels import FER2013


@pytest.fixture(scope="module")
def colored(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Drawn faces whose class follows from their color: red is happiness, blue is sadness."""
    root = tmp_path_factory.mktemp("colored")
    for number in range(60):
        name = ("happiness", "sadness")[number % 2]
        gray = draw_face("neutral", number)
        pixels = np.stack([gray, gray // 2, gray // 4], -1)
        path = root / name / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels if name == "happiness" else pixels[..., ::-1]).save(path)
    return open_dataset("folder", root, "all", labels="fer2013")  # pyrefly: ignore


def reads_colors(color: str) -> CardPredictor:
    """A network that takes the first channel as red, with a card of this `color`."""
    fed = cards.Input(size=(48, 48), color=color, scale=1 / 255, offset=(0.0,))  # pyrefly: ignore
    card = dataclasses.replace(cards.load("mien-base"), name="colors", input=fed, crop=None, measured=())

    def runtime(batch_NCHW: np.ndarray) -> dict[str, np.ndarray]:
        red = batch_NCHW[:, 0].mean((1, 2)) > batch_NCHW[:, 2].mean((1, 2))
        answer = np.where(red, FER2013.index("happiness"), FER2013.index("sadness"))
        return {"scores": np.eye(7)[answer]}

    return CardPredictor(card, runtime)


def test_swapped_channels_are_found(colored: Dataset, tmp_path: Path) -> None:
    found = verify(reads_colors("bgr"), colored, out=tmp_path, claims={"accuracy": 1.0})
    assert not found.agrees and not found.claims[0].agrees
    best = found.hypotheses[0]
    assert best.better and (best.name, best.before, best.after) == ("RGB instead of BGR", 0, 1) and found.tried_on == 60
    assert all(each.after < best.after for each in found.hypotheses[1:])  # without color it is right by chance, half the time


def test_a_network_that_is_fed_rightly_agrees(colored: Dataset, tmp_path: Path) -> None:
    found = verify(reads_colors("rgb"), colored, out=tmp_path, claims={"accuracy": 1.0, "UAR": 1.0})
    assert found.agrees and [claim.metric for claim in found.claims] == ["accuracy", "uar"]
    assert not any(each.better for each in found.hypotheses)
    swapped = next(each for each in found.hypotheses if each.name == "BGR instead of RGB")
    assert (swapped.before, swapped.after) == (1, 0) and swapped.p < 1e-6


def test_a_claim_is_judged_by_the_interval() -> None:
    assert Claim("accuracy", 0.62, 0.60, 0.58, 0.63).agrees and not Claim("accuracy", 0.64, 0.60, 0.58, 0.63).agrees
    assert Claim("accuracy", 0.604, 0.60402, 0.61, 0.63).agrees  # to four decimals


def test_the_claims_of_the_card_about_this_data(colored: Dataset, tmp_path: Path) -> None:
    predictor = reads_colors("rgb")

    def claim(**changes: object) -> cards.Measured:
        base = {"dataset": "folder", "split": "all", "metric": "accuracy", "value": 1.0, "n": 60, "note": "output scores"}
        return cards.Measured(**base | changes)  # pyrefly: ignore

    others = [{"dataset": "rafdb"}, {"split": "test"}, {"n": 59}, {"note": "output fer2013"}, {"metric": "charm"}]
    wrong = (claim(**changes, value=0.1) for changes in others)  # pyrefly: ignore
    measured = (*wrong, claim(), claim(metric="macro-F1", note=""))
    known = CardPredictor(dataclasses.replace(predictor.card, measured=measured), predictor.runtime)
    found = verify(known, colored, out=tmp_path / "a", images=0)
    assert [(claim.metric, claim.claimed) for claim in found.claims] == [("accuracy", 1.0), ("macro f1", 1.0)]
    assert found.hypotheses == () and found.agrees
    with pytest.raises(ConfigError) as caught:
        verify(predictor, colored, out=tmp_path / "b")
    assert caught.value.value == "folder all"
    with pytest.raises(ConfigError) as caught:
        verify(predictor, colored, out=tmp_path / "b", claims={"charm": 1.0}, images=0)
    assert caught.value.value == "charm"
    assert not (tmp_path / "b").exists()  # refused before anything is measured


def test_a_wrong_range_of_values_is_found_on_real_faces(shared: Path, tmp_path: Path) -> None:
    data = open_dataset("fer2013", shared / "data" / "fer2013", "validation").take(np.arange(0, 3589, 24))
    known = open_predictor("mien-base", "scores")
    assert isinstance(known, CardPredictor) and known.card.input is not None
    wrong = dataclasses.replace(known.card, input=dataclasses.replace(known.card.input, scale=1.0, offset=(0.0,)))
    found = verify(CardPredictor(wrong, known.runtime), data, out=tmp_path, claims={"accuracy": 0.99}, images=150)
    assert not found.agrees and not any(each.name == "values 0 … 255" for each in found.hypotheses)
    right = next(each for each in found.hypotheses[:2] if each.name == "values −1 … 1")  # 0 … 1 is almost as good
    assert right.better and right.after > 0.55


def test_regions_are_cut_where_the_evaluation_cuts_them(sample: Path, tmp_path: Path) -> None:
    """By the mesh of the face, and where the face is after its image was cut or framed."""
    seen: list[np.ndarray] = []
    reader = eye_reader(seen)
    root = tmp_path / "data" / "anger"
    root.mkdir(parents=True)
    crop = np.asarray(Image.open(sample).convert("RGB"))[50:200, 130:280]  # the face is off the middle
    Image.fromarray(crop).save(root / "1.png")
    data = open_dataset("folder", root.parent, "all", labels="fer2013")  # pyrefly: ignore
    verify(reader, data, out=tmp_path / "out", claims={"accuracy": 1.0}, faces="whole")
    measured, as_the_card_says = seen[:2]
    assert (measured == as_the_card_says).all()
    (face,) = FaceFinder("whole", "blazeface", mesh=True)([0], [data[0]], [crop])
    assert face is not None and face.mesh is not None
    eye = face.mesh[33, :2].astype(int)
    for name, change in {name: change for name, _, change in variants(reader, "whole")}.items():
        changed = _changed(face, change)
        assert changed.mesh is not None
        x, y = changed.mesh[33, :2].astype(int)
        if "crop" in name:
            assert (changed.pixels[y, x] == crop[eye[1], eye[0]]).all(), name


def test_one_offset_stands_for_three_channels() -> None:
    """The default range of a card is written with a single offset; it must not be tried again as if it were another."""
    fed = cards.Input(size=(48, 48), color="rgb")
    card = dataclasses.replace(cards.load("mien-base"), input=fed, crop=None)
    names = [name for name, _, _ in variants(CardPredictor(card, reads_colors("rgb").runtime), "whole")]
    assert "values −1 … 1" not in names and {"values 0 … 1", "ImageNet mean and deviation"} <= set(names)


def test_every_hypothesis_changes_what_the_network_is_fed(sample: Path) -> None:
    image = np.asarray(Image.open(sample).convert("RGB"))[100:330, 140:370]
    for predictor in (reads_colors("rgb"), open_predictor("mien-base", "scores")):
        assert isinstance(predictor, CardPredictor)
        before = predictor.preprocess.tensor(predictor.preprocess.whole(image)[None])
        names = []
        for name, fed, change in variants(predictor, "whole"):
            after = fed.preprocess.tensor(fed.preprocess.whole(change(image))[None])
            assert after.shape == before.shape and (after != before).any(), name
            names.append(name)
        assert len(names) == len(set(names)) and {"cv2-bilinear resizing", "histogram equalization"} <= set(names)
