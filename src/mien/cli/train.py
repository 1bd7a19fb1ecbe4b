"""`mien train`, `sweep`, `recipes` and `curves`: networks from recipes."""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..errors import ConfigError, needs
from .progress import Left, LongProgress
from .terminal import File, Json, for_programs, note, print_rows, side_console, table_console, write_json

if TYPE_CHECKING:
    from rich.progress import TaskID

    from ..training.config import TrainConfig


def train(
    recipe: File,
    /,
    *fields: Annotated[str, Parameter(allow_leading_hyphen=True)],
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    resume: bool = False,
    root: Path | None = None,
    seed: int | None = None,
    device: str | None = None,
    folds: int = 0,
    seeds: int = 0,
    jobs: int = 1,
) -> None:
    """Train a network from a recipe.

    The best epoch on the validation split is saved as OUT/best.safetensors with its card; curves.png, metrics.jsonl,
    config.toml and env.json document the run. An interrupted run resumes with --resume and ends in bit-identical weights.
    Several processes: torchrun --nproc-per-node 2 -m mien train …, or accelerate launch.

    Examples:
        mien train fer2013-mien-base --root data/fer2013
        mien train rafdb-dan-mien --root data/rafdb --lr=5e-4 --epochs=20 --loss.1.weight=0.5
        mien train mine.toml --seed 2 -o runs/second --resume
        mien train ckplus-global-cbam-mien --root data/ckplus --folds 10 --jobs 2

    Args:
        recipe: Name of a recipe (see: mien recipes) or TOML file with the fields of TrainConfig.
        fields: Fields to change, as --FIELD=VALUE; docs/training-config.md lists them all.
        out: Folder of the run; default: runs/RECIPE/SEED.
        resume: Continue the run in that folder.
        root: Folder of the dataset, instead of the recipe's.
        seed: Seed, instead of the recipe's.
        device: cpu, cuda (cuda:1 is the second GPU), mps, or auto, instead of the recipe's.
        folds: Train every fold of a cross-validation protocol, and pool the results and test predictions. Finished folds are
            skipped.
        seeds: Train this many seeds, and pool the results. Finished seeds are skipped.
        jobs: Number of folds or seeds that are trained at the same time.
    """
    from ..data.datasets import reader
    from ..training.config import TrainConfig

    changes = overrides(fields, root, seed, device)
    config = TrainConfig.load(recipe, changes)  # Checked before torch is imported, so that errors come at once.
    for data in config.data:
        if ":" not in data.dataset:
            reader(data.dataset).check(data.root, data.protocol, data.options)
    name = Path(recipe).stem
    if folds or seeds:
        train_series(recipe, config, changes, out or Path("runs") / name, jobs, folds=folds, seeds=seeds)
        return
    with needs("train"):
        from ..training.loop import train as run

    with Progress(config.validation.metric) as progress:
        best = run(config, out or Path("runs") / name / str(config.seed), resume=resume, report=progress)
    if int(os.environ.get("RANK", "0")) == 0:
        print(best)


def overrides(fields: Sequence[str], root: Path | None, seed: int | None, device: str | None) -> list[str]:
    """Return changed fields of a recipe as FIELD=VALUE, those of options last."""
    given = [field.removeprefix("--") for field in fields]
    given += [] if root is None else [f"data.root={json.dumps(str(root))}"]  # TOML strings have the escapes of JSON.
    given += [] if seed is None else [f"seed={seed}"]
    return given + ([] if device is None else [f"device={json.dumps(device)}"])


def train_series(
    recipe: str,
    config: "TrainConfig",
    changes: Sequence[str],
    out: Path,
    jobs: int,
    *,
    folds: int = 0,
    seeds: int = 0,
    settings: Sequence[Mapping[str, str]] = ({},),
) -> None:
    """Run a series and print its pooled results as a table or JSON Lines."""
    from ..training import recipes, series

    metrics = [name.strip() for name in config.validation.metric.split("+")]
    metrics = list(dict.fromkeys([*(["accuracy"] if metrics == ["last"] else metrics), "accuracy", "uar", "macro_f1"]))
    runs = series.members(config, out, folds=folds, seeds=seeds, settings=settings)
    series.run(recipes.find(recipe), changes, runs, jobs=jobs, report=lambda run, event: note(f"{event} {run.out}"))
    found = list(series.pooled(runs, metrics))
    if folds and settings == ({},):  # Values of a sweep are chosen by validation alone.
        found += series.tested(runs, metrics)
    if for_programs(False):
        for each in found:
            write_json(dataclasses.asdict(each))
        return
    swept = any(each.setting for each in found)
    columns = (*(["setting"] if swept else []), "split", "metric", "runs", "mean", "sd", "95 % CI")
    rows = []
    for each in found:
        deviation = "" if math.isnan(each.deviation) else f"{each.deviation:.4f}"
        spread = "" if math.isnan(each.low) else f"{each.low:.4f} … {each.high:.4f}"
        setting = [each.setting] if swept else []
        rows.append((*setting, each.split, each.metric, str(each.runs), f"{each.mean:.4f}", deviation, spread))
    print_rows(columns, rows, text=columns)


