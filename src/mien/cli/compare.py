"""`mien compare` and `fuse`: several models on several datasets, with paired tests, or as an ensemble."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from .. import cards
from ..data.datasets import Dataset
from ..errors import ConfigError, did_you_mean
from ..evaluation.compare import METRICS
from ..evaluation.compare import compare as run_comparison
from ..evaluation.compare.tables import NOTES, tables
from ..evaluation.fusion import fuse as run_fusion
from ..evaluation.tta import Views
from .options import Batch, Folds, Head, Inference, Limit, Replace, total
from .terminal import File, Json, counting, for_programs, note, print_rows, table_console, write_json


def compare(
    *models: File,
    dataset: Annotated[tuple[str, ...], Parameter(required=True)],
    root: tuple[str, ...] = (".",),
    out: Annotated[Path, Parameter(alias="-o", required=True)],
    split: str = "test",
    option: tuple[str, ...] = (),
    fold: int | None = None,
    folds: int | None = None,
    metric: tuple[str, ...] = METRICS,
    output: Head = "auto",
    tta: Views = 1,
    limit: Limit = 0,
    batch: Batch = 64,
    inference: Inference = Inference(),  # noqa: B008 - frozen
    overwrite: Replace = False,
    results: Path | None = None,
    json: Json = False,
) -> None:
    """Evaluate several models on several datasets, and test which differ.

    The first model is the reference. Training runs of one configuration with several seeds or folds are compared as recipes
    too. Finished evaluations are not repeated. Written are comparison.html, .md, .tex (booktabs) and .csv.

    Examples:
        mien compare mien-base runs/fer2013-dan-small/1 --dataset fer2013 --root data/fer2013 --out out/compare
        mien compare runs/global/seed-* runs/global-roi/seed-* --dataset rafdb --root data/rafdb --out out/roi \
--metric uar --metric f1:fear
        mien compare mien-base peer:human=human.npz --dataset fer2013 --dataset fer2013@clean:fer2013.clean.json \
--root data/fer2013 --out out/peers --results results/peers.csv
        mien compare mien-base my.onnx --dataset fer2013 --dataset london --root fer2013=data/fer2013 \
--root london=data/london --out out/cross

    Args:
        models: Models as for mien evaluate; MODEL@OUTPUT selects an output; zoo:* names the whole zoo; peer:NAME=FILE.npz is a
            table of probabilities of another package.
        dataset: NAME or NAME@PROTOCOL; repeatable.
        root: Folder of the dataset, or NAME=DIR for each dataset.
        out: Output folder, with a folder for each evaluation.
        split: train, validation, test or all.
        option: NAME:OPTION=VALUE, an option of one of the datasets; repeatable.
        fold: Fold of protocols with folds; by default the fold that each run was trained with.
        folds: Number of folds; by default that of each run, or else 10.
        metric: accuracy, uar, macro_f1, kappa, recall:CLASS, precision:CLASS, f1:CLASS, ccc, ccc_valence, ccc_arousal,
            unit_f1, f1:AUn, p, or MODULE:ATTRIBUTE; repeatable, the first one is primary.
        tta: Number of test-time augmentation views, or ten-crop.
        results: Also write the rows to this csv, replacing older rows of the same key.
    """
    models = tuple(one for each in models for one in (cards.zoo_names(each) if each.startswith(cards.ZOO) else [each]))
    if not models:
        raise ConfigError("name at least one model: mien compare MODEL… --dataset NAME --root DIR --out DIR")
    places = _places(dataset, root, option, fold, folds)

    def open_column(column: str, model: str | Path) -> Dataset:
        return places[column].open_split(column.partition("@")[0], split, str(model))

    opened = {column: open_column(column, models[0]) for column in dataset}
    columns: Any = {column: partial(open_column, column) if data.fold else data for column, data in opened.items()}
    options = {"output": output, "tta": tta, "limit": limit, "batch": batch, "overwrite": overwrite, **inference.settings}
    with counting("comparing", len(models) * sum(total(len(data), limit) for data in opened.values())) as advance:
        progress = lambda what, rows: advance(rows, what)  # noqa: E731
        table = run_comparison(models, columns, out=out, metrics=metric, results=results, progress=progress, **options)
    if for_programs(json):
        for kind, cells in (("model", table.cells), ("recipe", table.recipes)):
            for (name, column), cell in cells.items():
                row = {kind: name, "dataset": column, "n": sum(one.figures["counts"]["official"] for one in cell.reports)}
                row |= {key: dataclasses.asdict(one) for key, one in cell.values.items()}
                one = cell.primary
                row |= {key: getattr(one, source, None) for key, source in DIFFERENCE.items()}
                row |= {"differences": {key: dataclasses.asdict(each) for key, each in cell.differences.items()}}
                write_json(row | ({"comparable": (name, column) not in table.unlike} if kind == "model" else {}))
    else:
        for title, header, rows in tables(table):
            table_console().print(f"\n{title}", style="bold")
            print_rows(header, rows, text=header)
    for text in table.warnings:
        note(f"! {text}", "yellow")
    note(NOTES, "dim")
    note(f"wrote {out / 'comparison.html'}, .md, .tex and .csv" + (f"; {results}" if results else ""))


DIFFERENCE = {"difference": "value", "low": "low", "high": "high", "p": "p"}
"""Key of a JSON line → field of the primary metric's difference."""


