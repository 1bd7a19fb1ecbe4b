"""`mien curves`: learning curves of training runs in one plot."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import ConfigError
from ..evaluation import about_run
from ..evaluation.report.plots import curves as draw
from ..visualization.plotting import figure_kind, styled, write_figure
from .terminal import side_console


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
    side_console().print(f"wrote {write_figure(figure, out)}", style="dim")
