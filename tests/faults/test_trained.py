"""Training in bad surroundings: what `tests/training/test_faults.py` does not do."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs the extra train")

from command import here
from runs import config, recipe
from surroundings import mien, names_in, refused

from disks import full_disk
from mien.errors import TrainingError
from mien.io.files import locked
from mien.training import run_dir as records
from mien.training.loop import train


def test_a_clock_that_jumps_back_and_no_network(tmp_path: Path) -> None:
    out = tmp_path / "run \n ☺"
    done = mien("train", recipe(tmp_path, epochs=1), "-o", out, hostile=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 1
    assert all(row.get(key, 0) >= 0 for row in rows for key in ("seconds", "images_per_second"))
    assert "best.safetensors" in names_in(out) and ".lock" not in names_in(out)


def test_files_from_the_future_are_resumed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(config(epochs=1), out)
    later = time.time() + 10**9
    for path in out.iterdir():
        os.utime(path, (later, later))
    train(config(epochs=1), out, resume=True)
    assert (out / "last.pt").is_file()


def test_a_folder_that_is_taken_or_closed(unwritable: Path, tmp_path: Path) -> None:
    path, out = recipe(tmp_path, epochs=1), tmp_path / "run"
    out.mkdir()
    refused(here("train", path, "-o", unwritable), unwritable)
    with locked(out):
        refused(mien("train", path, "-o", out), out)
    assert names_in(out) == []


def test_weights_on_a_full_disk_end_the_run_with_a_word(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with full_disk(15_000), pytest.raises(TrainingError):
        train(config(epochs=1), out)
    assert names_in(out) == ["config.toml", "env.json"]


def test_records_on_a_full_disk_keep_the_old_ones(tmp_path: Path) -> None:
    records.write_epochs(tmp_path, [{"epoch": 1}], {})
    before = names_in(tmp_path)
    with full_disk(20), pytest.raises(TrainingError):
        records.write_epochs(tmp_path, [{"epoch": 1}, {"epoch": 2}], {})
    assert names_in(tmp_path) == before and (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1}\n'
