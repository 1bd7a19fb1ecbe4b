"""Where the five points lie in the images of FER2013, and which of them should be laid on the template.

    python tools/measure_fer2013_geometry.py --shared ../shared

The mesh runs straight on the 48 × 48 images of the Training split. Medians over faces that look ahead are the template
"fer2013"; the fits are judged by how far they move images that are already in place, class by class and as heads turn, and
by what a smile does to the crop of the same person (London faces). About 45 seconds of one core. Prints Markdown for
`docs/log.md`.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

from mien.data.datasets.fer2013 import open_arrays
from mien.faces.alignment import FITS, apply, similarity
from mien.faces.detection import open_detector
from mien.faces.landmarks import Landmarker, head_pose
from mien.labels import FER2013
from mien.types import View, irises, points5

SIZE = 48
POINTS = ("left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner")
CANDIDATES = {**FITS, "eyes, nose, mouth's middle": View(0, 1, 2, (3, 4)), "eyes and nose": View(0, 1, 2), "eyes": View(0, 1)}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=2013)
    options = parser.parse_args()
    landmarker = Landmarker("mesh478")
    points, label, pose = _fer2013(landmarker, options.shared / "data" / "fer2013", options.images, options.seed)
    ahead = (np.abs(pose[:, 0]) < 10) & (np.abs(pose[:, 1]) < 15)
    template = np.median(points[ahead], 0)
    mirror = template[[1, 0, 2, 4, 3]] * [-1, 1] + [SIZE - 1, 0]
    template = ((template + mirror) / 2).round(1)
    _print_places(points[ahead], label[ahead], template)
    _print_fits(points, label, pose, template)
    _print_smiles(landmarker, options.shared / "data" / "london", template)


def _fer2013(landmarker: Landmarker, folder: Path, count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return five points, class and head pose in degrees of the images in which the mesh sees a face."""
    data = open_arrays(folder, "train")
    rows = np.sort(np.random.default_rng(seed).choice(len(data.pixels), count, replace=False))
    found = landmarker.crops(list(data.pixels[rows]))
    seen = found.presence > 0.5
    pose = np.rad2deg(head_pose(found.points[seen]))
    within = " · ".join(f"{axis} within {a}° {np.mean(np.abs(pose[:, i]) < a):.1%}" for i, axis, a in LIMITS)
    print(f"{count} random images of Training (seed {seed}): a face in {seen.mean():.1%}; of these, {within}\n")
    return points5(found.points[seen]).astype(float), data.label[rows][seen], pose


LIMITS = ((0, "roll", 10), (0, "roll", 20), (1, "yaw", 15), (1, "yaw", 25))


def _print_places(points: np.ndarray, label: np.ndarray, template: np.ndarray) -> None:
    print(
        f"| {len(points)} faces, roll within 10°, yaw within 15° | median | sd | robust sd | template |\n|---|---|---|---|---|"
    )
    middle = np.median(points, 0)
    robust = 1.4826 * np.median(np.abs(points - middle), 0)
    for i, name in enumerate(POINTS):
        print(f"| {name} | {_xy(middle[i])} | {_xy(points.std(0)[i])} | {_xy(robust[i])} | {_xy(template[i])} |")
    print(
        "\n| class | faces | eyes' middle moves | eye distance | mouth's middle moves | mouth width | eyes to mouth |\n|"
        + "---|" * 7
    )
    for index, name in enumerate((*FER2013, "all")):
        part = points if name == "all" else points[label == index]
        eyes, mouth = part[:, :2], part[:, 3:]
        moves = [
            _xy(np.median(pair.mean(1), 0) - np.median(whole.mean(1), 0))
            for pair, whole in ((eyes, points[:, :2]), (mouth, points[:, 3:]))
        ]
        wide = [np.median(np.linalg.norm(pair[:, 1] - pair[:, 0], axis=-1)) for pair in (eyes, mouth)]
        long = np.median(np.linalg.norm(mouth.mean(1) - eyes.mean(1), axis=-1))
        print(f"| {name} | {len(part)} | {moves[0]} | {wide[0]:.1f} | {moves[1]} | {wide[1]:.1f} | {long:.1f} |")


def _print_fits(points: np.ndarray, label: np.ndarray, pose: np.ndarray, template: np.ndarray) -> None:
    roll, yaw = np.abs(pose[:, 0]), np.abs(pose[:, 1])
    ahead = (roll < 10) & (yaw < 15)
    print("\n| fit | log scale, sd | turn, sd | shift, sd | log scale by class, least … most | by yaw 0–8–15–25–40° |")
    print("|" + "---|" * 6)
    for name, view in CANDIDATES.items():
        matrix, scale = _fit(view, points, template)
        turn = np.rad2deg(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]))
        middle = np.full((1, 2), (SIZE - 1) / 2)
        shift = (apply(matrix, middle) - middle)[ahead, 0].std(0)
        classes = {FER2013[k]: float(np.median(scale[ahead & (label == k)])) for k in range(7)}
        least, most = min(classes, key=classes.__getitem__), max(classes, key=classes.__getitem__)
        bins = [np.median(scale[(roll < 20) & (yaw >= a) & (yaw < b)]) for a, b in ((0, 8), (8, 15), (15, 25), (25, 40))]
        print(
            f"| {name} | {scale[ahead].std():.3f} | {turn[ahead].std():.1f}° | {_xy(shift)} | {classes[least]:+.3f} {least} … "
            f"{classes[most]:+.3f} {most} | {' '.join(f'{value:+.3f}' for value in bins)} |"
        )


def _print_smiles(landmarker: Landmarker, folder: Path, template: np.ndarray) -> None:
    with (folder / "labels.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: (row["subject"], row["expression"] == "happy"))
    detect = open_detector("blazeface", max_faces=1)
    faces = []
    for row in rows:
        image = np.asarray(Image.open(folder / row["image"]).convert("RGB"))
        found = detect(image)
        faces.append((image, found.boxes[0], float(found.roll[0])))
    mesh = landmarker(faces).points.astype(float)
    pupils = irises(mesh)[:, [0, 5]]
    near = np.log(np.linalg.norm(pupils[:, 1] - pupils[:, 0], axis=-1))  # how near the camera was
    print(
        f"\n| {len(rows) // 2} persons, smiling against neutral | log scale, mean | sd | pupils move, mean | sd |\n|"
        + "---|" * 5
    )
    for name, view in CANDIDATES.items():
        matrix, scale = _fit(view, points5(mesh), template)
        change = (scale + near)[1::2] - (scale + near)[::2]
        place = apply(matrix, pupils.mean(1, keepdims=True))[:, 0]
        moved = place[1::2] - place[::2]
        print(f"| {name} | {change.mean():+.3f} | {change.std():.3f} | {_xy(moved.mean(0))} | {_xy(moved.std(0))} |")


def _fit(view: View, points: np.ndarray, template: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrices to the template and the logarithms of their scales."""
    chosen = view(points)
    matrix = similarity(chosen, np.broadcast_to(view(template), chosen.shape))
    return matrix, np.log(np.hypot(matrix[:, 0, 0], matrix[:, 1, 0]))


def _xy(values: np.ndarray) -> str:
    return f"({values[0]:.1f}, {values[1]:.1f})"


if __name__ == "__main__":
    main()
