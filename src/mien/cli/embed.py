"""`mien embed`: the features of a dataset, and a plot of them by class."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cyclopts import Parameter
from rich.table import Table

from ..data.datasets import open_dataset
from ..errors import ConfigError
from ..evaluation.embeddings import WRITERS, Embedding, figure_kind, need_scikit_learn, plot, save, silhouette, write_figure
from ..evaluation.embeddings import embed as run
from ..evaluation.report import Report
from .splits import pairs
from .terminal import for_programs, progress_bar, side_console, table_console, write_json

SECTION = "Features"
"""Heading in a report."""


def embed(
    *models: Annotated[str, Parameter(required=True)],
    dataset: Annotated[str, Parameter(required=True)],
    root: Path = Path(),
    split: str = "test",
    protocol: str = "",
    option: tuple[str, ...] = (),
    limit: int = 0,
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    plot_to: Annotated[Path | None, Parameter(name="--plot")] = None,
    method: Literal["t-sne", "pca"] = "t-sne",
    title: tuple[str, ...] = (),
    seed: int = 0,
    faces: Literal["auto", "whole", "detect"] = "auto",
    detector: str = "blazeface",
    report: Path | None = None,
    batch: int = 64,
    threads: int = 1,
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Write the features of a dataset: the vector that a network's last layer reads, for each face.

    Images without a face have no row; how many they are is said. With several models the plot has a panel for each, to see
    what a loss does to the classes; the silhouette of the features is 1 where classes are apart, 0 where they touch.

    Examples:
        mien embed runs/fer2013-dan-small/1 --dataset fer2013 --root data/fer2013 --out dan.npz --plot dan.png

        mien embed runs/plain/1 runs/center/1 --dataset fer2013 --root data/fer2013 --limit 2000 --plot both.svg

        mien embed mien-base --dataset fer2013 --root data/fer2013 --method pca --report out/fer2013

    Args:
        models: Names of bundled models, cards, weight files, or folders of runs.
        dataset: Name of the dataset (see: mien datasets).
        root: Folder that holds it.
        split: train, validation, test or all.
        protocol: How to split it; by default the first that the dataset offers.
        option: NAME=VALUE, one of the options of the dataset.
        limit: Only about this many images, of each class the same share; 0 for all.
        out: File for the features: .npz, .csv, or .parquet (which needs pyarrow). With several models their names are added.
        plot_to: File for the plot: .png, .svg or .pdf.
        method: How the features come onto a plane.
        title: Over a panel, instead of the model's name; once for each model.
        seed: Of the t-SNE.
        faces: whole: each image is one face; detect: find faces in photographs; auto: by the size of the images.
        detector: For detect.
        report: Folder of an evaluation; the plot is added to its report.
        batch: Faces in one call of the network.
        threads: Threads inside one call.
        device: Where networks run: cpu, cuda (cuda:1 is the second GPU), mps, or auto for the best that starts.
        json: Write the summary as JSON Lines, also on a terminal.

    Raises:
        ConfigError: nothing is to be written, or in no form that is known, or there are more or fewer titles than models.
    """
    if out is None and plot_to is None and report is None:
        raise ConfigError("say where the features go with --out, a plot of them with --plot, or both")
    if out is not None and out.suffix.lower() not in WRITERS:
        raise ConfigError(f"--out {out}: features are written as {', '.join(WRITERS)}")
    if title and len(title) != len(models):
        raise ConfigError(f"--title is given {len(title)} times for {len(models)} models")
    if plot_to is not None:
        figure_kind(plot_to)
    need_scikit_learn()
    judged = Report.read(report) if report else None
    data = open_dataset(dataset, root, split, protocol, **pairs(option, "--option"))  # pyrefly: ignore
    side, found = side_console(), []
    with progress_bar(side) as bar:
        for model in models:
            task = bar.add_task(model, total=min(limit, len(data)) if limit else len(data))
            found.append(
                run(
                    model,
                    data,
                    limit=limit,
                    faces=faces,
                    detector=detector,
                    batch=batch,
                    threads=threads,
                    device=device,
                    progress=lambda number, task=task: bar.advance(task, number),
                )
            )
    paths = [save(each, path) for each, path in zip(found, _paths(out, found), strict=True)] if out else []
    if plot_to or judged:
        figure = plot(found, method, seed, title)
        if plot_to:
            side.print(f"wrote {write_figure(figure, plot_to)}", style="dim")
        if judged:
            drawn = io.BytesIO()
            figure.savefig(drawn, format="png", dpi=160, metadata={"Software": None})
            name = f"{'t-SNE' if method == 't-sne' else 'PCA'} of {', '.join(title or [each.model for each in found])}"
            note = (
                f"{found[0].dataset}, colored by true class; seed {seed}. The silhouette is of the features, not of the plot."
            )
            judged.add_image(SECTION, name, drawn.getvalue(), note)
            judged.write()
            side.print(f"added {name} to {judged.folder}", style="dim")
    rows = [_row(each, seed, paths[number] if paths else None) for number, each in enumerate(found)]
    if for_programs(json):
        for row in rows:
            write_json(row)
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for key in rows[0]:
            table.add_column(key, justify="left" if key in ("model", "dataset", "features", "file") else "right")
        for row in rows:
            table.add_row(*("" if value is None else str(value) for value in row.values()))
        table_console().print(table)


def _paths(out: Path, found: list[Embedding]) -> list[Path]:
    if len(found) == 1:
        return [out]
    names = [each.model.rpartition(" ")[0] for each in found]
    numbered = [f"{name}-{index}" if names.count(name) > 1 else name for index, name in enumerate(names, 1)]
    return [out.with_stem(f"{out.stem}-{name}") for name in numbered]


def _row(embedding: Embedding, seed: int, path: Path | None) -> dict[str, object]:
    apart = silhouette(embedding, seed)
    return {
        "model": embedding.model,
        "dataset": embedding.dataset,
        "features": embedding.output,
        "faces": len(embedding),
        "missed": len(embedding.missed),
        "dimensions": embedding.features.shape[1],
        "silhouette": None if np.isnan(apart) else round(apart, 4),
        "file": None if path is None else str(path),
    }
