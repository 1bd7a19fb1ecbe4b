"""Make the pictures and the table of docs/explaining.md.

python tools/make_explaining_pictures.py --run runs/fer2013-global-cbam-small/1 --london DIR --fer2013 DIR
... --losses runs/fer2013-resnet34-small/1 runs/fer2013-dan-small/1        # only the plot with and without centre losses
... --strips runs/fer2013-resnet34-small/1=model.layer2                     # only Grad-CAM of a run's layer, for each class

`--run` is a run of recipes/fer2013-global-cbam-small.toml; the bundled model stands beside it. Faces are those of the bundled
sample (public domain) and of the London set (CC BY 4.0); of FER2013 only features are shown.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from PIL import Image

import mien
from mien.datasets import Dataset
from mien.embedding import Embedding, embed, plot, write_figure
from mien.explaining import METHODS, explain
from mien.explaining.explanation import write_image
from mien.explaining.faces import Asked, see
from mien.explaining.occlusion import region_importance
from mien.explaining.strips import strip, strips_per_class
from mien.images import read_image

DOCS = Path(__file__).resolve().parents[1] / "docs"
PICTURES = DOCS / "pictures"
PAGE = DOCS / "explaining.md"
MARKS = "<!-- table: written by tools/make_explaining_pictures.py -->\n", "<!-- end of the table -->\n"
REGIONS = ("eyes", "nose", "mouth", "elsewhere")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--london", type=Path, required=True)
    parser.add_argument("--fer2013", type=Path, required=True)
    parser.add_argument("--losses", type=Path, nargs=2, metavar=("PLAIN", "CENTRED"), help="only the plot of these two runs")
    parser.add_argument("--strips", nargs="+", metavar="RUN=LAYER", help="only Grad-CAM of these runs, for each class")
    given = parser.parse_args()
    if given.strips:
        london = mien.open_dataset("london", given.london, "all")
        for run, _, layer in (each.partition("=") for each in given.strips):
            read = mien.load(run, actions=False)
            image = strips_per_class(read, london, 5, method="grad-cam", layers=[layer], faces="detect", seed=1, tile=120)
            write_image(image, PICTURES / f"explained-{read.card.name}.jpg")
        return
    if given.losses:
        compare_losses(given.losses, mien.open_dataset("fer2013", given.fer2013, "validation"))
        return

    trained, bundled = (mien.load(model, actions=False) for model in (given.run, "mien-base"))
    sample = mien.sample()
    explain(bundled, sample).save(PICTURES / "explained.jpg")
    found = [explain(trained, sample, method=name, layers=["features.layer3"]) for name in METHODS]
    write_image(strip(found), PICTURES / "explained-methods.png")

    london = mien.open_dataset("london", given.london, "all")
    write_image(strips_per_class(bundled, london, 5, faces="detect", seed=1), PICTURES / "explained-classes.jpg")

    data = mien.open_dataset("fer2013", given.fer2013, "validation")
    pair = [embed(model, data, limit=1500) for model in (given.run, "mien-base")]
    draw(pair, ["Global Net, three epochs", "mien-base, its scores"], PICTURES / "features.png")

    table = ["| photos | model | faces | " + " | ".join(REGIONS) + " |", "|---|---|" + "---:|" * 5]
    for label in (name for name, count in london.counts.items() if count):
        rows = np.flatnonzero(london.label == london.labels.index(label))
        for read in (bundled, trained):
            falls = []
            for row in rows.tolist():
                picture = read_image(london[row].picture)
                faces = read(picture).faces
                if faces:
                    asked, seen = Asked(read), see(read.preprocess, picture.pixels, faces[0].points)
                    numbers = region_importance(asked, seen, read.card.labels.index(label))
                    falls.append([numbers[name] for name in REGIONS])
            cells = " | ".join(f"{value:+.3f}" for value in -np.mean(falls, 0))
            table.append(f"| {label} | {read.card.name} | {len(falls)} | {cells} |")
    text = PAGE.read_text(encoding="utf-8")
    block = "".join(f"{line}\n" for line in table)
    PAGE.write_text(re.sub(f"(?s)({re.escape(MARKS[0])}).*({re.escape(MARKS[1])})", rf"\1{block}\2", text), encoding="utf-8")


def compare_losses(runs: list[Path], data: Dataset) -> None:
    """Draw the features of a run without and of one with a loss that gathers classes around centres."""
    pair = [embed(run, data, limit=1500) for run in runs]
    draw(pair, ["ResNet-34, cross-entropy alone", "DAN, with affinity and partition loss"], PICTURES / "features-losses.png")


def draw(pair: list[Embedding], titles: list[str], path: Path) -> None:
    """Write a plot of features, small enough for a page."""
    write_figure(plot(pair, titles=titles), path)
    with Image.open(path) as image:
        write_image(image.convert("RGB").resize((image.width * 2 // 3, image.height * 2 // 3)), path)


if __name__ == "__main__":
    main()
