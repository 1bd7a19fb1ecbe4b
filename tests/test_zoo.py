"""The models of the folder zoo/, which is part of the repository and not of the package."""

import json
import shutil
from pathlib import Path

import onnx
import pytest

from mien import cards
from mien.cards import ZOO, sha256
from mien.cli import main
from mien.errors import UnknownName, WeightsError
from mien.evaluation.predictors import open_predictor
from mien.labels import FERPLUS
from mien.runtime.open_model import open_model

FOLDER = Path(__file__).parents[1] / "zoo"
NAMES = sorted(f"{ZOO}{path.stem}" for path in FOLDER.glob("*.toml"))
pytestmark = pytest.mark.skipif(not NAMES, reason="no zoo")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIEN_ZOO", raising=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_matches_its_card_and_carries_it(name: str) -> None:
    card, runtime = open_model(name)
    assert card.weights == FOLDER / f"{name.removeprefix(ZOO)}.onnx"
    assert card.labels and card.license != "NOASSERTION" and card.limits
    assert {one.split for one in card.measured} >= {"test"} and "scores" in runtime.outputs
    metadata = {entry.key: entry.value for entry in onnx.load(card.weights).metadata_props}
    inside = cards.parse(metadata[cards.METADATA_KEY], name)
    assert (inside.name, inside.labels, inside.measured) == (card.name, card.labels, card.measured)
    for head, classes in card.heads.items():
        assert open_predictor(name, head).labels == classes == FERPLUS


def test_sizes() -> None:
    sizes = [path.stat().st_size for path in FOLDER.glob("*.onnx")]
    assert len(sizes) == len(NAMES) and max(sizes) <= 12e6 and sum(sizes) <= 60e6


def test_names_and_patterns() -> None:
    assert cards.zoo_names("zoo:*") == NAMES
    assert cards.zoo_names(NAMES[0]) == NAMES[:1]
    with pytest.raises(WeightsError) as error:
        cards.load("zoo:nothing")
    assert error.value.expected == tuple(NAMES)


def test_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["name"] for each in told if each["name"].startswith(ZOO)] == NAMES
    assert main(["models", NAMES[0], "--json"]) == 0
    (one,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert one["sha256"] == sha256(FOLDER / one["file"]) and one["bytes"] == (FOLDER / one["file"]).stat().st_size


def test_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stem = NAMES[0].removeprefix(ZOO)
    for suffix in (".toml", ".onnx"):
        shutil.copy(FOLDER / f"{stem}{suffix}", tmp_path / f"mine{suffix}")
    text = (tmp_path / "mine.toml").read_text(encoding="utf-8").replace(f'file = "{stem}.onnx"', 'file = "mine.onnx"')
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("MIEN_ZOO", str(tmp_path))
    assert list(cards.zoo()) == ["zoo:mine"]
    assert open_predictor("zoo:mine").describe()["sha256"] == cards.load("zoo:mine").sha256

    with (tmp_path / "mine.onnx").open("ab") as file:
        file.write(b"0")
    with pytest.raises(WeightsError) as error:
        open_model("zoo:mine")
    assert error.value.path == str(tmp_path / "mine.onnx")


def test_a_missing_folder_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_ZOO", str(tmp_path / "none"))
    assert cards.zoo() == {}
    with pytest.raises(WeightsError) as error:
        open_model(NAMES[0])
    assert error.value.path == str(tmp_path / "none") and "MIEN_ZOO" in str(error.value)
    with pytest.raises(UnknownName):
        main_of_models(NAMES[0])


def main_of_models(name: str) -> None:
    from mien.cli.models import models

    models(name)


@pytest.mark.slow
def test_all_of_them_are_compared(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = str(shared / "data/fer2013")
    arguments = ["compare", "zoo:*", "--dataset", "fer2013", "--root", root, "--limit", "8", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(f"{ZOO}{each['model']}" for each in told if "model" in each) == NAMES


def test_an_installed_package_finds_the_zoo_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIEN_ZOO", raising=False)
    monkeypatch.setattr(cards, "__file__", str(tmp_path / "site-packages/mien/cards.py"))
    monkeypatch.chdir(Path(__file__).parents[1])
    assert cards.zoo_names("zoo:dan-*") == ["zoo:dan-mien-base"]
