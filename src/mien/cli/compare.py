"""`mien compare`: several models on several datasets, with what can be told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from ..data.datasets import Dataset, open_dataset
from ..errors import ConfigError, did_you_mean
from ..evaluation.compare import compare as run
from ..evaluation.compare.pages import SAYS, tables
from .splits import pairs
from .terminal import for_programs, progress_bar, side_console, table_console, write_json


def compare(
    *models: str,
    dataset: Annotated[tuple[str, ...], Parameter(required=True)],
    root: tuple[str, ...] = (".",),
    out: Annotated[Path, Parameter(alias="-o", required=True)],
    split: str = "test",
    option: tuple[str, ...] = (),
    output: str = "auto",
    faces: Literal["auto", "whole", "detect"] = "auto",
    tta: int = 1,
    limit: int = 0,
    batch: int = 64,
    threads: int = 1,
    device: str = "cpu",
    overwrite: bool = False,
    results: Path | None = None,
    json: bool = False,
) -> None:
    """Measure several models on several datasets, and say which differ.

    The first model is the one that the others are compared with. Evaluations that are done are not done again.

    Examples:
        mien compare mien-base runs/fer2013-dan-small/1 --dataset fer2013 --root data/fer2013 --out out/compare
        mien compare mien-base peer:human=human.npz --dataset fer2013 --dataset fer2013@clean:fer2013.clean.json \
--root data/fer2013 --out out/peers --results results/peers.csv
        mien compare mien-base my.onnx --dataset fer2013 --dataset london --root fer2013=data/fer2013 \
--root london=data/london --out out/cross

    Args:
        models: As for mien evaluate; MODEL@OUTPUT for one of its heads; peer:NAME=FILE.npz is another package's table
            of probabilities.
        dataset: NAME or NAME@PROTOCOL, once for each.
        root: Folder of the data, or NAME=DIR once for each dataset.
        out: Folder for the results: comparison.csv, .md and .html, and a folder for each evaluation.
        split: train, validation, test or all.
        option: NAME:OPTION=VALUE, an option of one of the datasets.
        output: Which head of the models; auto takes the one named after the dataset, or else the scores.
        faces: whole: each image is one face; detect: find faces in photographs; auto: by the size of the images.
        tta: Number of views whose mean is the answer.
        limit: Only this many images, evenly spread; 0 for all.
        batch: Images in one call of a network.
        threads: Threads inside one call.
        device: Where networks run: cpu, cuda (cuda:1 is the second GPU), mps, or auto for the best that starts.
        overwrite: Begin anew, whatever evaluations the folder holds.
        results: Also write the rows to this csv, in place of older ones of the same key.
        json: Write JSON Lines, also on a terminal.

    Raises:
        ConfigError: no model is named, or an option belongs to none of the datasets.
    """
    if not models:
        raise ConfigError("give one model at least: mien compare MODEL… --dataset NAME --root DIR --out DIR")
    _check(dataset, root, option)
    opened = {column: _open(column, root, split, option) for column in dataset}
    side = side_console()
    with progress_bar(side) as bar:
        task = bar.add_task("comparing", total=len(models) * sum(min(limit or len(d), len(d)) for d in opened.values()))

        def advance(what: str, rows: int) -> None:
            bar.update(task, description=what, advance=rows)

        table = run(
            models,
            opened,
            out=out,
            results=results,
            progress=advance,
            output=output,
            faces=faces,
            tta=tta,
            limit=limit,
            batch=batch,
            threads=threads,
            device=device,
            overwrite=overwrite,
        )
    if for_programs(json):
        for (model, column), cell in table.cells.items():
            official = cell.report.figures.get("official", {})
            write_json(
                {
                    "model": model,
                    "dataset": column,
                    **{key: official.get(key) for key in ("n", "accuracy", "uar", "macro_f1")},
                    "difference": cell.difference,
                    "low": cell.low,
                    "high": cell.high,
                    "p": cell.p,
                }
            )
    else:
        console = table_console()
        for title, header, rows in tables(table):
            console.print(f"\n{title}", style="bold")
            printed = Table(box=None, pad_edge=False, header_style="bold")
            for name in header:
                printed.add_column(name)
            for row in rows:
                printed.add_row(*row)
            console.print(printed)
    side.print(SAYS, style="dim")
    side.print(f"wrote {out / 'comparison.html'}, .md and .csv" + (f"; {results}" if results else ""))


def _check(columns: tuple[str, ...], roots: tuple[str, ...], options: tuple[str, ...]) -> None:
    """Refuse what would be passed over in silence, and change what is measured."""
    names = [column.partition("@")[0] for column in columns]
    plain = [root for root in roots if "=" not in root]
    if len(plain) > 1:
        raise ConfigError(f"--root is given as {' and '.join(plain)}; write NAME=DIR, once for each of {', '.join(names)}")
    for option in options:
        if option.partition(":")[0] not in names or ":" not in option:
            raise ConfigError(f"--option {option} is of none of the datasets; write NAME:OPTION=VALUE with {', '.join(names)}")
    for name in (root.partition("=")[0] for root in roots if "=" in root):
        if name not in names:
            raise ConfigError(f"--root {name}=… is of none of the datasets{did_you_mean(name, names, '.')}")


def _open(column: str, roots: tuple[str, ...], split: str, options: tuple[str, ...]) -> Dataset:
    name, _, protocol = column.partition("@")
    plain = [root for root in roots if "=" not in root]
    named = dict(root.split("=", 1) for root in roots if "=" in root)
    place = named.get(name) or (plain[0] if plain else None)
    if place is None:
        raise ConfigError(f"where is {name}? Give --root {name}=DIR")
    mine = [option.removeprefix(f"{name}:") for option in options if option.startswith(f"{name}:")]
    return open_dataset(name, place, split, protocol, **pairs(mine, "--option"))  # pyrefly: ignore
