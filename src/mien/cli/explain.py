"""`mien explain` and `embed`: heat maps and region importance for predictions, features of faces."""

import io
import itertools
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter
from rich.text import Text

from ..errors import ConfigError
from ..evaluation.embeddings import WRITERS, plot, require_scikit_learn, save, silhouette
from ..evaluation.embeddings import embed as compute_features
from ..evaluation.report import Report
from ..explaining import AUTO, Explanation, explain_face, fitting_method, method_named
from ..explaining.explanation import write_image
from ..explaining.strips import strip, strips_per_class
from ..inference.recognizer import Recognizer, load
from ..io.sources import iter_images
from ..runtime.devices import use
from ..visualization.plotting import figure_bytes, figure_kind, write_figure
from .options import Batch, Folds, Inference, Split, add_image, check_suffix, total
from .terminal import File, Json, counted, counting, for_programs, note, plain_table, print_rows, table_console, write_json

REGIONS = ("eyes", "nose", "mouth", "elsewhere")


def explain(
    model: File,
    /,
    *paths: File,
    method: tuple[str, ...] = (AUTO,),
    target: str | None = None,
    layer: tuple[str, ...] = (),
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    every_face: bool = False,
    dataset: str | None = None,
    split: str = "test",
    place: Folds = Folds(),  # noqa: B008 - frozen
    per_class: int = 6,
    seed: int = 0,
    report: Path | None = None,
    inference: Inference = Inference(),  # noqa: B008 - frozen
    json: Json = False,
) -> int:
    """Explain a prediction: heat maps on the photo, and the importance of eyes, nose and mouth.

    The importance of a region is the change of the log-odds of the class when the region is blurred; JSON has the drop. With
    --out each image and method gives one map, and strip.png shows all faces. With --dataset a strip of faces of each class is
    made instead.

    Methods: grad-cam, grad-cam++, integrated-gradients and attention need the network itself, a .safetensors file or the
    folder of a run; occlusion works for every model. auto is grad-cam where possible, otherwise occlusion.

    Examples:
        mien explain mien-base photo.jpg --out why
        mien explain runs/fer2013-dan-small/1 photos --method grad-cam --method attention --out why
        mien explain runs/fer2013-dan-small/1 photo.jpg --target fear --json
        mien explain runs/fer2013-dan-small/1 --dataset fer2013 --root data/fer2013 --report out/fer2013

    Args:
        model: Name of a bundled model, a card, a weight file, or the folder of a run.
        paths: Image files, folders with their sub-folders, patterns, http or https URLs.
        method: Explanation method; repeatable.
        target: Class to explain; by default the predicted one.
        layer: Module whose output Grad-CAM uses, instead of the architecture's default; repeatable.
        out: Folder for the maps.
        every_face: Explain every face of an image, not only the largest.
        dataset: Make a strip for each class of this dataset (see: mien datasets).
        split: train, validation, test or all.
        per_class: Faces of each class.
        seed: Seed of the choice of faces.
        report: Folder of an evaluation; the strip is added to its report.
        inference: How faces are found and networks run; detector whole if each image is one face crop.
    """
    if not paths and dataset is None:
        raise ConfigError("nothing to explain: name images, or a dataset with --dataset")
    evaluated = Report.read(report) if report else None
    found = "whole" if dataset and not paths else inference.detector
    recognizer = load(model, detector=found, blendshapes=False, threads=inference.threads, device=inference.device)
    methods = list(dict.fromkeys(fitting_method(recognizer, name) for name in method))
    for name in methods:
        method_named(name)
    rows: list[dict[str, Any]] = []
    if paths:
        kept: list[Explanation] = []
        taken: set[str] = set()
        for row, found in _explained(recognizer, paths, methods, target, layer, every_face=every_face):
            if found is not None:
                if out is not None:
                    row["file"] = str(found.save(_free(out, found, taken)))
                    taken.add(row["file"])
                kept.append(found)
            rows.append(row)
            if for_programs(json):
                write_json(row)
        if not for_programs(json):
            _show(rows)
        if kept and (out or evaluated):
            title = f"{', '.join(methods)} of {len({each.source for each in kept})} images"
            caption = f"{recognizer.name}. Maps of the class named beside each face."
            _publish(strip(kept), out and out / "strip.png", evaluated, title, caption, len(kept))
    if dataset is not None:
        if out is None and report is None:
            raise ConfigError("a strip of each class needs an output: name it with --out or --report")
        data = place.open_split(dataset, split, model)
        with use(inference.device):
            for name in methods:
                options = {"faces": inference.faces, "detector": inference.detector, "seed": seed}
                image = strips_per_class(recognizer, data, per_class, method=name, layers=layer, **options)  # pyrefly: ignore
                said = f"Maps of the true class; random faces (seed {seed}); wrong predictions are named below the face."
                path, title = out and out / f"{data.name}-{data.split}-{name}.png", f"{name}, {per_class} faces of each class"
                _publish(image, path, evaluated, title, f"{recognizer.name}. {said}")
    failed = [row for row in rows if row["status"] == "unreadable"]
    for row in failed:
        note(f"unreadable: {row['message']}", "red")
    return int(bool(failed))


