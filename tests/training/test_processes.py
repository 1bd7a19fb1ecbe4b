"""Two real processes (gloo) learn what one learns, and measure every image once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import config, environment, recipe, run
from safetensors.torch import load_file

from mien import models
from mien.training.data import open_splits
from mien.training.validation import interleave, predict

SAME = {
    "model__options": {"widths": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "dropout": 0.0},
    "sync_batch_norm": True,
    "optim__ema": 0.0,
    "augment": [{"op": "flip"}, {"op": "affine", "rotate": 10}, {"op": "noise", "p": 0.5}],
}
"""Nothing here depends on how a batch is shared out: no dropout, BatchNorm over all processes."""
TOLERANCE = 2e-4
"""Sums are taken in another order; 10 steps of SGD let the difference grow to about 1e-5."""


@pytest.mark.slow
def test_two_processes_give_the_predictions_of_one(tmp_path: Path) -> None:
    path = recipe(tmp_path, **SAME)
    alone = run(path, tmp_path / "one")
    assert alone.returncode == 0, alone.stderr
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "mien"]  # a free port
    together = subprocess.run(
        [*launch, "train", str(path), "-o", str(tmp_path / "two")],
        env=environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert together.returncode == 0, together.stderr[-3000:]

    _, validation = open_splits(config(**SAME))
    scores = []
    for name in ("one", "two"):
        model = models.build("mien-base", **SAME["model__options"])
        model.load_state_dict(load_file(tmp_path / name / "best.safetensors"))
        scores.append(predict(model, validation, config(**SAME))["fer2013"])
    assert np.abs(scores[0] - scores[1]).max() < TOLERANCE
    first, second = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()] for name in ("one", "two")
    )
    for a, b in zip(first, second, strict=True):
        assert a["accuracy"] == b["accuracy"]
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-3)


def test_every_image_is_measured_once_whatever_the_number_of_processes() -> None:
    settings = config()
    _, validation = open_splits(settings)
    model = models.build("mien-base", **settings.model.options).eval()
    whole = predict(model, validation, settings)["fer2013"]
    for processes in (2, 3, 5):
        shares = [predict(model, validation, settings, (process, processes)) for process in range(processes)]
        assert sum(len(share["fer2013"]) for share in shares) == len(validation)
        torch.testing.assert_close(torch.from_numpy(interleave(shares)["fer2013"]), torch.from_numpy(whole))
