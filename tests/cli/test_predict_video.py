"""`mien predict` and `mien watch` on videos, as processes: rows, annotated copies, corrupt files, interrupted runs."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from command import environment, line, mien, on_terminal

from clips import cut_short, frames, moving, packets, write_clip
from mien.cli import main
from mien.types import Result

SMALL = 4096
"""Bytes of a pipe that holds about one row, so that a process is never far ahead of its reader."""


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def clip(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", moving(sample, 20, empty=range(8, 10)), sound="aac")


def test_rows_copy_and_timeline(clip: Path, sample: Path, tmp_path: Path) -> None:
    done = mien(
        "predict", clip, sample, "--csv", tmp_path / "rows.csv", "--jsonl", tmp_path / "rows.jsonl", "--save", tmp_path / "out",
        "--timeline", tmp_path / "clip.svg", "--every", 2, "--points", "all",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 image, 10 frames, 10 faces, 1 without a face" in done.stderr and "frames/s" in done.stderr
    written = rows_of(tmp_path / "rows.jsonl")
    assert [json.loads(text) for text in done.stdout.splitlines()] == written
    assert [row["time"] for row in written[:10]] == pytest.approx([number * 0.08 for number in range(10)])
    assert written[10]["time"] is written[10]["faces"][0]["track"] is None
    assert [row["status"] for row in written] == ["ok"] * 4 + ["no face"] + ["ok"] * 6
    assert written[3]["faces"][0]["track"] == 1 and written[3]["faces"][0]["unsmoothed"]["scores"]
    assert Result.from_dict(written[0]).to_dict("all") == written[0]
    with (tmp_path / "rows.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 11 and table[4]["status"] == "no face" and table[4]["label"] == table[4]["score_anger"] == ""
    assert float(table[3]["unsmoothed_happiness"]) == pytest.approx(
        written[3]["faces"][0]["unsmoothed"]["scores"]["happiness"], abs=1e-6
    )
    copy = tmp_path / "out" / "clip.mp4"
    assert [frame.time for frame in frames(copy)] == pytest.approx([number * 0.08 for number in range(10)], abs=1e-3)
    assert packets(copy, "audio") == packets(clip, "audio")
    assert (tmp_path / "out" / "sample.png").is_file() and (tmp_path / "clip.svg").read_text().count("<svg") == 1
    assert not list(tmp_path.glob("*.part*"))


def test_a_terminal_says_where_the_rows_of_a_video_go(clip: Path, tmp_path: Path) -> None:
    where = "for the results of each frame, give --csv"
    assert where in on_terminal("predict", clip, "--every", 10).stderr
    assert where not in on_terminal("predict", clip, "--every", 10, "--csv", tmp_path / "rows.csv").stderr


def test_a_killed_run_leaves_whole_rows(clip: Path, tmp_path: Path) -> None:
    """NAME.part is a valid file of the frames so far; the same command afterwards gives the complete files."""
    command = ["predict", clip, "--csv", tmp_path / "rows.csv", "--jsonl", tmp_path / "rows.jsonl", "--detect-every", 1]
    process = subprocess.Popen(
        line(*command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(), pipesize=SMALL
    )
    assert process.stdout is not None
    with process.stdout:
        assert len(list(islice(process.stdout, 5))) == 5  # a row is on stdout after it is in the files
        process.send_signal(signal.SIGKILL)
    process.wait()
    assert 5 <= len(rows_of(tmp_path / "rows.jsonl.part")) < 20 and not (tmp_path / "rows.jsonl").exists()
    with (tmp_path / "rows.csv.part").open(newline="") as file:
        assert 5 <= len([row["time"] for row in csv.DictReader(file, strict=True)]) < 20
    assert mien(*command).returncode == 0
    assert len(rows_of(tmp_path / "rows.jsonl")) == 20 and not list(tmp_path.glob("*.part*"))


def test_an_interrupted_run_names_its_rows(clip: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    previous = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a background job would ignore it, and its children too
    try:
        process = subprocess.Popen(
            line("predict", clip, "--jsonl", rows), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
            pipesize=SMALL,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, previous)
    assert process.stdout is not None
    assert len(list(islice(process.stdout, 3))) == 3
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode != 0 and f"{rows}.part" in errors.decode() and len(rows_of(Path(f"{rows}.part"))) >= 3


def test_a_truncated_video(sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_clip(tmp_path / "clip.mkv", moving(sample, 30))
    cut_short(path, 0.5)
    assert main(["predict", str(path), "--every", "5", "--jsonl", str(tmp_path / "rows.jsonl")]) == 1
    error = capsys.readouterr().err
    assert "the file is truncated" in error and "1 failed" in error
    *read, last = rows_of(tmp_path / "rows.jsonl")
    assert read and all(row["status"] == "ok" for row in read) and last["status"] == "unreadable"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--start", "1:77"], "1:77"),
        (["--start", "0:05"], "5 s"),
        (["--every", "2", "--fps", "3"], "fps"),
        (["--timeline", "clip.bmp"], "clip.bmp"),
        (["--video-stream", "1"], "clip.mp4"),
    ],
)
def test_invalid_options(clip: Path, options: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(clip), *options]) == 1
    assert named in capsys.readouterr().err


def test_watch(clip: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["watch", "--camera", "93"]) == 1
    assert b"camera 93" in capsysbinary.readouterr().err
    options = ["--fps", "10", "--end", "0.3", "--jsonl", str(tmp_path / "rows.jsonl"), "--save", str(tmp_path / "out")]
    assert main(["watch", "--camera", str(clip), *options]) == 0
    assert len(capsysbinary.readouterr().out.splitlines()) == len(rows_of(tmp_path / "rows.jsonl")) == 3
    assert len(list(frames(tmp_path / "out" / "clip.mp4"))) == 3
