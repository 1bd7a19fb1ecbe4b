"""Measure how fast batches are prepared, against how fast networks learn from them, and write a page.

    python -m benchmarks.loader

Needs `../shared/data/fer2013`. Everything runs in one thread and is measured in processor time, so that other work on the
machine matters little; the loader's images are decoded already, as they are from the second epoch on.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mien import models
from mien.data.datasets.dataset import Pixels
from mien.models.torch_runtime import run_network
from mien.training.config import TrainConfig
from mien.training.criterion import Criterion, float32
from mien.training.data import open_splits, split_of
from mien.training.loader import Loader
from mien.training.loop import fastest_precision

from .datasets import machine

ROOT = Path(__file__).parents[1]
RECIPES = (
    ("fer2013-mien-base", 48, "gray"),
    ("fer2013-mien-base", 112, "gray"),
    ("rafdb-ddamfn-author", 112, "rgb"),
    ("rafdb-ddamfn-plusplus-author", 112, "rgb"),
    ("affectnet7-ddamfn-mien", 112, "rgb"),
    ("rafdb-global-cbam-author", 112, "rgb"),
    ("rafdb-dan-mien", 112, "rgb"),
)
"""Recipe, side and color of the images; all on faces of FER2013."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file to write instead of docs/benchmarks/<date>-<commit>-loader.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    today = datetime.date.today().isoformat()
    lines = [
        f"# Loader against steps, {today}, {commit}\n\n{machine()}\n",
        "Images a second of processor time, one thread. A step is forward, loss, backward and update, channels last, in "
        f"{fastest_precision()}, which is the quickest precision here.\n",
        "| recipe | pixels | batch | loader | step | loader / step |\n|---|---|---|---|---|---|",
    ]
    for name, side, color in RECIPES:
        loader, step, batch = measure(name, side, color)
        lines.append(f"| `{name}` | {side} {color} | {batch} | {loader:,.0f} | {step:,.0f} | {loader / step:.1f} |")
        print(lines[-1], flush=True)
    path = args.out or ROOT / "docs" / "benchmarks" / f"{today}-{commit}-loader.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(name: str, side: int, color: str, batch: int = 32, turns: int = 3) -> tuple[float, float, int]:
    """Return images a second of the loader and of the step, and the batch."""
    recipe = TrainConfig.load(ROOT / "recipes" / f"{name}.toml")
    config = dataclasses.replace(
        recipe,
        batch=batch,
        data=dataclasses.replace(TrainConfig().data, limit=512, validation_limit=8, leak_free=False, labels=""),
        input=dataclasses.replace(recipe.input, size=side, sizes={}, native=False),
        model=dataclasses.replace(recipe.model, init="", options={}),
    )
    split, _ = open_splits(config)
    if color == "rgb" and split.data.pixels is not None:
        colors = Pixels(np.repeat(split.data.pixels[..., None], 3, 3), np.arange(len(split)))
        split = split_of(dataclasses.replace(split.data, images=colors), config)
    loader, order = Loader(split, config), np.arange(len(split))
    for step in range(loader.steps):
        loader.prepare(order, 0, step)
    learn = learner(config, split.counts, len(split.labels))
    rates: tuple[list[float], list[float]] = [], []
    for turn in range(turns):
        started = time.process_time()
        for step in range(4):
            prepared = loader.prepare(order, turn, step)
        rates[0].append(4 * batch / (time.process_time() - started))
        started = time.process_time()
        learn(prepared.images, prepared.targets)
        rates[1].append(batch / (time.process_time() - started))
    return float(np.median(rates[0])), float(np.median(rates[1][1:])), batch


def learner(config: TrainConfig, counts: torch.Tensor, classes: int) -> Callable[..., None]:
    """Return a function that takes one step on a batch."""
    options = {} if config.model.name == "mien-base" else {"num_classes": classes}
    model = models.build(config.model.name, **options).to(memory_format=torch.channels_last).train()  # pyrefly: ignore
    channels = 1 if config.input.color == "gray" else 3
    answer = model(torch.zeros(2, channels, config.input.size, config.input.size))
    objective = Criterion(config.loss, answer, classes, counts)
    optimizer = torch.optim.SGD([*model.parameters(), *objective.parameters()], lr=1e-3, momentum=0.9, fused=True)

    def learn(images: dict[str, torch.Tensor], targets: dict[str, torch.Tensor]) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=fastest_precision() == "bf16"):
            answer = run_network(model, {k: v.contiguous(memory_format=torch.channels_last) for k, v in images.items()})
        loss, _ = objective(type(answer)(*(v if v is None else float32(v) for v in answer)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return learn


if __name__ == "__main__":
    main()
