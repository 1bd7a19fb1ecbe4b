"""Runs that are killed, told to stop, starved of disk or fed nonsense: real processes, nothing lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import command, config, environment, recipe, run, same_weights

from mien.data.datasets.synthetic import draw_face
from mien.errors import ConfigError, SourceError, TrainingError
from mien.labels import FER2013
from mien.training import run_dir as checkpoint
from mien.training.config import TrainConfig
from mien.training.loop import train

LONG = {"epochs": 6, "checkpoint_steps": 1}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that nothing disturbed."""
    return train(config(**LONG), tmp_path_factory.mktemp("straight") / "run").parent


def moments(straight: Path) -> Iterator[str]:
    """Yield ten moments in the words of `kills.py`: in steps (of 80,000 calls), in the writing of states, at ends of epochs."""
    chance, size = random.Random(5), (straight / "last.pt").stat().st_size
    for kind in chance.sample(["step"] * 4 + ["byte"] * 4 + ["epoch"] * 2, 10):
        last = {"step": 80_000, "byte": size, "epoch": round(10 ** chance.uniform(2, 6))}[kind]
        yield f"{kind}:{chance.randrange(3)}:{chance.randrange(last)}"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked from one that has loaded torch")
def test_ten_kills_change_no_bit(straight: Path, tmp_path: Path) -> None:
    """kill -9 at ten moments, in steps and in the writing of checkpoints (one a step), then --resume to the end."""
    path, out = recipe(tmp_path, **LONG), tmp_path / "run"
    kills = [sys.executable, Path(__file__).with_name("kills.py"), path, out, *moments(straight)]
    ended = subprocess.run(kills, env=environment(), capture_output=True, text=True, timeout=600, check=False)
    assert ended.stdout.split() == [str(-signal.SIGKILL)] * 10, ended.stderr
    done = run(path, out, "--resume")
    assert done.returncode == 0, done.stderr
    whole, broken = checkpoint.load_checkpoint(straight / "last.pt"), checkpoint.load_checkpoint(out / "last.pt")
    for part in ("learner", "kept"):
        assert all(torch.equal(whole[part][key], broken[part][key]) for key in whole[part])
    assert same_weights(straight / "best.safetensors", out / "best.safetensors")
    rows = [[json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()] for place in (straight, out)]
    assert [[row[key] for key in ("epoch", "loss", "accuracy", "nll", "lr")] for row in rows[0]] == [
        [row[key] for key in ("epoch", "loss", "accuracy", "nll", "lr")] for row in rows[1]
    ]


WAITING = """
import sys
from mien.cli import main
from mien.training import loop

end = loop.end_epoch

def waiting(run):
    end(run)
    print("epoch", flush=True)
    sys.stdin.readline()

loop.end_epoch = waiting
sys.exit(main(["train", *sys.argv[1:]]))
"""
"""`mien train` that waits for a word after each epoch."""


def test_sigterm_writes_the_state_and_ends(straight: Path, tmp_path: Path) -> None:
    path, out = recipe(tmp_path, **{**LONG, "checkpoint_steps": 0}), tmp_path / "run"
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, path, "-o", out], env=environment(), stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdout is not None and "epoch\n" in process.stdout
    process.terminate()  # it waits
    _, said = process.communicate("\n", timeout=60)
    assert process.returncode == 1
    assert "--resume" in said
    train(TrainConfig.load(path), out, resume=True)
    assert same_weights(straight / "best.safetensors", out / "best.safetensors")


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save_checkpoint(path, {"step": 1})
    limit = 200_000
    code = (
        "import resource, torch, pathlib\n"
        "from mien.errors import TrainingError\n"
        "from mien.training import run_dir as checkpoint\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"  # as a full disk: writing beyond it fails
        "try:\n"
        f"    checkpoint.save_checkpoint(pathlib.Path({str(path)!r}), {{'weights': torch.zeros(1_000_000)}})\n"
        "except TrainingError as error:\n"
        "    print(error.path)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.stdout == f"{path}\n", done.stderr
    assert checkpoint.load_checkpoint(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        train(config(), tmp_path / "file" / "run")
    assert str(caught.value.path).startswith(str(tmp_path / "file"))


def test_an_infinite_loss_names_the_images_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        train(config(optim__lr=1e30, optim__clip=0.0, schedule__kind="constant", schedule__warmup=0.0), tmp_path / "run")
    assert caught.value.path == str(tmp_path / "run" / "last.pt")
    assert len(caught.value.value) == 4 and all(name.startswith("0") for name in caught.value.value)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Class folders with 6 training and 2 validation faces a class."""
    for part, number in (("train", 6), ("val", 2)):
        for place, label in enumerate(FER2013):
            folder = tmp_path / "data" / part / label
            folder.mkdir(parents=True)
            for index in range(number):
                seed = place * 100 + index + (50 if part == "val" else 0)
                Image.fromarray(draw_face(label, seed)).save(folder / f"{index}.png")
    return tmp_path / "data"


def on_folders(root: Path, **changes: object) -> object:
    return config(data={"dataset": "folder", "root": str(root), "leak_free": False, **changes}, epochs=1, batch=8)


def test_a_corrupt_image_is_listed_and_training_continues(folders: Path, tmp_path: Path) -> None:
    broken = folders / "train" / "fear" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    train(on_folders(folders), tmp_path / "run")  # pyrefly: ignore
    assert (tmp_path / "run" / "skipped.txt").read_text().startswith("train/fear/3.png\t")
    with pytest.raises(SourceError):
        train(on_folders(folders, strict=True), tmp_path / "strict")  # pyrefly: ignore


def test_changed_data_ends_a_resume(folders: Path, tmp_path: Path) -> None:
    train(on_folders(folders), tmp_path / "run")  # pyrefly: ignore
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(folders / "train" / "fear" / "0.png")
    with pytest.raises(ConfigError) as caught:
        train(on_folders(folders), tmp_path / "run", resume=True)  # pyrefly: ignore
    assert caught.value.value != caught.value.expected


def test_another_config_does_not_continue_a_run(tmp_path: Path) -> None:
    train(config(epochs=1), tmp_path)
    with pytest.raises(ConfigError) as caught:
        train(config(epochs=1), tmp_path)
    assert caught.value.path == str(tmp_path)
    with pytest.raises(ConfigError) as caught:
        train(config(epochs=1, optim__lr=0.03), tmp_path, resume=True)
    assert caught.value.value == ("optim.lr was 0.02, is 0.03",)
    train(config(epochs=1, threads=0, workers=2), tmp_path, resume=True)  # these change nothing


def test_a_tracker_that_cannot_track_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate warns of one that is not installed, and tracks nothing."""
    monkeypatch.setattr("mien.training.run_dir.get_available_trackers", list)
    for name, known in (("tensorboard", None), ("tensorbord", "tensorboard")):
        with pytest.raises(ConfigError) as caught:
            train(config(tracker=name), tmp_path / name)
        assert caught.value.value == name and (known is None or known in caught.value.expected)


def test_pretrained_weights_without_network_are_one_line(tmp_path: Path) -> None:
    """Nothing listens at the hub's address: no attempts are repeated, and the message says what to set."""
    path = recipe(tmp_path, model={"name": "dda-resnet34", "options": {"pretrained": True}}, input__color="rgb")
    environ = {**environment(), "HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    environ = {name: value for name, value in environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        command(path, tmp_path / "run"), env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1 and not done.stdout
    (line,) = done.stderr.strip().splitlines()
    assert "model.options.pretrained" in line and "resnet34" in line
