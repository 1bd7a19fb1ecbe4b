"""`mien prepare`: images, sheets and tables, and one-line errors."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from command import on_terminal
from miniatures import MINIATURES
from PIL import Image

from mien.cli import main


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path_factory.mktemp("cache")))


def told(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> list[dict]:
    assert main(["prepare", *(str(argument) for argument in arguments)]) == status
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_faces_are_aligned_and_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path, sample: Path) -> None:
    for kind in ("happy", "sad"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        shutil.copy(sample, tmp_path / "photos" / kind / f"{kind}.png")
    common = ["--dataset", "folder", "--root", tmp_path / "photos", "--workers", 1]
    sheet = tmp_path / "sheet.png"
    [report] = told(capsys, "align", *common, "--out", tmp_path / "aligned", "--crop", "fer2013-like", "--sheet", sheet)
    assert report["status"] == {"all": {"ok": 2}} and report["new"] == 2
    assert size_of(tmp_path / "aligned" / "happiness" / "happy.png") == (48, 48)
    assert size_of(sheet)[0] > 1000
    [report] = told(capsys, "regions", *common, "--out", tmp_path / "regions", "--limit", 1)
    assert report["status"] == {"all": {"ok": 1}}
    assert len(list((tmp_path / "regions" / "roi").rglob("*.jpg"))) == 3
    assert main(["prepare", "align", *map(str, common), "--out", str(tmp_path / "regions")]) == 1
    assert "another preparation" in capsys.readouterr().err


def test_annotations_are_reported_in_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MINIATURES["affwild2: cropped_aligned and annotations filter=none"].build(tmp_path)
    run = on_terminal("prepare", "annotations", "--root", tmp_path, "--out", tmp_path / "out", env={"NO_COLOR": "1"})
    shown = re.sub(r"\x1b\[[\d;]*m", "", run.stdout)
    assert run.returncode == 0 and "20  read" in shown and "without expression" in shown
    tables = told(capsys, "annotations", "--root", tmp_path, "--out", tmp_path / "out", "--filter", "expression")
    assert [table["part"] for table in tables] == ["train", "validation"] and tables[0]["kept"] == 16
    assert main(["prepare", "annotations", "--root", str(tmp_path / "nowhere"), "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_help_names_the_three_verbs_and_their_options() -> None:
    run = on_terminal("prepare", "--help")
    assert run.returncode == 0 and all(verb in run.stdout for verb in ("align", "regions", "annotations"))
    run = on_terminal("prepare", "align", "--help")
    assert all(flag in run.stdout for flag in ("--crop", "--author", "--dataset", "--sheet", "--limit"))
