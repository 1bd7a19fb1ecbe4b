"""`mien recipes`: list the recipes of the package, or show one."""

from __future__ import annotations

import sys

from .terminal import Json, for_programs, plain_table, table_console, write_json


def recipes(name: str | None = None, /, *, json: Json = False) -> None:
    """List the recipes of the package, or show one.

    Examples:
        mien recipes
        mien recipes rafdb-dan-mien > mine.toml

    Args:
        name: Recipe to show as TOML, a starting point for your own.

    Raises:
        ConfigError: unknown recipe.
    """
    from ..training import recipes as known
    from ..training.config import TrainConfig

    if name is not None:
        sys.stdout.write(known.find(name).read_text(encoding="utf-8"))
        return
    columns = ("recipe", "model", "dataset", "epochs", "about")
    table = plain_table(*columns, text=columns)
    for column in table.columns[:-1]:
        column.no_wrap = True
    for each in known.names():
        config = TrainConfig.load(each)
        about = " ".join(config.about.split())
        row = (each, config.model.name, ", ".join(data.dataset for data in config.data), config.epochs, about)
        if for_programs(json):
            write_json(dict(zip(columns, row, strict=True)))
        else:
            table.add_row(*map(str, row[:-1]), about.partition(". ")[0])
    if not for_programs(json):
        table_console().print(table)
