"""`mien models`: the bundled weights and the architectures, from their cards and files."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from command import on_terminal

from mien import cards
from mien.cards import WEIGHTS
from mien.cli import main
from mien.cli.models import _lines
from mien.models import MODELS


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    assert main(["models", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_card_and_architecture_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(capsys)
    weights = {each["name"]: each for each in told if each["what"] == "weights"}
    assert {each["name"] for each in told if each["what"] == "architecture"} == set(MODELS)
    assert len(told) == len(weights) + len(MODELS)
    for name, card in cards.bundled().items():
        assert weights.pop(name) == {
            "what": "weights", **json.loads(json.dumps(card.to_dict())), "bytes": (WEIGHTS / card.file).stat().st_size
        }  # fmt: skip
    assert set(weights) == set(cards.zoo())


def test_a_narrow_terminal_shows_kind_and_accuracy_whole() -> None:
    shown = re.sub(r"\x1b\[[\d;]*m", "", on_terminal("models", columns=80).stdout)
    assert re.search(r"^mien-base +classifier +[\d.]+ MB +7 expressions; fer2013 test [\d.]+%", shown, re.MULTILINE)
    assert re.search(r"^blendshapes +blendshapes ", shown, re.MULTILINE)


def test_a_terminal_gets_a_table() -> None:
    run = on_terminal("models", env={"NO_COLOR": "1"})
    assert (run.returncode, run.stderr) == (0, "")
    shown = re.sub(r"\x1b\[[\d;]*m", "", run.stdout)
    header, *rows = shown.splitlines()
    assert header.split()[:5] == ["name", "kind", "size", "license", "input"]
    assert rows[0].startswith("mien-base")  # what most people look for comes first
    base = next(row for row in rows if row.startswith("mien-base"))
    size = (WEIGHTS / "mien-base.onnx").stat().st_size
    assert f"{size / 1e6:.1f} MB" in base and "Apache-2.0" in base and "64×64 gray" in base
    assert re.search(r"fer2013 test \d\d\.\d%", " ".join(shown.split()))
    assert all(name in shown for name in (*cards.bundled(), *MODELS))


def test_one_model_is_described_in_full() -> None:
    run = on_terminal("models", "mien-base", env={"NO_COLOR": "1"})
    shown = " ".join(re.sub(r"\x1b\[[\d;]*m", "", run.stdout).split())
    card = cards.load("mien-base")
    for text in (
        card.summary,
        card.license_note,
        card.sha256,
        card.limits,
        ", ".join(card.labels),
        str(card.calibration.threshold),
    ):
        assert text in shown
    first = card.measured[0]
    assert f"{first.dataset} {first.split} {first.metric} {first.value:g}" in shown


def test_an_architecture_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    (told,) = lines(capsys, "resnet34")
    assert told["what"] == "architecture" and told["parameters"] == 21_288_263 and told["macs"] > 3e9
    assert told["inputs"] == [{"name": "image", "channels": 3, "size": 224, "sizes": told["inputs"][0]["sizes"]}]


def test_the_list_tells_what_each_architecture_costs_without_torch(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [each for each in lines(capsys) if each["what"] == "architecture"]
    told = {each["name"]: each for each in rows if not each["name"].startswith("mien-")}
    for each in told.values():
        assert each["parameters"] > 1e6 and each["macs"] > 1e8
        assert each["inputs"] and each["outputs"] and each["license"] and each["source"] and each["published"]
    run = on_terminal("models", env={"NO_COLOR": "1"})
    assert "103.28 M" in run.stdout and "8.96" in run.stdout
    assert len(run.stdout.splitlines()) < 100  # stories stand in `mien models NAME`
    code = "import sys; from mien.cli import main; main(['models', '--json']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_an_unknown_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "dam"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "'dam'" in err and "mien-base" in err and err.count("\n") == 1


def test_nested_values_become_lines() -> None:
    table = {"a": (1200, 2), "b": {"c": "d"}, "e": []}
    assert list(_lines(table)) == ["a: 1,200, 2", "b: c: d", "e: "]
    measured = {"dataset": "fer2013", "split": "test", "metric": "accuracy", "value": 0.7, "n": 3589, "low": 0.68, "high": 0.72}
    assert list(_lines([measured])) == ["fer2013 test accuracy 0.7 (0.68 … 0.72), n = 3,589"]
