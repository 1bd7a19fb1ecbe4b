"""Average the weights of runs that began from the same weights and measure BatchNorm's statistics anew: one network of several.

    python tools/average_runs.py runs/RECIPE/1 runs/RECIPE/2 runs/RECIPE/3 -o runs/RECIPE

Wortsman et al., "Model soups", ICML 2022: networks that were tuned from one start lie in one valley, whose middle is often
better than its sides. The best run on the validation split comes first; each further one joins where the mean is then better
there ("greedy soup"). What every run and the mean give is printed; a mean has it on its card, and where none is better the best
run is copied. The test split is not opened.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import tomllib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.optim.swa_utils import update_bn

from mien import models
from mien.training import validation
from mien.training.building import options_of
from mien.training.config import TrainConfig
from mien.training.data import open_splits
from mien.training.loader import Loader
from mien.training.run_dir import keep_best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs with one recipe and several seeds")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the mean, named like the recipe")
    parser.add_argument("--root", default="../shared/data/fer2013", help="folder of the data")
    parser.add_argument("--batches", type=int, default=100, help="batches that BatchNorm's statistics are measured on")
    args = parser.parse_args()
    torch.set_num_threads(2)
    config = TrainConfig.of(tomllib.loads((args.runs[0] / "config.toml").read_text()))
    config = dataclasses.replace(config, data=(dataclasses.replace(config.data[0], root=args.root),))
    train, held_out = open_splits(config)
    undistilled = dataclasses.replace(config, distil=dataclasses.replace(config.distil, teacher=""))
    batches = [batch.images["image"] for batch in islice(Loader(train, undistilled).epoch(config.epochs - 1), args.batches)]
    options = options_of(config, train)
    network = models.build(config.model.name, **options)

    def judge(states: Sequence[dict[str, Tensor]]) -> tuple[float, dict[str, float]]:
        """Set the network to the mean of these states and return its validation metric and all figures."""
        mean = {key: torch.stack([state[key].double() for state in states]).mean(0) for key in states[0]}
        network.load_state_dict({key: value.to(states[0][key].dtype) for key, value in mean.items()})
        if len(states) > 1:
            update_bn(batches, network)
        found = validation.measure(validation.predict(network, held_out, config), held_out, config)
        return sum(found[name.strip()] for name in config.validation.metric.split("+")), found

    states = {run: load_file(run / "best.safetensors") for run in args.runs}
    alone = {run: judge([state]) for run, state in states.items()}
    for run, (metric, found) in alone.items():
        print(f"{run}: {metric:.4f}, {shown(found)}")
    best, *others = sorted(states, key=lambda run: -alone[run][0])
    chosen, (metric, found) = [best], alone[best]
    for run in others:
        tried = judge([states[each] for each in (*chosen, run)])
        print(f"{' + '.join(map(str, (*chosen, run)))}: {tried[0]:.4f}, {shown(tried[1])}")
        if tried[0] > metric:
            chosen, (metric, found) = [*chosen, run], tried
    args.out.mkdir(parents=True, exist_ok=True)
    if len(chosen) == 1:
        for name in ("best.safetensors", "best.toml", "config.toml"):
            shutil.copy(best / name, args.out)
        print(args.out / "best.safetensors", "is that of", best)
        return
    judge([states[each] for each in chosen])
    calibration = validation.calibration(validation.predict(network, held_out, config), held_out, config)
    row: dict[str, Any] = {**found, "epoch": config.epochs}
    figures = {f"validation metric of run {run.name}": round(each[0], 4) for run, each in alone.items()}
    figures["runs in the mean"] = len(chosen)
    digests = [train.data.digest, held_out.data.digest]
    print(keep_best(args.out, network, config, options, held_out, digests, row, calibration, figures))
    shutil.copy(args.runs[0] / "config.toml", args.out)


def shown(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in found.items() if name.endswith("accuracy"))


if __name__ == "__main__":
    main()
