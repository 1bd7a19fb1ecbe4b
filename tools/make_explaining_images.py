"""Make the images and the table of docs/explaining.md.

    python tools/make_explaining_images.py                                        # what shows bundled models
    ... --run runs/fer2013-global-cbam-small/1                                      # what shows that run: methods, its rows
    ... --losses runs/fer2013-resnet34-small/1 runs/fer2013-dan-small/1             # the plot with and without center losses
    ... --strips runs/fer2013-resnet34-small/1=model.layer2                         # Grad-CAM of a run's layer, for each class

`--run` is a run of recipes/fer2013-global-cbam-small.toml. Faces are those of the bundled sample (public domain) and of the
London set (CC BY 4.0); of FER2013 only features are shown.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

import mien
from images import FOLDER, READER, ROOT, record
from mien.data.datasets import Dataset
from mien.evaluation.embeddings import Embedding, embed, plot, write_figure
from mien.explaining import METHODS, explain
from mien.explaining.explanation import write_image
from mien.explaining.faces import Asked, see
from mien.explaining.occlusion import region_importance
from mien.explaining.strips import strip, strips_per_class
from mien.io.images import read_image

PAGE = ROOT / "docs" / "explaining.md"
DATA = ROOT.parent / "shared" / "data"
MARKS = "<!-- table: written by tools/make_explaining_images.py -->\n", "<!-- end of the table -->\n"
REGIONS = ("eyes", "nose", "mouth", "elsewhere")
BUNDLED = ("mien-base", "mien-nano")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="only what shows this run")
    parser.add_argument("--london", type=Path, default=DATA / "london")
    parser.add_argument("--fer2013", type=Path, default=DATA / "fer2013")
    parser.add_argument("--losses", type=Path, nargs=2, metavar=("PLAIN", "CENTERD"), help="only the plot of these two runs")
    parser.add_argument("--strips", nargs="+", metavar="RUN=LAYER", help="only Grad-CAM of these runs, for each class")
    given = parser.parse_args()
    london = mien.open_dataset("london", given.london, "all")
    if given.strips:
        for run, _, layer in (each.partition("=") for each in given.strips):
            read = mien.load(run, blendshapes=False)
            image = strips_per_class(read, london, 5, method="grad-cam", layers=[layer], faces="detect", seed=1, tile=120)
            show(image, f"explained-{read.card.name}.jpg")
        return
    if given.losses:
        compare_losses(given.losses, mien.open_dataset("fer2013", given.fer2013, "validation"))
        return

    sample = mien.sample()
    if given.run:
        trained = mien.load(given.run, blendshapes=False)
        found = [explain(trained, sample, method=name, layers=["features.layer3"]) for name in METHODS]
        show(strip(found), "explained-methods.png")
        tell(trained, london)
        return
    bundled = mien.load("mien-base", blendshapes=False)
    explain(bundled, sample).save(FOLDER / "explained.jpg")
    record("explained.jpg", READER[:3])
    show(strips_per_class(bundled, london, 5, faces="detect", seed=1), "explained-classes.jpg", READER[:3])
    tell(bundled, london)

    data = mien.open_dataset("fer2013", given.fer2013, "validation")
    pair = [embed(model, data, limit=1500) for model in BUNDLED]
    draw(pair, [f"{model}, its scores" for model in BUNDLED], "features.png", BUNDLED)


def tell(read: mien.Recognizer, london: Dataset) -> None:
    """Bring the rows of a model in the table up to date: what blurring a region changes, on average over the London set."""
    text = PAGE.read_text(encoding="utf-8")
    old = text.partition(MARKS[0])[2].partition(MARKS[1])[0].splitlines()[2:]
    rows = {tuple(cell.strip() for cell in line.split("|")[1:3]): line for line in old}
    for label in (name for name, count in london.counts.items() if count):
        falls = []
        for row in np.flatnonzero(london.label == london.labels.index(label)).tolist():
            image = read_image(london[row].image)
            faces = read(image).faces
            if faces:
                asked, seen = Asked(read), see(read.preprocess, image.pixels, faces[0].points)
                numbers = region_importance(asked, seen, read.card.labels.index(label))
                falls.append([numbers[name] for name in REGIONS])
        cells = " | ".join(f"{value:+.3f}" for value in -np.mean(falls, 0))
        rows[label, read.card.name] = f"| {label} | {read.card.name} | {len(falls)} | {cells} |"
    table = ["| photos | model | faces | " + " | ".join(REGIONS) + " |", "|---|---|" + "---:|" * 5, *rows.values()]
    block = "".join(f"{line}\n" for line in table)
    PAGE.write_text(re.sub(f"(?s)({re.escape(MARKS[0])}).*({re.escape(MARKS[1])})", rf"\1{block}\2", text), encoding="utf-8")


def compare_losses(runs: list[Path], data: Dataset) -> None:
    """Draw the features of a run without and of one with a loss that gathers classes around centers."""
    pair = [embed(run, data, limit=1500) for run in runs]
    draw(pair, ["ResNet-34, cross-entropy alone", "DAN, with affinity and partition loss"], "features-losses.png")


def draw(pair: list[Embedding], titles: list[str], name: str, models: Iterable[str] = ()) -> None:
    """Write a plot of features, small enough for a page."""
    path = FOLDER / name
    write_figure(plot(pair, titles=titles), path)
    with Image.open(path) as image:
        show(image.convert("RGB").resize((image.width * 2 // 3, image.height * 2 // 3)), name, models)


def show(image: Image.Image, name: str, models: Iterable[str] = ()) -> None:
    """Write an image, and note which bundled models it shows."""
    write_image(image, FOLDER / name)
    record(name, models)


if __name__ == "__main__":
    main()
