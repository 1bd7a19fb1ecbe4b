"""`mien recipes`: list the recipes of the package, or show one."""

import sys

from .terminal import Json, for_programs, print_rows, table_console, write_json


def recipes(name: str | None = None, /, *, json: Json = False) -> None:
    """List the recipes of the package, or show one.

    Examples:
        mien recipes
        mien recipes rafdb-dan-mien > mine.toml

    Args:
        name: Recipe to show as TOML, a starting point for your own.
    """
    from ..training import recipes as known
    from ..training.config import TrainConfig

    if name is not None:
        sys.stdout.write(known.find(name).read_text(encoding="utf-8"))
        return
    columns, rows = ("recipe", "model", "dataset", "epochs", "about"), []
    for each in known.names():
        config = TrainConfig.load(each)
        about = " ".join(config.about.split())
        rows.append((each, config.model.name, ", ".join(data.dataset for data in config.data), config.epochs, about))
    if for_programs(json):
        for row in rows:
            write_json(dict(zip(columns, row, strict=True)))
    else:
        shown = [(*map(str, row[:-1]), row[-1].partition(". ")[0]) for row in rows]
        columns = columns if table_console().width >= 110 else columns[:-1]
        print_rows(columns, [row[: len(columns)] for row in shown], text=columns, no_wrap=columns[::3])
