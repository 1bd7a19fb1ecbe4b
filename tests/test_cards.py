"""Cards: what is accepted, what is refused, and that every bundled weight is the one its card describes."""

from __future__ import annotations

import dataclasses
import itertools
import tomllib
from pathlib import Path

import pytest

from mien import cards
from mien.cards import WEIGHTS
from mien.errors import UnknownName, WeightsError

ROOT = Path(__file__).parents[1]

GOOD = """
name = "tiny"
kind = "classifier"
summary = "two classes"
file = "tiny.onnx"
sha256 = "00"
license = "Apache-2.0"
labels = ["happiness", "neutral"]
[outputs]
scores = "p"
[input]
size = [48, 48]
color = "gray"
[calibration]
threshold = 0.5
[[measured]]
dataset = "fer2013"
split = "test"
metric = "accuracy"
value = 1
n = 10
"""


def test_a_card_is_read_with_its_types() -> None:
    card = cards.parse(GOOD, "here")
    assert card.labels == ("happiness", "neutral")
    assert card.input == cards.Input(size=(48, 48), color="gray")
    assert card.calibration.threshold == 0.5
    assert isinstance(card.measured[0].value, float)


def test_a_card_survives_the_way_through_plain_tables() -> None:
    tomli_w = pytest.importorskip("tomli_w", reason="the writer of cards comes with the training extra")
    card = cards.parse(GOOD, "here")
    assert cards.parse(tomli_w.dumps(card.to_dict()), "again") == card


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "tiny"', "", "name"),
        ('kind = "classifier"', 'kind = "oracle"', "kind must be one of classifier, "),
        ('license = "Apache-2.0"', "license = 3", "license"),
        ('license = "Apache-2.0"', 'lizenz = "MIT"', "unknown key 'lizenz'"),
        ('["happiness", "neutral"]', '["happiness", "happiness"]', "happiness, happiness"),
        ('["happiness", "neutral"]', "[]", "labels"),
        ('color = "gray"', 'color = "green"', "color must be"),
        ("threshold = 0.5", 'threshold = "high"', "threshold must be a number"),
        ("threshold = 0.5", "threshold = true", "threshold must be a number"),
        ('[outputs]\nscores = "p"', '[outputs]\nlogits = "p"', "outputs.scores"),
        ("[input]", "[input", "not valid TOML"),
        ('name = "tiny"', 'name = "tiny"\nschema = 2', "schema 2"),
    ],
)
def test_what_makes_no_sense_is_refused(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(WeightsError, match=message.replace("[", r"\[")):
        cards.parse(GOOD.replace(old, new), "here")


def test_every_bundled_weight_is_what_its_card_says() -> None:
    found = cards.bundled()
    assert "mien-base" in found and "blazeface" in found
    for card in found.values():
        assert card.weights.parent == WEIGHTS
        assert card.license and card.origin and card.data, card.name
    described = {card.file for card in found.values()}
    assert described == {path.name for path in WEIGHTS.glob("*.onnx")}


def test_a_swapped_weight_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(GOOD)
    card = cards.read(path)
    with pytest.raises(WeightsError) as caught:
        card.weights  # noqa: B018
    assert (caught.value.path, caught.value.value) == (str(tmp_path / "tiny.onnx"), None)
    (tmp_path / "tiny.onnx").write_bytes(b"something else")
    with pytest.raises(WeightsError) as caught:
        card.weights  # noqa: B018
    assert caught.value.expected == card.sha256 != caught.value.value


def test_names_that_do_not_exist_get_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="'mien-base'"):
        cards.load("mien-bass")
    with pytest.raises(WeightsError, match=r"none\.toml"):
        cards.load(tmp_path / "none.toml")


def test_origins_in_this_repository_exist() -> None:
    named = [card for card in cards.bundled().values() if card.origin.startswith("recipes/")]
    assert {card.name for card in named} == {"mien-base", "mien-nano"}
    for card in named:
        assert (ROOT / card.origin).is_file(), card.name
        assert card.training["recipe"] == Path(card.origin).stem, card.name


@pytest.mark.parametrize("name", ["mien-base", "mien-nano"])
def test_the_card_inside_a_bundled_network_is_the_one_beside_it(name: str) -> None:
    from mien.runtime.onnx import OnnxRuntime

    card = cards.load(name)
    inside = OnnxRuntime(card.weights).metadata[cards.METADATA_KEY]
    assert dataclasses.replace(cards.parse(inside, "inside"), sha256=card.sha256) == card
    assert tomllib.loads(inside)["labels"] == list(card.labels)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('license = "Apache-2.0"', f"license = 0x{'f' * 5_000}", "license"),
        ("n = 10", f"n = {'9' * 5_000}", "TOML"),
        ("value = 1\n", f"value = 0x{'f' * 500}\n", "value"),
        ('name = "tiny"', f"name = {'[' * 5_000}", "TOML"),
        ('name = "tiny"', f"name = {[1] * 5_000}", "name"),
        ("[48, 48]", "[48]", "input.size"),
        ("[48, 48]", "[-1, 48]", "input.size"),
        ("[48, 48]", "[48, 1000000000]", "input.size"),
        ("[input]", "[input]\nstd = [0]", "std"),
        ("[input]", "[input]\nscale = nan", "scale"),
        ("threshold = 0.5", "temperature = 0", "temperature"),
        ('scores = "p"', "scores = [3]", "outputs.scores"),
        ("[outputs]", "[reading]\ninputs = 3\n[outputs]", "reading.inputs"),
        ("[outputs]", "[reading]\ninputs = {mouth = -5}\n[outputs]", "reading.inputs"),
    ],
    ids=itertools.count(),
)
def test_cards_that_fuzzing_broke_the_reader_with(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(WeightsError, match=message) as caught:
        cards.parse(GOOD.replace(old, new), "here")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
