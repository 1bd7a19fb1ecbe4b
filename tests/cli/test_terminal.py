"""Progress of long work (a bar on a terminal, lines in a log), and tables."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

from mien.cli.progress import Left, LongProgress
from mien.cli.terminal import print_rows
from mien.cli.train import Progress


def told(*, terminal: bool, every: float) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=200)
    columns = TextColumn("reading"), BarColumn(), MofNCompleteColumn(), Left(), TextColumn("{task.fields[detail]}")
    with LongProgress(*columns, console=console, every=every) as bar:
        task = bar.add_task("", total=3, detail="")
        for done in range(1, 4):
            bar.update(task, completed=done, detail="1 not read" if done == 2 else "")
    return file.getvalue().splitlines()


def test_a_log_gets_lines_now_and_then() -> None:
    lines = told(terminal=False, every=0)
    assert [re.sub(r"[-\d]+:[-\d:]+", "TIME", line) for line in lines] == [
        "reading  1/3  TIME left",
        "reading  2/3  TIME left  1 not read",
        "reading  3/3  TIME left",
    ]
    assert told(terminal=False, every=3600) == []


def test_a_terminal_gets_a_bar_and_no_lines() -> None:
    assert "━" in "".join(told(terminal=True, every=0))
    assert not any(line.startswith("reading  1/3") for line in told(terminal=True, every=0))


START = {
    "event": "start",
    "model": "resnet18",
    "parameters": 11_000_000,
    "trainable": 10_000_000,
    "device": "cpu",
    "precision": "fp32",
    "processes": 1,
    "datasets": [{"name": "fer2013", "protocol": "fer2013", "train": 28, "validation": 3, "leaks": 0, "empty": []}],
    "epochs": 2,
    "steps": 4,
    "batch": 8,
    "epoch": 0,
    "step": 2,
}
"""Event at the start of a run that resumes in its first epoch."""


def test_training_logs_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("accuracy", every=0) as progress:
        progress(START)
        progress({"event": "step", "epoch": 0, "step": 3, "loss": 1.5, "lr": 1e-3, "images": 8})
        progress({"event": "epoch", "epoch": 1, "loss": 1.5, "accuracy": 0.5, "per_second": 20.0, "best": True})
    *introduction, first, second = capsys.readouterr().err.splitlines()
    assert len(introduction) == 3 and "resnet18" in introduction[0] and "fer2013" in introduction[1]
    assert first.startswith("epoch 1/2  3/8  loss 1.500  lr 0.001  ") and first.endswith(" left")
    assert second == "epoch   1/2  loss 1.500  accuracy 0.5000  20 images/s *"


def test_long_words_of_a_narrow_table_are_folded(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    path = "out/features-of-a-model-with-a-very-long-name.npz"
    print_rows(("model", "count", "file"), [("mien-base", "12", path)], text=("model", "file"), no_wrap=("count",))
    shown = capsys.readouterr().out
    assert "…" not in shown and path in "".join(line[18:].strip() for line in shown.splitlines()[1:])