def introduction(start: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that describe a run at its start; warnings begin with an exclamation mark."""
    processes = f", {start['processes']} processes" if start["processes"] > 1 else ""
    sizes = f"{start['parameters']:,} parameters, {start['trainable']:,} trained (with the loss)"
    yield f"{start['model']}: {sizes}, on {start['device']} in {start['precision']}{processes}"
    for data in start["datasets"]:
        leaks = f"; {data['leaks']:,} training images excluded, since they occur in another split" if data["leaks"] else ""
        sizes = f"{data['train']:,} training and {data['validation']:,} validation images"
        yield f"{data['name']} ({data['protocol']}): {sizes}{leaks}"
        if data["empty"]:
            yield f"! {data['name']}: no training images of {', '.join(data['empty'])}, which the network cannot learn"
    yield f"{start['epochs']} epochs of {start['steps']:,} steps, batch size {start['batch']}"


class Progress:
    """Progress bar of the current epoch and a line for each finished one, on stderr.

    `metric` is that of model selection, `every` the seconds between lines that replace the bar if stderr is not a terminal.
    """

    def __init__(self, metric: str, every: float = 60) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

        self.console = side_console()
        figures = TextColumn("{task.fields[figures]}")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), figures, Left())
        self.bar = LongProgress(*columns, console=self.console, every=every)
        self.metric, self.loss, self.epochs = metric, 0.0, 0
        self.task: TaskID | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event of `mien.training.loop.train`."""
        if event["event"] == "teacher":
            if self.task is None:
                self.bar.start()
                self.task = self.bar.add_task("teacher inference", total=event["of"], figures="")
            self.bar.update(self.task, completed=event["images"])
        elif event["event"] == "start":
            if self.task is not None:
                self.bar.remove_task(self.task)
            self.bar.start()  # An error before this is a single line.
            self.epochs, steps = event["epochs"], event["steps"]
            for line in introduction(event):
                self.console.print(line, style="yellow" if line.startswith("!") else "dim")
            done = event["epoch"] * steps + event["step"]
            self.task = self.bar.add_task("training", total=self.epochs * steps, completed=done, figures="")
        elif event["event"] == "step" and self.task is not None:
            self.loss = event["loss"] if not self.loss else 0.95 * self.loss + 0.05 * event["loss"]
            figures = f"loss {self.loss:.3f}  lr {event['lr']:.2g}"
            self.bar.update(self.task, advance=1, description=f"epoch {event['epoch'] + 1}/{self.epochs}", figures=figures)
        elif event["event"] == "epoch":
            self.loss = 0.0
            self.console.print(self.line(event))

    def line(self, row: dict[str, Any]) -> str:
        """Return the line of an epoch: loss, metric of model selection, other metrics, speed."""
        wanted = [key.strip() for key in self.metric.split("+") if key.strip() in row]
        shown = [*wanted, *(key for key in row if key.rpartition(".")[2] in SHOWN and key not in wanted)]
        figures = "  ".join(f"{key} {row[key]:.4f}" for key in shown)
        star = " *" if row["best"] else ""
        head = f"epoch {row['epoch']:>3}/{self.epochs}  loss {row['loss']:.3f}"
        return f"{head}  {figures}  {row['per_second']:.0f} images/s{star}"


SHOWN = ("accuracy", "macro_f1", "ccc_valence", "ccc_arousal", "au_f1", "p")


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
        report = lambda member, event: note(f"{event} {member.out}")  # noqa: E731
        series.run(recipes.find(recipe), changes, runs, jobs=jobs, report=report)
        return series.score(runs, config.validation.metric)

    if trials:
        settings = series.search(space, trials, seed=config.seed, jobs=jobs, train=train)
    else:
        settings = series.settings_of(space, sample, config.seed)
    train_series(recipe, config, changes, out, jobs, folds=folds, seeds=seeds, settings=settings)


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


def curves(
    *runs: Annotated[Path, Parameter(required=True)], out: Annotated[Path, Parameter(alias="-o", required=True)]
) -> None:
    """Plot the learning curves of one or several training runs.

    One run shows all its losses and validation metrics. Several runs have different colors and show the total loss and the
    first metric; training is dashed, validation solid.

    Examples:
        mien curves runs/fer2013-dan-small/1 --out curves.png
        mien curves runs/global/seed-1 runs/global-roi/seed-1 --out curves.pdf

    Args:
        runs: Folders of training runs.
        out: Output file: .png, .svg or .pdf.
    """
    from ..evaluation import about_run
    from ..evaluation.report.plots import curves as draw
    from ..visualization.plotting import figure_kind, styled, write_figure

    figure_kind(out)
    found = []
    for run in runs:
        about = about_run(run) if run.is_dir() else None
        if about is None or not about["rows"]:
            raise ConfigError(f"{run} holds no metrics.jsonl with epochs; name the folder of a training run", path=run)
        found.append(about)
    names = [about["name"] for about in found]
    if len(set(names)) < len(names):
        paths = [run.resolve() for run in runs]
        shared = Path(os.path.commonpath([path.parent for path in paths]))
        names = [path.relative_to(shared).as_posix() for path in paths]
    with styled():
        figure = draw({name: about["rows"] for name, about in zip(names, found, strict=True)})
    note(f"wrote {write_figure(figure, out)}", "dim")
