"""`mien train`: run a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter


def train(
    recipe: Path,
    /,
    *,
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    root: Path | None = None,
    seed: int | None = None,
    threads: int | None = None,
) -> None:
    """Train a model by a recipe; a run that was stopped goes on from its last epoch.

    Prints one line for each epoch; the best weights on the validation split lie in `OUT/best.safetensors`.

    Examples:
        mien train recipes/fer2013-mien-base.toml --root data/fer2013

        mien train recipes/fer2013-mien-base.toml --seed 2 -o runs/second

    Args:
        recipe: TOML file with the fields of `TrainConfig`.
        out: folder of the run; `runs/RECIPE/SEED` if not given.
        root: folder of the data, instead of the recipe's.
        seed: seed, instead of the recipe's.
        threads: threads, instead of the recipe's.
    """
    import dataclasses

    from rich.console import Console

    from ..errors import MissingExtra

    try:
        from ..training.config import TrainConfig
        from ..training.loop import train as run
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", "train") from error

    config = TrainConfig.load(recipe)
    if root is not None:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, root=str(root)))
    if seed is not None:
        config = dataclasses.replace(config, seed=seed)
    if threads is not None:
        config = dataclasses.replace(config, threads=threads)
    console = Console(stderr=True)

    def show(row: dict[str, Any]) -> None:
        left = (config.epochs - row["epoch"]) * row["seconds"]
        console.print(
            f"epoch {row['epoch']:>3}/{config.epochs}  loss {row['loss']:.3f}  FER2013 {row['fer2013']:.2%}  "
            f"FERPlus {row['ferplus']:.2%}  {row['per_second']:.0f} pictures/s  {left / 60:.0f} min left",
            highlight=False,
        )

    print(run(config, out or Path("runs") / recipe.stem / str(config.seed), show))
