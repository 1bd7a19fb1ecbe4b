"""Small runs for the tests of training: drawn faces, a small network, seconds on one core."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from mien.training.config import TrainConfig

ROOT = Path(__file__).parents[2]

TABLE: dict[str, Any] = {
    "epochs": 2,
    "batch": 16,
    "threads": 1,
    "precision": "fp32",
    "augment": [{"op": "flip", "p": 0.5}, {"op": "affine", "rotate": 10, "scale": [0.9, 1.1], "translate": 0.05}],
    "model": {"name": "mien-base", "options": {"widths": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}, "scores": "fer2013"},
    "data": {"dataset": "synthetic", "root": ".", "options": {"number": "120"}},
    "input": {"size": 32, "color": "gray", "normalize": "half"},
    "loss": [{"kind": "cross-entropy", "output": "fer2013", "options": {"smoothing": 0.1}}],
    "optim": {"lr": 0.02, "ema": 0.9, "clip": 5.0},
    "schedule": {"kind": "one-cycle", "warmup": 0.1},
}
"""A complete run of mien-base, tiny, on 98 drawn training faces."""


def config(**changes: Any) -> TrainConfig:
    """Return `TABLE` as a config, with fields changed by dotted names (`optim__lr=1.0`)."""
    table = TrainConfig.of(TABLE).to_dict()
    for name, value in changes.items():
        *path, last = name.split("__")
        inner = table
        for step in path:
            inner = inner[step]
        inner[last] = value
    return TrainConfig.of(table)


def recipe(folder: Path, **changes: Any) -> Path:
    """Write such a config as a recipe."""
    import tomli_w

    path = folder / "tiny.toml"
    path.write_text(tomli_w.dumps(config(**changes).to_dict()))
    return path


def environment() -> dict[str, str]:
    """Return the environment of a child process: this source tree, one thread, no cache of another run."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def command(recipe: Path, out: Path, *more: str) -> list[str]:
    """Return `mien train` as a command of a real process."""
    return [sys.executable, "-m", "mien", "train", str(recipe), "-o", str(out), *more]


def run(recipe: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run `mien train` in a process and wait for it."""
    return subprocess.run(
        command(recipe, out, *more), env=environment(), capture_output=True, text=True, timeout=300, check=False
    )


def same_weights(first: Path, second: Path) -> bool:
    """Return whether two files of weights are equal, bit for bit."""
    a, b = load_file(first), load_file(second)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
