"""What alignment, margin and gray conversion each change: the bundled classifier on the London faces and on FER2013.

    python tools/measure_crop_contract.py --shared ../shared

London: 102 people, neutral and smiling, the whole pipeline. "strict": the label is `happiness` or `neutral` as it should be;
"two-way": the likelier of the two is right. FER2013: PublicTest, as it is and with every face that the mesh finds laid on
the template anew. Prints Markdown for `docs/log.md`.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fer2013_arrays import open_arrays
from mien import cards
from mien.faces.detection import open_detector
from mien.faces.landmarks import Landmarker
from mien.faces.preprocessing import IMAGE, Preprocess
from mien.runtime.onnx import OnnxRuntime

Gray = Callable[[np.ndarray], np.ndarray]
GRAYS: dict[str, Gray] = {
    "ITU-R 601 luma (the contract)": lambda rgb: rgb,
    "mean of the channels": lambda rgb: np.repeat(rgb.mean(2, keepdims=True).round().astype(np.uint8), 3, 2),
    "red and blue swapped": lambda rgb: rgb[..., ::-1],
    "green channel": lambda rgb: np.repeat(rgb[..., 1:2], 3, 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--model", default="mien-base")
    args = parser.parse_args()
    card = cards.load(args.model)
    network, contract = OnnxRuntime(card.weights, threads=2), Preprocess.of(card)
    if card.input is None or card.crop is None:
        raise SystemExit(f"{card.name} has no crop contract")

    def scores(crops: list[np.ndarray]) -> np.ndarray:
        batches = np.array_split(contract.tensor(np.stack(crops)), max(1, len(crops) // 64))
        return np.concatenate([network(batch)["scores"] for batch in batches])

    folder = args.shared / "data" / "london"
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    happy = np.array([row["expression"] == "happy" for row in rows])
    detector, landmarker = open_detector("blazeface"), Landmarker("mesh478")
    images = [np.asarray(Image.open(folder / "images" / Path(row["image"]).name).convert("RGB")) for row in rows]
    found = [detector(image) for image in images]
    print(f"London: exactly one face in {sum(len(f) == 1 for f in found)} of {len(rows)}\n")
    meshes = [landmarker([(i, f.boxes[0], float(f.roll[0]))]).points[0] for i, f in zip(images, found, strict=True)]
    boxes = [f.boxes[0] for f in found]
    index = {name: card.labels.index(name) for name in ("happiness", "neutral")}

    def line(name: str, crops: list[np.ndarray]) -> None:
        p = scores(crops)
        truth = np.where(happy, index["happiness"], index["neutral"])
        strict = np.mean([(p.argmax(1) == truth)[happy == side].mean() for side in (True, False)])
        smiles = p[:, index["happiness"]] > p[:, index["neutral"]]
        two_way = np.mean([(smiles == happy)[happy == side].mean() for side in (True, False)])
        right = p[np.arange(len(p)), truth].mean()
        print(f"| {name} | {strict:.3f} | {two_way:.3f} | {right:.3f} |")

    print("| crop | strict | two-way | mean probability of the truth |\n|---|---|---|---|")
    for fit in ("five", "eyes-mouth"):
        crop = Preprocess(card.input, dataclasses.replace(card.crop, fit=fit))
        line(f"aligned, fit {fit}", [crop.cut(i, m)[IMAGE] for i, m in zip(images, meshes, strict=True)])
    for margin in (0.8, 0.9, 1.1, 1.2):
        crop = Preprocess(card.input, dataclasses.replace(card.crop, margin=margin))
        line(f"aligned, margin {margin}", [crop.cut(i, m)[IMAGE] for i, m in zip(images, meshes, strict=True)])
    for grow in (1.0, 1.2, 1.4):
        line(
            f"detector box × {grow}, not aligned",
            [contract.whole(box_crop(i, b, grow)) for i, b in zip(images, boxes, strict=True)],
        )
    for name, gray in GRAYS.items():
        line(name, [contract.cut(gray(i), m)[IMAGE] for i, m in zip(images, meshes, strict=True)])

    split = open_arrays(args.shared / "data" / "fer2013", "validation")
    whole = scores([contract.whole(image) for image in split.pixels]).argmax(1) == split.label
    color = [np.repeat(image[..., None], 3, 2) for image in split.pixels]
    mesh = Landmarker("mesh468").crops(color)
    seen = mesh.presence >= 0.5
    again = [contract.cut(i, m)[IMAGE] if s else contract.whole(i) for i, m, s in zip(color, mesh.points, seen, strict=True)]
    aligned = scores(again).argmax(1) == split.label
    print(f"\nFER2013 PublicTest, a mesh in {seen.mean():.1%} of the images")
    print(f"as they are {whole.mean():.4f}, laid on the template anew {aligned.mean():.4f}")


def box_crop(image: np.ndarray, box: np.ndarray, grow: float) -> np.ndarray:
    """Return the square around a box, `grow` times its longer side, black outside the image."""
    center, half = (box[:2] + box[2:]) / 2, max(box[2] - box[0], box[3] - box[1]) * grow / 2
    left, top, right, bottom = (int(v) for v in (*np.round(center - half), *np.round(center + half)))
    return np.asarray(Image.fromarray(image).crop((left, top, right, bottom)))


if __name__ == "__main__":
    main()
