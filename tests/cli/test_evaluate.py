"""`mien evaluate`, `compare` and `verify`."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from command import here, mien, on_terminal
from miniatures import MINIATURES

from mien import cards

DRAWN = ("--dataset", "synthetic", "--option", "number=70", "--split", "all")


@pytest.fixture
def fer(tmp_path: Path) -> Path:
    MINIATURES["fer2013: fer2013.npz"].build(tmp_path / "data")
    return tmp_path / "data"


def test_a_table_for_eyes(tmp_path: Path) -> None:
    done = on_terminal("evaluate", "evaluations:evenly", *DRAWN, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "all 70" in done.stdout and re.search(r"accuracy\s+0\.143", done.stdout) and "happiness" in done.stdout
    assert (tmp_path / "out" / "report.html").is_file()


def test_json_for_programs_and_a_row_for_results(fer: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", "mien-base", "--dataset", "fer2013", "--root", fer, "--out", tmp_path / "out", "--no-page")
    done = mien(*arguments, "--results", tmp_path / "r.csv", "--tta", 2)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["official"]["n"] == 8 and 0 <= found["official"]["accuracy"]["value"] <= 1
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["command"][:3] == ["mien", "evaluate", "mien-base"]
    with (tmp_path / "r.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["model"], row["output"], row["views"], row["sha256"][:6]) == (
        "mien-base",
        "fer2013",
        "2",
        cards.load("mien-base").sha256[:6],
    )
    cropped = here(*arguments[:-2], tmp_path / "crops", "--no-page", "--results", tmp_path / "r.csv", "--tta", "ten-crop")
    assert cropped.returncode == 0, cropped.stderr
    with (tmp_path / "r.csv").open() as file:
        assert [row["views"] for row in csv.DictReader(file)] == ["2", "ten-crop"]
    again = here(*arguments, "--tta", 1)
    assert again.returncode == 1 and "views" in again.stderr and str(tmp_path / "out") in again.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("mien-base", "--dataset", "fer2013", "--root", "nowhere"), "nowhere"),
        (("mien-base", *DRAWN, "--output", "rafdb"), "rafdb"),
        (("mien-bse", *DRAWN), "'mien-base'"),
        (("evaluations:evenly", *DRAWN, "--tta", "0"), "--tta"),
        (("evaluations:evenly", *DRAWN, "--faces", "detect"), "--faces whole"),
        (("evaluations:drawings", *DRAWN), "labels"),
    ],
)
def test_errors_are_one_line(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    done = here("evaluate", *arguments, "--out", tmp_path / "out")
    assert done.returncode == 1 and says in done.stderr and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1


def test_compare(tmp_path: Path) -> None:
    probs = np.full((70, 7), 0.05)
    probs[np.arange(70), np.arange(70) % 7] = 0.7
    np.savez(tmp_path / "p.npz", probs=probs, y=np.arange(70) % 7)
    done = here("compare", "evaluations:evenly", f"peer:knows={tmp_path / 'p.npz'}", *DRAWN[:2], "--split", "all",
                "--option", "synthetic:number=70", "--out", tmp_path / "out", "--results", tmp_path / "r.csv")  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["difference"] is None and second["difference"] == pytest.approx(6 / 7, abs=1e-3) and second["p"] < 0.01
    assert (tmp_path / "out" / "comparison.md").is_file() and len((tmp_path / "r.csv").read_text().splitlines()) == 3
    wrong = here("compare", *DRAWN[:2], "--out", tmp_path / "out")
    assert wrong.returncode == 1 and "MODEL" in wrong.stderr


def test_verify_says_by_its_status_whether_a_claim_holds(fer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("verify", "mien-base", "--dataset", "fer2013", "--root", fer, "--hypotheses", 0)
    measured = here(*arguments, "--claim", "accuracy=50", "--out", tmp_path / "a")
    value = json.loads(measured.stdout)["claims"][0]["measured"]
    right = here(*arguments, "--claim", f"accuracy={value}", "--out", tmp_path / "a")
    assert right.returncode == 0 and json.loads(right.stdout)["agrees"]
    wrong = on_terminal("verify", "mien-base", *DRAWN, "--claim", "accuracy=99.5%", "--out", tmp_path / "b")
    assert wrong.returncode == 1 and "claimed 99.5" in wrong.stdout and "does not agree" in wrong.stdout
    assert "70 images" in wrong.stdout and "histogram equalization" in wrong.stdout
    folders = {"mien-base": "mien-base", str(cards.load("mien-nano").weights): "mien-nano.onnx"}
    monkeypatch.chdir(tmp_path)
    for model, folder in folders.items():  # each has a folder of its own, so that the second is not refused the first's
        done = here("verify", model, *DRAWN, "--hypotheses", 0, "--claim", "accuracy=99")
        assert done.returncode == 1 and "does not agree" not in done.stderr, done.stderr
        (written,) = (tmp_path / "out" / "verify").glob(f"*{folder}/synthetic-all")
        assert (written / "predictions.csv").is_file() and f"wrote {written.relative_to(tmp_path)}" in done.stderr
    typo = here(*arguments, "--claim", "accuracy=high", "--out", tmp_path / "a")
    assert typo.returncode == 1 and "accuracy=high" in typo.stderr