def _publish(image: Any, path: Path | None, report: Report | None, title: str, caption: str, maps: int = 0) -> None:
    """Write a strip beside its maps to a file, and add it to a report."""
    if path is not None:
        write_image(image, path)
        note(f"wrote {counted(maps, 'map')} and {path.name} to {path.parent}" if maps else f"wrote {path}", "dim")
    if report is not None:
        drawn = io.BytesIO()
        image.save(drawn, "PNG", optimize=True)
        add_image(report, "Heat map of the model", title, drawn.getvalue(), caption)


def _explained(
    recognizer: Recognizer,
    paths: Sequence[str],
    methods: list[str],
    target: str | None,
    layers: tuple[str, ...],
    *,
    every_face: bool,
) -> Iterator[tuple[dict[str, Any], Explanation | None]]:
    """Yield the row of each explanation, or of an image that has none."""
    for frame in iter_images(list(paths)):
        if frame.image is None:
            yield {"source": frame.source, "status": "unreadable", "message": str(frame.error)}, None
            continue
        faces = recognizer(frame.image).faces
        if not faces:
            yield {"source": frame.source, "status": "no face", "message": "no face was found"}, None
        elif not every_face:
            faces = (max(faces, key=lambda face: face.box.width * face.box.height),)
        for face, method in itertools.product(faces, methods):
            found = explain_face(recognizer, frame.image, face, method, target, layers)
            yield found.to_dict(), found


def _free(out: Path, found: Explanation, taken: Container[str]) -> Path:
    """Return the file of a map: the image's name and the method, numbered if that is taken."""
    stem = "image" if found.source.startswith("<") else Path(found.source.partition("?")[0]).stem
    numbered = (f"{stem}{f'-{number}' * (number > 1)}-{found.method}.png" for number in itertools.count(1))
    return next(out / name for name in numbered if str(out / name) not in taken)


def _show(rows: list[dict[str, Any]]) -> None:
    text = ("image", "method", "expression")
    table = plain_table(*text, "probability", *REGIONS, text=text)
    table.columns[0].overflow = "fold"
    for row in rows:
        if row["status"] != "ok":
            table.add_row(Text(row["source"]), Text("–", "dim"), Text(row["status"], "dim"))
            continue
        drops = [f"{-row['regions'][name]:+.2f}" if name in row["regions"] else "–" for name in REGIONS]
        label = Text(row["label"])
        if row["predicted"] != row["label"]:
            label.append(f" (predicted: {row['predicted']})", "dim")
        table.add_row(Text(row["source"]), row["method"], label, f"{row['probability']:.1%}", *drops)
    table_console().print(table)
    for row in rows:
        for remark in row.get("notes", ()):
            table_console().print(Text(f"{row['source']}, {row['method']}: {remark}", "dim"))
    if any(row["status"] == "ok" for row in rows):
        note("eyes … elsewhere: change of the log-odds of the expression when the region is blurred", "dim")


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
    split, found = data.open(models[0]), []
    for model in models:
        with counting(model, total(len(split), limit)) as progress:
            found.append(compute_features(model, split, limit=limit, batch=batch, **inference.settings, progress=progress))
    paths: list[Path | None] = [None] * len(found)
    if out:
        names = [each.model.rpartition(" ")[0] for each in found]
        stems = [f"{out.stem}-{name}{f'-{k}' * (names.count(name) > 1)}" for k, name in enumerate(names, 1)]
        files = [out.with_stem(stem) for stem in stems] if len(found) > 1 else [out]
        paths = [save(each, file) for each, file in zip(found, files, strict=True)]
    if plot_to or evaluated:
        figure = plot(found, method, seed, title)
        if plot_to:
            note(f"wrote {write_figure(figure, plot_to)}", "dim")
        if evaluated:
            name = f"{'t-SNE' if method == 't-sne' else 'PCA'} of {', '.join(title or [each.model for each in found])}"
            caption = f"{found[0].dataset}, colored by true class; seed {seed}. The silhouette is that of the features."
            add_image(evaluated, "Features", name, figure_bytes(figure, "png"), caption)
    rows = []
    for each, path in zip(found, paths, strict=True):
        apart = silhouette(each, seed)
        about = {"model": each.model, "dataset": each.dataset, "features": each.output, "faces": len(each)}
        about |= {"missed": len(each.missed), "dimensions": each.features.shape[1]}
        about |= {"silhouette": None if np.isnan(apart) else round(apart, 4), "file": path and str(path)}
        rows.append(about)
    if for_programs(json):
        for row in rows:
            write_json(row)
        return
    cells = [["" if value is None else str(value) for value in row.values()] for row in rows]
    text = ("model", "dataset", "features", "file")
    print_rows(list(rows[0]), cells, text=text, no_wrap=rows[0].keys() - {*text})
