"""Outputs that cannot be written, or that two processes want: one line says so, and nothing half written bears a good name."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command import environment, here, line
from surroundings import mien, names_in, refused

from mien.errors import ConfigError
from mien.io.files import locked

EVALUATE = ("evaluate", "mien-base", "--dataset", "synthetic", "--split", "all", "--no-page")


@pytest.mark.parametrize("option", ["--csv", "--jsonl", "--save", "--timeline"])
def test_predict_into_a_read_only_folder(option: str, sample: Path, unwritable: Path) -> None:
    name = {"--save": "", "--timeline": "faces.svg"}.get(option, "faces.txt")
    refused(here("predict", sample, option, unwritable / name), unwritable)


def test_evaluate_and_train_into_a_read_only_folder(unwritable: Path) -> None:
    refused(here(*EVALUATE, "--option", "number=20", "--out", unwritable), unwritable)
    refused(here(*EVALUATE, "--option", "number=20", "--out", unwritable / "new"), unwritable / "new")


def test_predict_on_a_full_disk(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "faces.jsonl").write_text('{"schema_version": "2"}\n')
    done = here("predict", sample, "--points", "all", "--jsonl", tmp_path / "faces.jsonl", file_size=4096)
    refused(done, tmp_path / "faces.jsonl", os.strerror(errno.EFBIG))
    assert (tmp_path / "faces.jsonl").read_text() == '{"schema_version": "2"}\n'
    done = here("predict", sample, "--save", tmp_path / "out", file_size=4096)
    refused(done, "sample.png", os.strerror(errno.EFBIG))
    assert names_in(tmp_path / "out") == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_predict_into_a_full_pipe(sample: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            line("predict", sample, "--json"), stdout=full, stderr=subprocess.PIPE, text=True, env=environment()
        )
    refused(done, os.strerror(errno.ENOSPC))


def test_evaluate_on_a_full_disk_says_so_and_succeeds_later(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = (*EVALUATE, "--option", "number=120", "--batch", "16", "--out", out)
    for size in (1_000, 12_000):
        refused(here(*command, file_size=size), out, os.strerror(errno.EFBIG))
        assert "predictions.csv" not in names_in(out)
    done = here(*command)
    assert done.returncode == 0, done.stderr
    with (out / "predictions.csv").open(newline="") as file:
        assert len({row["sample"] for row in csv.DictReader(file)}) == 120
    assert not [name for name in names_in(out) if name.endswith((".part", ".lock", ".new"))]


def test_what_another_process_writes_is_left_alone(sample: Path, tmp_path: Path) -> None:
    rows, out = tmp_path / "faces.jsonl", tmp_path / "out"
    out.mkdir()
    with locked(rows), locked(out):
        refused(mien("predict", sample, "--jsonl", rows), rows)
        refused(mien(*EVALUATE, "--option", "number=20", "--out", out), out)
    assert names_in(tmp_path) == []
    assert here("predict", sample, "--jsonl", rows).returncode == 0
    assert names_in(tmp_path) == ["faces.jsonl"]


def test_two_processes_at_once_never_mix_their_rows(sample: Path, tmp_path: Path) -> None:
    """Whoever comes second is refused, or comes late enough to replace the whole file."""
    rows = tmp_path / "faces.jsonl"
    command = line("predict", *[sample] * 8, "--detector", "whole", "--jsonl", rows)
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()) for _ in range(2)]
    said = [process.communicate(timeout=120)[1].decode() for process in both]
    assert 0 in {process.returncode for process in both}
    assert all(process.returncode == 0 or str(rows) in text for process, text in zip(both, said, strict=True)), said
    assert [json.loads(row)["status"] for row in rows.read_text().splitlines()] == ["ok"] * 8
    assert names_in(tmp_path) == ["faces.jsonl"]


HOLD = """
import sys
from mien.io.files import locked
with locked(sys.argv[1]):
    print(1, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_leaves_locks_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", HOLD, out], stdin=-1, stdout=-1, env=environment()) as holder:
        assert holder.stdout and holder.stdout.readline() == b"1\n"
        with pytest.raises(ConfigError), locked(out):
            pass
        holder.send_signal(signal.SIGKILL)
    assert names_in(tmp_path) == [".out.lock"]
    with locked(out):
        pass
    assert names_in(tmp_path) == []


ADD = """
import sys
from mien.evaluation.compare.tables import KEY, write_rows
for number in range(20):
    write_rows(sys.argv[1], [{name: f"{sys.argv[2]}-{number}" for name in KEY}])
"""


def test_rows_that_processes_add_to_one_table_are_all_there(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ADD, tmp_path / "results.csv"]
    processes = [subprocess.Popen([*command, str(number)], env=environment()) for number in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    with (tmp_path / "results.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 60
    assert os.listdir(tmp_path) == ["results.csv"]  # noqa: PTH208
