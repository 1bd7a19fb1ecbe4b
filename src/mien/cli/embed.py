"""`mien embed`: features of a dataset, and a plot of them by class."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cyclopts import Parameter

from ..errors import ConfigError
from ..evaluation.embeddings import WRITERS, Embedding, plot, require_scikit_learn, save, silhouette
from ..evaluation.embeddings import embed as run
from ..evaluation.report import Report
from ..visualization.plotting import figure_bytes, figure_kind, write_figure
from .options import Batch, Inference, Split, add_image, check_suffix, total
from .terminal import File, Json, counting, for_programs, print_rows, side_console, write_json

SECTION = "Features"  # heading in a report


def embed(
    *models: Annotated[File, Parameter(required=True)],
    data: Split,
    limit: int = 0,
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    plot_to: Annotated[Path | None, Parameter(name="--plot")] = None,
    method: Literal["t-sne", "pca"] = "t-sne",
    title: tuple[str, ...] = (),
    seed: int = 0,
    report: Path | None = None,
    batch: Batch = 64,
    inference: Inference = Inference(),  # noqa: B008 - frozen
    json: Json = False,
) -> None:
    """Write the features of a dataset: the input of a network's last layer, for each face.

    Images without a face have no row; their number is reported. With several models the plot has one panel each, to compare
    how losses separate the classes; the silhouette of the features is 1 for separated classes and 0 for touching ones.

    Examples:
        mien embed runs/fer2013-dan-small/1 --dataset fer2013 --root data/fer2013 --out dan.npz --plot dan.png
        mien embed runs/plain/1 runs/center/1 --dataset fer2013 --root data/fer2013 --limit 2000 --plot both.svg
        mien embed mien-base --dataset fer2013 --root data/fer2013 --method pca --report out/fer2013

    Args:
        models: Names of bundled models, cards, weight files, or folders of runs.
        limit: Use only about this many images, the same share of each class; 0 for all.
        out: Output file of the features: .npz, .csv, or .parquet (needs pyarrow); with several models their names are added.
        plot_to: Output file of the plot: .png, .svg or .pdf.
        method: Projection onto the plane.
        title: Title of a panel instead of the model's name; once for each model.
        seed: Seed of the t-SNE.
        report: Folder of an evaluation; the plot is added to its report.
    """
    if out is None and plot_to is None and report is None:
        raise ConfigError("no output: name a file for the features with --out, for a plot with --plot, or both")
    check_suffix(out, "--out", tuple(WRITERS))
    if title and len(title) != len(models):
        message = f"--title is given {len(title)} times for {len(models)} models"
        raise ConfigError(message, value=len(title), expected=len(models))
    if plot_to is not None:
        figure_kind(plot_to)
    require_scikit_learn()
    evaluated = Report.read(report) if report else None
    split, side, found = data.open(models[0]), side_console(), []
    for model in models:
        with counting(model, total(len(split), limit)) as progress:
            found.append(run(model, split, limit=limit, batch=batch, **inference.settings, progress=progress))
    paths = [save(each, path) for each, path in zip(found, _paths(out, found), strict=True)] if out else []
    if plot_to or evaluated:
        figure = plot(found, method, seed, title)
        if plot_to:
            side.print(f"wrote {write_figure(figure, plot_to)}", style="dim")
        if evaluated:
            name = f"{'t-SNE' if method == 't-sne' else 'PCA'} of {', '.join(title or [each.model for each in found])}"
            note = f"{found[0].dataset}, colored by true class; seed {seed}. The silhouette is that of the features."
            add_image(evaluated, SECTION, name, figure_bytes(figure, "png"), note)
    rows = [_row(each, seed, paths[number] if paths else None) for number, each in enumerate(found)]
    if for_programs(json):
        for row in rows:
            write_json(row)
        return
    cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
    text = ("model", "dataset", "features", "file")
    print_rows(list(rows[0]), cells, text=text, no_wrap=rows[0].keys() - {*text})


def _paths(out: Path, found: list[Embedding]) -> list[Path]:
    names = [each.model.rpartition(" ")[0] for each in found]
    numbered = [f"{name}-{index}" if names.count(name) > 1 else name for index, name in enumerate(names, 1)]
    return [out.with_stem(f"{out.stem}-{name}") for name in numbered] if len(found) > 1 else [out]


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
