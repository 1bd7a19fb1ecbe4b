"""`mien sweep`: train a recipe with several values of its fields."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .terminal import File, side_console
from .train import overrides, train_series


def sweep(
    recipe: File,
    /,
    *fields: Annotated[str, Parameter(allow_leading_hyphen=True)],
    set_: Annotated[tuple[str, ...], Parameter(name="--set")],
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    root: Path | None = None,
    device: str | None = None,
    seeds: int = 0,
    folds: int = 0,
    sample: int = 0,
    trials: int = 0,
    jobs: int = 1,
) -> None:
    """Train a recipe with several values of its fields, and print the results as one table.

    All combinations are trained, a random sample of them, or those that Optuna proposes. An interrupted sweep continues with
    the same command; finished runs are skipped.

    Examples:
        mien sweep fer2013-mien-base --root data/fer2013 --set optim.lr=1e-3,3e-4 --seeds 3
        mien sweep mine.toml --set batch=64,128 --set optim.lr=0.1,0.03,0.01 --sample 4 -o runs/sweep
        mien sweep mine.toml --set optim.lr=1e-4..1e-2 --set optim.name=sgd,adamw --trials 20

    Args:
        recipe: Name of a recipe (see: mien recipes) or TOML file.
        fields: Fields to change in all runs, as --FIELD=VALUE.
        set_: Field with its values, FIELD=VALUE,VALUE, or interval, FIELD=LOW..HIGH (for --sample and --trials); repeatable.
        out: Folder of the sweep; default: runs/RECIPE-sweep.
        root: Folder of the dataset, instead of the recipe's.
        device: cpu, cuda, mps, or auto, instead of the recipe's.
        seeds: Number of seeds of each setting.
        folds: Number of folds of a cross-validation protocol.
        sample: Train a random sample of this size instead of all combinations.
        trials: Train this many settings proposed by Optuna (TPE), for the best validation metric.
        jobs: Number of runs at the same time.
    """
    from ..training import recipes, series
    from ..training.config import TrainConfig

    changes = overrides(fields, root, None, device)
    config, space = TrainConfig.load(recipe, changes), series.space(set_)
    for name, values in space.items():  # every value is checked before the first is trained
        for value in (values.at(0), values.at(1)) if isinstance(values, series.Interval) else values:
            TrainConfig.load(recipe, [*changes, f"{name}={value}"])
    out = out or Path("runs") / f"{Path(recipe).stem}-sweep"

    def train(settings: list[series.Setting]) -> list[float]:
        runs = series.members(config, out, folds=folds, seeds=seeds, settings=settings)
        report = lambda member, event: side_console().print(f"{event} {member.out}")  # noqa: E731
        series.run(recipes.find(recipe), changes, runs, jobs=jobs, report=report)
        return series.score(runs, config.validation.metric)

    if trials:
        settings = series.search(space, trials, seed=config.seed, jobs=jobs, train=train)
    else:
        settings = series.settings_of(space, sample, config.seed)
    train_series(recipe, config, changes, out, jobs, folds=folds, seeds=seeds, settings=settings)