def _places(
    columns: tuple[str, ...], roots: tuple[str, ...], options: tuple[str, ...], fold: int | None, folds: int | None
) -> dict[str, Folds]:
    """Return the location of each column; roots and options that match none would have no effect and are refused."""
    names = [column.partition("@")[0] for column in columns]
    plain = [root for root in roots if "=" not in root]
    named = dict(root.split("=", 1) for root in roots if "=" in root)
    if len(plain) > 1:
        message = f"--root is given as {' and '.join(plain)}; write NAME=DIR for each of {', '.join(names)}"
        raise ConfigError(message, value=plain, expected=names)
    for option in options:
        if option.partition(":")[0] not in names or ":" not in option:
            message = f"--option {option} matches none of the datasets; write NAME:OPTION=VALUE with {', '.join(names)}"
            raise ConfigError(message, value=option, expected=names)
    for name in named:
        if name not in names:
            message = f"--root {name}=… matches none of the datasets{did_you_mean(name, names, '.')}"
            raise ConfigError(message, value=name, expected=names)
    found = {}
    for name, column in zip(names, columns, strict=True):
        root = named.get(name) or "".join(plain)
        if not root:
            raise ConfigError(f"the folder of {name} is missing; give --root {name}=DIR", value=name)
        own = tuple(option.removeprefix(f"{name}:") for option in options if option.startswith(f"{name}:"))
        found[column] = Folds(root=Path(root), protocol=column.partition("@")[2], option=own, fold=fold, folds=folds)
    return found


def fuse(
    *models: Annotated[File, Parameter(required=True)],
    out: Annotated[Path, Parameter(alias="-o", required=True)],
    weights: str = "equal",
    rule: Literal["logits", "probabilities"] = "logits",
    dataset: str | None = None,
    split: str = "validation",
    place: Folds = Folds(),  # noqa: B008 - frozen
    inference: Inference = Inference(),  # noqa: B008 - frozen
    json: Json = False,
) -> None:
    """Fuse models into an ensemble: a card that predict, evaluate, compare and export take like any other.

    Members may have any inputs and classes. For faces whose landmarks are not found, members that read regions of the face
    (Global-ROI) have no vote, and the others share the whole weight.

    Examples:
        mien fuse runs/rafdb-global-roi/1 runs/rafdb-global/1 --weights .55,.45 -o fused.toml
        mien fuse runs/dan/1 runs/dan/2 --weights fit --dataset rafdb --root data/rafdb --protocol held-out -o dan-2.toml

    Args:
        models: Cards, weight files or folders of runs; MODEL@OUTPUT pools another output than the scores.
        out: Output file, the card (.toml).
        weights: One number for each member, separated by commas; equal; or fit: on the validation split of --dataset.
        rule: Weighted sum of logits, or weighted mean of probabilities.
        dataset: Dataset for fit (see: mien datasets).
        split: Split for fit.
    """
    try:
        chosen = weights if weights in ("equal", "fit") else tuple(float(each) for each in weights.split(","))
    except ValueError as error:
        message = f"--weights: expected numbers separated by commas, equal or fit, got {weights!r}"
        raise ConfigError(message, value=weights) from error
    data = place.open_split(dataset, split, models[0]) if dataset else None
    tell = lambda step: note(f"{step} …", "dim")  # noqa: E731
    card = run_fusion(models, out, weights=chosen, rule=rule, data=data, progress=tell, **inference.settings)
    if for_programs(json):
        for each in card.members:
            write_json({"card": each.card, "weight": each.weight, "output": each.output, "sha256": each.sha256})
    else:
        rows = [(each.card, each.output, f"{each.weight:.4f}") for each in card.members]
        print_rows(("member", "output", "weight"), rows, text=("member", "output"))
    for one in card.measured:
        note(f"{one.metric} {one.value:.4f} on the {one.n:,} images of the fit", "dim")
    note(f"wrote {out}", "dim")
