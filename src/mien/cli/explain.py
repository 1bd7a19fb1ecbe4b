"""`mien explain`: heat maps and region importance for predictions."""

import io
import itertools
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.text import Text

from ..errors import ConfigError
from ..evaluation.report import Report
from ..explaining import AUTO, Explanation, explain_face, fitting_method, method_named
from ..explaining.explanation import write_image
from ..explaining.strips import strip, strips_per_class
from ..inference.recognizer import Recognizer, load
from ..io.sources import iter_images
from ..runtime.devices import use
from .options import Folds, Inference, add_image
from .terminal import File, Json, counted, for_programs, plain_table, side_console, table_console, write_json

REGIONS = ("eyes", "nose", "mouth", "elsewhere")
SECTION = "Heat map of the model"  # heading in a report


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
        _images(kept, recognizer, methods, out, evaluated)
    if dataset is not None:
        if out is None and report is None:
            raise ConfigError("a strip of each class needs an output: name it with --out or --report")
        data = place.open_split(dataset, split, model)
        with use(inference.device):
            for name in methods:
                options = {"faces": inference.faces, "detector": inference.detector, "seed": seed}
                image = strips_per_class(recognizer, data, per_class, method=name, layers=layer, **options)  # pyrefly: ignore
                if out is not None:
                    path = out / f"{data.name}-{data.split}-{name}.png"
                    write_image(image, path)
                    side_console().print(f"wrote {path}", style="dim")
                if evaluated is not None:
                    _add(evaluated, f"{name}, {per_class} faces of each class", image, recognizer, seed=seed)
    failed = [row for row in rows if row["status"] == "unreadable"]
    for row in failed:
        side_console().print(f"unreadable: {row['message']}", style="red")
    return int(bool(failed))


def _images(
    kept: Sequence[Explanation], recognizer: Recognizer, methods: list[str], out: Path | None, report: Report | None
) -> None:
    """Write the strip of all explanations."""
    if not kept or not (out or report):
        return
    image = strip(kept)
    if out is not None:
        write_image(image, out / "strip.png")
        side_console().print(f"wrote {counted(len(kept), 'map')} and strip.png to {out}", style="dim")
    if report is not None:
        _add(report, f"{', '.join(methods)} of {len({each.source for each in kept})} images", image, recognizer, seed=None)


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


def _add(report: Report, title: str, image: Any, recognizer: Recognizer, *, seed: int | None) -> None:
    drawn = io.BytesIO()
    image.save(drawn, "PNG", optimize=True)
    note = "Maps of the class named beside each face."
    if seed is not None:
        note = f"Maps of the true class; random faces (seed {seed}); wrong predictions are named below the face."
    add_image(report, SECTION, title, drawn.getvalue(), f"{recognizer.name}. {note}")


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
        for note in row.get("notes", ()):
            table_console().print(Text(f"{row['source']}, {row['method']}: {note}", "dim"))
    if any(row["status"] == "ok" for row in rows):
        side_console().print(
            "eyes … elsewhere: change of the log-odds of the expression when the region is blurred", style="dim"
        )
