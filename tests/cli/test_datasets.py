"""`mien datasets` and `mien audit`: tables for people, JSON for programs, errors in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command import on_terminal
from miniatures import MINIATURES, write

from mien.cli import main
from mien.data.datasets import DATASETS, open_dataset
from mien.data.datasets.synthetic import draw_face


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path_factory.mktemp("cache")))


def lines(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> list[dict]:
    assert main([str(argument) for argument in arguments]) == status
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_data_set_is_listed_with_layouts_protocols_and_origin(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(capsys, "datasets")
    assert [each["name"] for each in told] == list(DATASETS)
    assert all(each["layouts"] and each["protocols"] and each["obtain"] for each in told)


def test_a_terminal_gets_tables(tmp_path: Path) -> None:
    run = on_terminal("datasets", env={"NO_COLOR": "1"})
    assert run.returncode == 0 and all(name in run.stdout for name in DATASETS)
    run = on_terminal("datasets", "rafdb", env={"NO_COLOR": "1"})
    shown = " ".join(re.sub(r"\x1b\[[\d;]*m", "", run.stdout).split())
    assert "protocol author:ddamfn" in shown and "! selected on test" in shown and "images aligned|original" not in shown
    MINIATURES["rafdb: list_patition_label.txt and Image"].build(tmp_path)
    run = on_terminal("datasets", "rafdb", "--root", tmp_path, env={"NO_COLOR": "1"})
    rows = [line.split() for line in re.sub(r"\x1b\[[\d;]*m", "", run.stdout).splitlines()]
    assert rows[0] == ["train", "test"] and ["surprise", "3", "2"] in rows and ["images", "15", "8"] in rows
    assert "the published set 12,271" in run.stderr


def test_the_contents_of_a_folder_are_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    MINIATURES["ferplus: fer2013.csv and fer2013new.csv"].build(tmp_path)
    told = lines(capsys, "datasets", "ferplus", "--root", tmp_path, "--option", "mode=dda")
    assert [each["split"] for each in told] == ["train", "validation", "test"]
    assert told[0]["images"] == sum(told[0]["classes"].values())
    assert told[0]["digest"] == open_dataset("ferplus", tmp_path, mode="dda").digest


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["datasets", "rafbd"], "did you mean 'rafdb'?"),
        (["datasets", "rafdb", "--root", "nowhere"], "nowhere does not exist"),
        (["datasets", "ferplus", "--root", ".", "--option", "mode"], "NAME=VALUE"),
        (["audit", "--dataset", "jaffe", "--root", "nowhere"], "nowhere does not exist"),
    ],
)
def test_errors_are_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_damaged_rows_are_skipped_on_request(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    MINIATURES["fer2013: one csv"].build(tmp_path)
    with (tmp_path / "fer2013.csv").open("a") as file:
        file.write("broken\n")
    assert main(["datasets", "fer2013", "--root", str(tmp_path)]) == 1
    assert "--skip-damaged" in capsys.readouterr().err
    told = lines(capsys, "datasets", "fer2013", "--root", tmp_path, "--skip-damaged")
    assert "1 invalid row skipped" in told[0]["notes"][0]


def test_an_audit_reports_writes_and_fails_on_leaks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for number, part in enumerate(("train", "train", "test")):
        write(tmp_path / "data" / part / "happy" / f"{number}.png", draw_face("happiness", number))
        write(tmp_path / "data" / part / "sad" / f"{number}.png", draw_face("sadness", number + 10))
    write(tmp_path / "data" / "test" / "happy" / "leak.png", draw_face("happiness", 0))
    write(tmp_path / "other" / "happy" / "same.png", draw_face("happiness", 2))
    clean, html = tmp_path / "clean.json", tmp_path / "audit.html"
    arguments = ["audit", "--dataset", "folder", "--root", tmp_path / "data", "--against", f"folder={tmp_path / 'other'}"]
    [report] = lines(capsys, *arguments, "--no-near", "--faces", 3, "--html", html, "--write-clean", clean, status=1)
    assert {(leak["split"], leak["other"], leak["images"]) for leak in report["exact"]["leaks"]} == {
        ("train", "test", 1),
        ("test", "train", 1),
        ("test", "folder", 1),
    }
    assert report["quality"]["searched"] == 3 and report["near"] is None
    assert html.read_text().startswith("<!doctype html>")
    after = open_dataset("folder", tmp_path / "data", "test", f"clean:{clean}")
    assert after.names.tolist() == ["test/happy/2.png", "test/sad/2.png"]
    [again] = lines(capsys, "audit", "--dataset", "synthetic", "--root", tmp_path, "--no-near")
    assert again["exact"]["leaks"] == []


def test_an_audit_on_a_terminal(tmp_path: Path) -> None:
    MINIATURES["pooled: train.csv, valid.csv, test.csv with image_path"].build(tmp_path)
    run = on_terminal("audit", "--dataset", "pooled", "--root", tmp_path, "--no-near", env={"NO_COLOR": "1"})
    shown = re.sub(r"\x1b\[[\d;]*m", "", run.stdout)
    assert run.returncode == 1
    assert "error   38 of the validation images (76.0%) also occur in train" in shown
    assert shown.index("error ") < shown.index("warning ") < shown.index("note ")
