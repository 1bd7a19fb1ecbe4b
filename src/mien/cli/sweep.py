"""`mien sweep`: train a recipe with several values of its fields."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .train import overrides, train_series


def sweep(
    recipe: str,
    /,
    *fields: Annotated[str, Parameter(allow_leading_hyphen=True)],
    set_: Annotated[tuple[str, ...], Parameter(name="--set")],
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    root: Path | None = None,
    device: str | None = None,
    seeds: int = 0,
    folds: int = 0,
    sample: int = 0,
    jobs: int = 1,
) -> None:
    """Train a recipe with several values of its fields, and print the results as one table.

    All combinations are trained, or a random sample of them. An interrupted sweep continues with the same command; finished
    runs are skipped.

    Examples:
        mien sweep fer2013-mien-base --root data/fer2013 --set optim.lr=1e-3,3e-4 --seeds 3

        mien sweep mine.toml --set batch=64,128 --set optim.lr=0.1,0.03,0.01 --sample 4 -o runs/sweep

    Args:
        recipe: Name of a recipe (see: mien recipes) or TOML file.
        fields: Fields to change in all runs, as --FIELD=VALUE.
        set_: Field with its values, FIELD=VALUE,VALUE; may be given several times.
        out: Folder of the sweep; default: runs/RECIPE-sweep.
        root: Folder of the dataset, instead of the recipe's.
        device: cpu, cuda, mps, or auto, instead of the recipe's.
        seeds: Number of seeds of each setting.
        folds: Number of folds of a cross-validation protocol.
        sample: Train a random sample of this size instead of all combinations.
        jobs: Number of runs at the same time.

    Raises:
        ConfigError: invalid recipe, field or value.
    """
    from ..training import series
    from ..training.config import TrainConfig

    changes = overrides(fields, root, None, device)
    config = TrainConfig.load(recipe, changes)
    settings = series.grid(set_)
    for setting in settings:  # every setting is checked before the first is trained
        TrainConfig.load(recipe, [*changes, *(f"{field}={value}" for field, value in setting.items())])
    if 0 < sample < len(settings):
        settings = random.Random(config.seed).sample(settings, sample)
    out = out or Path("runs") / f"{Path(recipe).stem}-sweep"
    train_series(recipe, config, changes, out, jobs, folds=folds, seeds=seeds, settings=settings)
