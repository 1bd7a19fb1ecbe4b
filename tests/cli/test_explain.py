"""`mien explain` on real images: rows, files, and what happens when something is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command import mien as run_mien
from command import on_terminal
from PIL import Image

import mien
from mien.cli import main


@pytest.fixture(scope="module")
def album(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face, a lawn, and a file that is not an image."""
    folder = tmp_path_factory.mktemp("album")
    shutil.copy(sample, folder / "a face.png")
    Image.new("RGB", (200, 150), (90, 120, 90)).save(folder / "lawn.png")
    (folder / "note.jpg").write_text("buy milk")
    return folder


def test_an_unreadable_file_is_named_and_the_others_are_explained(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "why"
    run = run_mien("explain", "mien-base", album, "--target", "surprise", "--out", out)
    assert run.returncode == 1
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert [row["status"] for row in rows] == ["ok", "no face", "unreadable"]
    face = rows[0]
    assert (face["method"], face["label"], face["predicted"]) == ("occlusion", "surprise", "happiness")
    wanted = mien.explain("mien-base", album / "a face.png", target="surprise")
    assert face["regions"] == pytest.approx(wanted.regions, abs=1e-5) and face["probability"] == pytest.approx(
        wanted.probability
    )
    assert sorted(each.name for each in out.iterdir()) == ["a face-occlusion.png", "strip.png"]
    assert face["file"] == str(out / "a face-occlusion.png") and "unreadable:" in run.stderr and "note.jpg" in run.stderr
    with Image.open(face["file"]) as drawn, Image.open(out / "strip.png") as strip:
        assert drawn.width == 1024 and strip.width > 2 * 160


def test_a_table_on_a_terminal(album: Path) -> None:
    run = on_terminal("explain", "mien-base", album / "a face.png", album / "lawn.png")
    assert run.returncode == 0 and "happiness" in run.stdout and "no face" in run.stdout
    assert "mouth" in run.stdout.splitlines()[0] and "-" in run.stdout.splitlines()[1]
    assert "blurred" in run.stderr


def test_two_images_of_one_name_keep_apart(sample: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(sample, tmp_path / folder / "x.png")
    assert main(["explain", "mien-base", str(tmp_path), "--out", str(tmp_path / "why"), "--json"]) == 0
    files = [json.loads(line)["file"] for line in capfd.readouterr().out.splitlines()]
    assert [Path(each).name for each in files] == ["x-occlusion.png", "x-2-occlusion.png"]


def test_a_strip_of_classes_joins_a_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = mien.open_dataset("synthetic", split="test")
    mien.evaluate("mien-base", data, out=tmp_path / "report", limit=14, page=False)
    words = ["explain", "mien-base", "--dataset", "synthetic", "--per-class", "1", "--report", str(tmp_path / "report")]
    assert main([*words, "--out", str(tmp_path)]) == 0, capfd.readouterr().err
    (extra,) = mien.Report.read(tmp_path / "report").extra
    assert extra.section == "Heat map of the model" and extra.title == "occlusion, 1 faces of each class"
    assert "mien-base" in extra.note and (tmp_path / "synthetic-test-occlusion.png").is_file()
    assert "Heat map of the model" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.parametrize(("words", "message"), [
    (["mien-base"], "nothing to explain"),
    (["mien-base", "SAMPLE", "--method", "gradcam"], "did you mean 'grad-cam'"),
    (["mien-base", "SAMPLE", "--method", "grad-cam"], "is an exported file"),
    (["mien-base", "SAMPLE", "--target", "joy"], "no class 'joy'"),
    (["mien-base", "SAMPLE", "--report", "nowhere"], "nowhere holds no finished evaluation"),
    (["mien-base", "--dataset", "synthetic"], "--out or --report"),
])  # fmt: skip
def test_mistakes(words: list[str], message: str, sample: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *(str(sample) if word == "SAMPLE" else word for word in words)]) == 1
    captured = capfd.readouterr()
    assert message in captured.err and not captured.out
