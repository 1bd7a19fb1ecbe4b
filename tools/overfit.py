"""Learn one batch of 64 real faces by heart with every published network: what cannot do that cannot learn.

    python tools/overfit.py --root ../shared/data/fer2013
    python tools/overfit.py --model dan --model mfer

Nothing is varied, Adam at a constant rate, cross-entropy alone. After each step the network is asked about the batch in
training mode; once all 64 are right it is asked in evaluation mode, with the statistics of BatchNorm taken from the batch, and
goes on learning until it has all right there too. Rows go to `benchmarks/overfit.csv`, in place of older ones of the same
network.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

from mien import models
from mien.evaluation.run_info import commit
from mien.training.building import options_of
from mien.training.config import TrainConfig
from mien.training.criterion import ask
from mien.training.data import open_splits
from mien.training.loader import Loader

SIZES = {"dda-resnet34": 96, "dda-resnet50": 96, "ddamfn": 112, "ddamfn-mtl": 112, "dan": 48, "mien-base": 48, "mien-nano": 48}
"""Side of the images, where a network does not take 64 pixels or was published small."""
OPTIONS: dict[str, dict[str, Any]] = {"mfer": {"backbone": "convnext_tiny", "drop_path": 0.0}}
RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "overfit.csv"
COLUMNS = (
    "model",
    "side",
    "images",
    "parameters",
    "steps",
    "right_training",
    "right_evaluation",
    "loss",
    "seconds",
    "commit",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="../shared/data/fer2013", help="folder of fer2013.npz")
    parser.add_argument("--model", action="append", choices=list(models.MODELS), help="only these")
    parser.add_argument("--steps", type=int, default=200, help="steps after which a network has failed")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in track(given.model or list(models.MODELS), "learning by heart"):
        row = learn(name, given.root, given.steps)
        print(row, flush=True)
        keep(row)


def learn(name: str, root: str, most: int) -> dict[str, str]:
    """Return the row of one network."""
    config = config_of(name, root)
    split = open_splits(config)[0]
    batch = next(iter(Loader(split, config).epoch(0)))
    torch.manual_seed(0)
    network = models.build(name, **options_of(config, split)).train().to(memory_format=torch.channels_last)  # pyrefly: ignore
    stepper = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    label, started, loss, step = batch.targets["label"], time.perf_counter(), torch.tensor(float("nan")), 0
    right = settled_right = 0
    while settled_right < len(label) and step < most:
        step += 1
        scores = scores_of(network, batch.images)
        right = int((scores.argmax(1) == label).sum())
        if right == len(label):
            settled_right = int((settled(network, batch.images).argmax(1) == label).sum())
            network.train()
        loss = functional.cross_entropy(scores, label)
        stepper.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        stepper.step()
    return {
        "model": name,
        "side": str(config.input.size),
        "images": str(len(label)),
        "parameters": str(sum(p.numel() for p in network.parameters())),
        "steps": str(step),
        "right_training": str(right),
        "right_evaluation": str(settled_right),
        "loss": f"{loss.item():.4f}",
        "seconds": f"{time.perf_counter() - started:.0f}",
        "commit": commit(),
    }


def config_of(name: str, root: str) -> TrainConfig:
    """Return a run of one batch: 64 images, as even as the classes allow, unvaried."""
    gray = name.startswith("mien-")
    regions = {"eye": 48, "nose": 48, "mouth": 48} if name == "global-roi" else {}
    return TrainConfig.of(
        {
            "batch": 64,
            "model": {"name": name, "options": OPTIONS.get(name, {})},
            "data": {"dataset": "fer2013", "root": root, "limit": 64, "validation_limit": 64},
            "input": {
                "size": SIZES.get(name, 64),
                "color": "gray" if gray else "rgb",
                "normalize": "half" if gray else "imagenet",
                "regions": regions,
            },
        }
    )


def scores_of(network: nn.Module, images: dict[str, Tensor]) -> Tensor:
    """Return the class scores of a network's answer."""
    answer = ask(network, images)
    found = getattr(answer, "logits", None)
    return found if found is not None else answer.fer2013


@torch.no_grad()
def settled(network: nn.Module, images: dict[str, Tensor]) -> Tensor:
    """Return the scores in evaluation mode, BatchNorm with the statistics of these images."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [module.momentum for module in norms]
    drops = [module for module in network.modules() if "drop" in type(module).__name__.lower()]
    for module in norms:
        module.momentum = 1.0
    for module in drops:
        module.eval()
    ask(network, images)
    for module, momentum in zip(norms, before, strict=True):
        module.momentum = momentum
    network.eval()
    return scores_of(network, images)


def keep(row: dict[str, str]) -> None:
    """Put a row into the results."""
    rows: dict[str, dict[str, str]] = {}
    if RESULTS.is_file():
        with RESULTS.open(newline="", encoding="utf-8") as file:
            rows = {each["model"]: each for each in csv.DictReader(file)}
    rows[row["model"]] = row
    order = {name: place for place, name in enumerate(models.MODELS)}
    part = RESULTS.with_name(RESULTS.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows.values(), key=lambda each: order[each["model"]]))
    part.replace(RESULTS)


if __name__ == "__main__":
    main()
