"""Accuracy on photographs, end to end with default settings, written to `results/photos.csv`.

    python -m benchmarks.photos
    python -m benchmarks.photos --fer-python v-fer/bin/python --node-dir node-peers      # beside three other packages

An image in which no face is found counts as wrong, and of several faces the main one is judged: what a user gets.
All detectors, models and packages see the same images in the same run. The runners of the other packages need them installed as
`../shared/peers/README.md` describes; `--every N` takes each N-th image of a set.

| set | images | labels |
|---|---|---|
| lfw | news portraits, validation split | one annotator |
| london | 102 people, neutral and smiling | posed; `two_way` compares the scores of these two classes |
| ferplus | FER2013's test images as photos of 48 pixels | majority of ten votes |
| fer2013 | the same images | FER2013's own labels |
| no face | textures, shapes, text, backgrounds, FER2013's images without a face | |
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import mien
from mien import cards, metrics
from mien.data.datasets import Dataset, open_dataset
from mien.faces.finder import open_finder
from mien.inference.recognizer import Recognizer
from mien.labels import FER2013, LABEL_SETS, canonical
from mien.types import Face

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
TABLE = ROOT / "results" / "photos.csv"
DETECTORS = ("blazeface", "retinaface")
OUTPUTS = {"ferplus": ("scores", "ferplus"), "fer2013": ("scores", "fer2013")}
"""Set → the outputs measured on it; `scores` alone on the others."""
CROPS = ("ferplus", "fer2013")
"""Sets on which the default detector alone is measured, since they are large."""
FEWEST = 15
"""Samples from which a class counts in the mean recall."""

NO_FACE_ROWS = (
    4275, 5082, 5439, 6458, 7172, 7496, 7629, 8030, 8737, 8856, 9673, 10423, 11244, 11286, 11295, 12352, 13148, 13402,
    13697, 13839, 15838, 15894, 16540, 20222, 20817, 22198, 23596, 23894, 24441, 24891, 25603, 26383, 26860, 28601, 29447,
    30002, 30705, 30981, 32662, 34334, 35632,
)  # fmt: skip
"""Rows of FER2013 that show a blank field, text or an icon; a person has looked at them."""


@dataclass(frozen=True, slots=True)
class Photos:
    """One set of images."""

    name: str
    images: list[np.ndarray] = field(repr=False)
    labels: list[str] = field(default_factory=list, repr=False)
    groups: list[str] = field(default_factory=list, repr=False)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a package answers for the main face of an image."""

    scores: dict[str, float]
    certain: bool = True


Predictions = list[Prediction | None]
"""One per image; None without a face."""


def photo_sets(shared: Path, every: int) -> Iterator[Photos]:
    """Yield the sets of images, those without a face last."""
    yield _photos("lfw", open_dataset("csv", shared / "data/lfw_expressions/labels.csv", "validation"), every)
    london = open_dataset("london", shared / "data/london", "test")
    yield _photos("london", london, 1, "gender")
    for name in ("ferplus", "fer2013"):
        yield _photos(name, open_dataset(name, shared / "data/fer2013", "test"), every)
    yield Photos("no face", list(faceless(shared)))


def _photos(name: str, data: Dataset, every: int, group: str | None = None) -> Photos:
    found = Photos(name, [])
    for row in range(0, len(data), every):
        sample = data[row]
        if sample.label is not None:
            found.images.append(sample.read())
            found.labels.append(canonical(sample.label))
            found.groups.append("" if group is None else str(sample.groups.get(group, "")))
    return found


