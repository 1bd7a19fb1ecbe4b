"""`mien recipes`: list the recipes of the package, or show one."""

from __future__ import annotations

import sys

from rich.table import Table

from .terminal import for_programs, table_console, write_json


def recipes(name: str | None = None, /, *, json: bool = False) -> None:
    """List the recipes of the package, or show one.

    Examples:
        mien recipes
        mien recipes rafdb-dan-mien > mine.toml

    Args:
        name: Recipe to show as TOML, a starting point for your own.
        json: Write JSON Lines, also on a terminal.

    Raises:
        ConfigError: unknown recipe.
    """
    from ..training import recipes as known
    from ..training.config import TrainConfig

    if name is not None:
        sys.stdout.write(known.find(name).read_text(encoding="utf-8"))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("recipe", "model", "dataset", "epochs", "about"):
        table.add_column(column, no_wrap=column != "about")
    for each in known.names():
        config = TrainConfig.load(each)
        datasets = ", ".join(data.dataset for data in config.data)
        about = " ".join(config.about.split())
        if for_programs(json):
            write_json(
                {"recipe": each, "model": config.model.name, "dataset": datasets, "epochs": config.epochs, "about": about}
            )
        else:
            table.add_row(each, config.model.name, datasets, str(config.epochs), about.partition(". ")[0])
    if not for_programs(json):
        table_console().print(table)
