"""`mien train`: run a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..errors import MissingExtra
from .terminal import Left, LongProgress, side_console

if TYPE_CHECKING:
    from rich.progress import TaskID


def train(
    recipe: Path,
    /,
    *fields: Annotated[str, Parameter(allow_leading_hyphen=True)],
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    resume: bool = False,
    root: Path | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> None:
    """Train a network by a recipe.

    The best epoch on the validation split lies in OUT/best.safetensors, with its card beside it; curves.png, metrics.jsonl,
    config.toml and env.json say how it came about. A run that was stopped, even by kill -9, goes on with --resume as if
    nothing had happened. Several processes: torchrun --nproc-per-node 2 -m mien train …, or accelerate launch.

    Examples:
        mien train recipes/fer2013-mien-base.toml --root data/fer2013

        mien train recipes/rafdb-dan-mien.toml --root data/rafdb --optim.lr=5e-4 --epochs=20

        mien train recipes/fer2013-mien-base.toml --seed 2 -o runs/second --resume

    Args:
        recipe: TOML file with the fields of TrainConfig.
        fields: fields to change, as --FIELD=VALUE; docs/training-config.md lists them all.
        out: folder of the run; runs/RECIPE/SEED if not given.
        resume: go on with the run that lies there.
        root: folder of the data, instead of the recipe's.
        seed: seed, instead of the recipe's.
        device: cpu, cuda (cuda:1 is the second GPU), mps, or auto, instead of the recipe's.

    Raises:
        MissingExtra: torch or something else of the extra train is not installed.
    """
    try:
        from ..training.config import TrainConfig
        from ..training.loop import train as run
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", "train") from error

    given = [*fields]
    given += [] if root is None else [f"data.root={json.dumps(str(root))}"]  # TOML has the escapes of JSON
    given += [] if seed is None else [f"seed={seed}"]
    given += [] if device is None else [f"device={json.dumps(device)}"]
    config = TrainConfig.load(recipe, given)
    out = out or Path("runs") / recipe.stem / str(config.seed)
    with Progress(config.validation.metric) as progress:
        best = run(config, out, resume=resume, report=progress)
    print(best)


class Progress:
    """A bar for the epoch that runs, and a line for each that is over, on stderr.

    Args:
        metric: what an epoch is chosen by.
        every: seconds between the lines that take the place of the bar where no terminal shows it.
    """

    def __init__(self, metric: str, every: float = 60) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

        self.console = side_console()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            Left(),
        )
        self.bar = LongProgress(*columns, console=self.console, every=every)
        self.metric, self.loss, self.epochs = metric, 0.0, 0
        self.task: TaskID | None = None
        self.asking: TaskID | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take an event of `mien.training.loop.train`."""
        if event["event"] == "teacher":
            if self.asking is None:
                self.bar.start()
                self.asking = self.bar.add_task("asking the teacher", total=event["of"], figures="")
            self.bar.update(self.asking, completed=event["images"])
        elif event["event"] == "start":
            if self.asking is not None:
                self.bar.remove_task(self.asking)
            self.bar.start()  # only now, so that an error before is one line
            self.epochs, steps = event["epochs"], event["steps"]
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
        """Return the line of an epoch: loss, what is selected by, what else was measured, rate."""
        wanted = [key.strip() for key in self.metric.split("+") if key.strip() in row]
        shown = [*wanted, *(key for key in row if key.rpartition(".")[2] in SHOWN and key not in wanted)]
        figures = "  ".join(f"{key} {row[key]:.4f}" for key in shown)
        star = " *" if row["best"] else ""
        head = f"epoch {row['epoch']:>3}/{self.epochs}  loss {row['loss']:.3f}"
        return f"{head}  {figures}  {row['per_second']:.0f} images/s{star}"


SHOWN = ("accuracy", "macro_f1", "ccc_valence", "ccc_arousal", "au_f1", "p")