def faceless(shared: Path) -> Iterator[np.ndarray]:
    """Yield images without a face."""
    random = np.random.default_rng(0)
    for path in sorted((shared / "data/london/images").glob("*.jpg"))[::4]:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        yield pixels[:200, :110]  # wall and hair
        yield pixels[440:]  # shoulders
    images = np.load(shared / "data/fer2013/fer2013.npz")["images"]
    yield from (np.repeat(images[row][..., None], 3, 2) for row in NO_FACE_ROWS)
    for _ in range(50):
        side, grain = int(random.integers(64, 400)), int(random.integers(1, 24))
        noise = random.normal(128, 60, (side, side, 3)).clip(0, 255).astype(np.uint8)[::grain, ::grain]
        yield np.asarray(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC))
    for index in range(200):
        side = int(random.integers(100, 500))
        canvas = Image.new("RGB", (side, side), _color(random))
        pen = ImageDraw.Draw(canvas)
        for _ in range(int(random.integers(1, 25))):
            if index % 2:
                text = "".join(chr(int(code)) for code in random.integers(48, 123, int(random.integers(1, 12))))
                place = tuple(random.integers(-20, side, 2).tolist())
                pen.text(place, text, _color(random), font_size=int(random.integers(12, side // 2)))
            else:
                corners = np.sort(random.integers(0, side, (2, 2)), 0).ravel().tolist()
                (pen.ellipse if random.random() < 0.6 else pen.rectangle)(corners, _color(random))
        yield np.asarray(canvas)


def _color(random: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = random.integers(0, 256, 3).tolist()
    return red, green, blue


def predict_all(detector: str, models: Sequence[str], photos: Photos) -> Iterator[tuple[str, str, Predictions, float]]:
    """Yield model, output, predictions and milliseconds of processor time per image; the models share the faces found."""
    readers = {model: mien.load(model, detector=detector, blendshapes=False) for model in models}
    find = open_finder(detector)
    start = time.process_time()
    faces = [find([image])[0][:1] for image in photos.images]
    finding = time.process_time() - start
    for model, read in readers.items():
        for output, reader in _outputs(read, OUTPUTS.get(photos.name, ("scores",))).items():
            start = time.process_time()
            described = [reader.describe(image, found) for image, found in zip(photos.images, faces, strict=True)]
            spent = finding + time.process_time() - start
            yield model, output, [_prediction(each) for each in described], 1000 * spent / max(len(faces), 1)


def _prediction(faces: Sequence[Face]) -> Prediction | None:
    return Prediction(dict(faces[0].scores), faces[0].certain) if faces else None


def _outputs(read: Recognizer, names: Sequence[str]) -> dict[str, Recognizer]:
    """Return the recognizer for `scores`, and one for each further output of these names that the network has."""
    found = {"scores": read}
    for name in names[1:]:
        if (labels := cards_labels(read.card, name)) is not None:
            outputs = {**read.card.outputs, "scores": name}
            found[name] = Recognizer(dataclasses.replace(read.card, labels=labels, outputs=outputs), read.runtime, read.finder)
    return found


def cards_labels(card: cards.Card, output: str) -> tuple[str, ...] | None:
    """Return the classes of a further output of a card, or None if it has no such output."""
    labels = LABEL_SETS[output]
    return labels if output in card.outputs.values() and output != card.outputs["scores"] else None


PEERS: dict[str, Callable[[argparse.Namespace], list[str] | None]] = {
    "human": lambda args: args.node_dir and ["node", str(ROOT / "benchmarks/photo_peers.js"), "human"],
    "face-api": lambda args: args.node_dir and ["node", str(ROOT / "benchmarks/photo_peers.js"), "face-api"],
    "fer": lambda args: args.fer_python and [args.fer_python, str(ROOT / "benchmarks/photo_peers.py")],
}
"""Package → command that reads a file of images and writes one JSON line an image, or None if it is not installed."""


def predict_peer(command: list[str], photos: Photos, args: argparse.Namespace) -> tuple[Predictions, float]:
    """Return the predictions of another package, with its own detector, and its milliseconds an image."""
    with tempfile.TemporaryDirectory() as folder:
        raw, out = Path(folder) / "images.bin", Path(folder) / "out.jsonl"
        with raw.open("wb") as file:
            for image in photos.images:
                file.write(np.array(image.shape[:2], "<u4").tobytes() + np.ascontiguousarray(image).tobytes())
        environment = {**os.environ, "PYTHONPATH": "", "PEERS": str((args.shared / "peers").resolve())}
        environment["NODE_DIR"] = str(args.node_dir and args.node_dir.resolve())
        subprocess.run([*command, str(raw), str(out)], check=True, env=environment, stdout=subprocess.DEVNULL)
        *lines, last = [json.loads(line) for line in out.read_text().splitlines()]
    scores = [None if line is None else Prediction({canonical(name): p for name, p in line.items()}) for line in lines]
    return scores, float(last["ms"])


def figures(photos: Photos, predictions: Predictions) -> dict[str, float]:
    """Return the metrics of one model on one set."""
    missed = sum(each is None for each in predictions)
    if not photos.labels:
        found = [each for each in predictions if each is not None]
        return {"n": len(predictions), "false_faces": len(found), "certain_false_faces": sum(each.certain for each in found)}
    classes = sorted({*FER2013, *(name for each in predictions if each is not None for name in each.scores)})
    known = [row for row, label in enumerate(photos.labels) if label in FER2013]
    truth = np.array([classes.index(photos.labels[row]) for row in known])
    table = np.array([_vector(predictions[row], classes) for row in known])
    answered = table.sum(1) > 0
    answer = np.where(answered, table.argmax(1), -1)
    counts = metrics.confusion(truth, answer, len(classes))
    recalls = dict(zip(classes, metrics.recalls(counts).tolist(), strict=True))
    large = [name for name, row in zip(classes, counts, strict=True) if row.sum() >= FEWEST]
    terms = np.stack([answer == truth, np.ones(len(truth))], 1).astype(float)
    low, high = metrics.interval(np.divide(*metrics.bootstrap(terms).T))
    values = {
        "n": len(known),
        "accuracy": float((answer == truth).mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "uar": float(np.mean([recalls[name] for name in large])) if large else float("nan"),
        "neutral_recall": recalls.get("neutral", float("nan")),
        "ece": metrics.expected_calibration_error(table[answered], truth[answered]),
        "missed": missed,
    }
    certain = np.array([each is not None and each.certain for each in (predictions[row] for row in known)])
    values |= {"certain": float(certain.mean()), "certain_accuracy": float((answer == truth)[certain].mean())}
    if photos.name == "london":
        groups = np.array([photos.groups[row] for row in known])
        sides = [table[:, classes.index(name)] for name in ("happiness", "neutral")]
        happy = truth == classes.index("happiness")
        right = answered & ((sides[0] > sides[1]) == happy)
        two_way = {name: np.mean([right[happy == kind][groups[happy == kind] == name].mean() for kind in (True, False)])
                   for name in sorted(set(groups))}  # fmt: skip
        values["two_way"] = float(np.mean([right[happy].mean(), right[~happy].mean()]))
        values["gender_gap"] = float(max(two_way.values()) - min(two_way.values()))
    return values


def _vector(prediction: Prediction | None, classes: list[str]) -> list[float]:
    return [0.0] * len(classes) if prediction is None else [prediction.scores.get(name, 0.0) for name in classes]


COLUMNS = (
    "model", "version", "output", "detector", "set", "n", "accuracy", "accuracy_low", "accuracy_high", "uar", "neutral_recall",
    "ece", "missed", "certain", "certain_accuracy", "two_way", "gender_gap", "false_faces", "certain_false_faces", "ms",
)  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--every", type=int, default=1, help="take each N-th image of LFW and FER2013")
    parser.add_argument("--fer-python", help="a Python in which the package fer is installed")
    parser.add_argument("--node-dir", type=Path, help="the folder in which npm installed human and face-api")
    parser.add_argument("--sets", nargs="*", help="names of sets; all by default")
    parser.add_argument("--detectors", nargs="*", default=DETECTORS, choices=DETECTORS)
    parser.add_argument("--out", type=Path, default=TABLE)
    args = parser.parse_args()
    bundled = {name: card for name, card in cards.bundled().items() if card.kind == "classifier"}
    rows: list[dict[str, object]] = []

    def add(photos: Photos, predictions: Predictions, ms: float, **names: str) -> None:
        found = {name: round(value, 4) for name, value in figures(photos, predictions).items()}
        rows.append({**names, "set": photos.name, **found, "ms": round(ms, 1)})
        print(rows[-1], flush=True)

    for photos in photo_sets(args.shared, args.every):
        if args.sets and photos.name not in args.sets:
            continue
        for detector in args.detectors[:1] if photos.name in CROPS else args.detectors:
            for model, output, predictions, ms in predict_all(detector, list(bundled), photos):
                add(photos, predictions, ms, model=model, version=bundled[model].version, output=output, detector=detector)
        for peer, command_of in PEERS.items():
            if command := command_of(args):
                predictions, ms = predict_peer(command, photos, args)
                add(photos, predictions, ms, model=peer, detector="its own")
    measured = {(row["model"], row["set"]) for row in rows}
    if args.out.exists():  # Rows of packages and sets that this run did not measure stay.
        with args.out.open(newline="") as file:
            rows += [row for row in csv.DictReader(file) if (row["model"], row["set"]) not in measured]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
