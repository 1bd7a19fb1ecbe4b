"""Accuracy of a model on corrupted faces: blur, poor light, occlusion, rotation and other crops.

    found = mien.evaluation.robustness.robustness("mien-base", mien.open_dataset("fer2013", "data/fer2013", "test"))
    found.rows[0].change                        # change of the accuracy by blur, with an interval

The same faces are classified with and without each corruption, so that differences are paired. Faces are detected once, in the
original images, so that the effect on the detector is not included. Only corruptions that crop the photograph detect and align
the face again; a face that is not found then counts as wrong. Strengths are relative to the size of the face.
"""

import dataclasses
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from .. import metrics
from ..data.datasets import Dataset
from ..data.labeled_faces import Face, Mode, labeled_faces
from ..errors import ConfigError
from ..faces.preprocessing import gray
from ..io.files import csv_text, write_file
from ..runtime.devices import Device, use
from ..visualization.plotting import BLUE, RED, Figure, new_figure, styled
from .predict import finder_for, mapping
from .predictors import StoredPredictor, check_fold, open_predictor
from .tta import View


@dataclass(frozen=True, slots=True)
class Place:
    """Position of the face in its image, in pixels."""

    x: float  # center
    y: float  # center
    side: float  # longer side of the box


# (H, W, 3) uint8 RGB image, position of the face, random generator → image of the same shape.
Change = Callable[[np.ndarray, Place, np.random.Generator], np.ndarray]


@dataclass(frozen=True, slots=True)
class Degradation:
    """One corruption of faces."""

    name: str  # name in tables
    strength: str  # strength in words
    change: Change | None = None  # change of the pixels
    scale: float = 1.0  # side of the crop relative to the correct one: 1.2 shows a fifth more
    turn: float = 0.0  # rotation of the face in degrees, counter-clockwise
    # Side of the square crop of the photograph relative to the face box; the face is then detected again.
    window: float | None = None

    def __call__(self, face: Face, seed: int = 0) -> Face:
        """Return the corrupted face, deterministic for a seed and a row."""
        if self.change is not None:
            rng = np.random.default_rng([seed, face.row])
            face = replace(face, pixels=np.ascontiguousarray(self.change(face.pixels, place_of(face), rng)))
        if self.scale == 1 and not self.turn:
            return face
        if face.box is None:
            return _recropped(face, self.scale, self.turn)
        assert face.mesh is not None
        points = face.mesh.astype(np.float64)
        center = points[:, :2].mean(0)
        points[:, :2] = (points[:, :2] - center) @ _rotation(self.turn).T * self.scale + center
        return replace(face, mesh=points.astype(np.float32))

    def cut(self, face: Face) -> np.ndarray:
        """Return (h, w, 3) the crop of the photograph by `window`, clipped to the photograph."""
        assert self.window is not None
        at = place_of(face)
        half = at.side * self.window / 2
        left, top = (max(0, round(value - half)) for value in (at.x, at.y))
        right, bottom = (round(value + half) for value in (at.x, at.y))
        return np.ascontiguousarray(face.pixels[top:bottom, left:right])


def place_of(face: Face) -> Place:
    """Return the position of the face: its box, or the whole image."""
    height, width = face.pixels.shape[:2]
    left, top, right, bottom = (0, 0, width, height) if face.box is None else face.box.tolist()
    return Place((left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top, 1.0))


def _rotation(degrees: float) -> np.ndarray:
    """Return the (2, 2) matrix that rotates image coordinates (y down) clockwise on screen."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def _recropped(face: Face, scale: float, turn: float) -> Face:
    """Take another window of an image that is one face, padded with its edge."""
    height, width = face.pixels.shape[:2]
    room = round(max(height, width) * 0.75)
    padded = Image.fromarray(np.pad(face.pixels, ((room, room), (room, room), (0, 0)), mode="edge"))
    center = np.array([width / 2, height / 2])
    # Pillow expects the map from result to source coordinates.
    linear = _rotation(turn) * scale
    start = center + room - linear @ center
    coefficients = (*linear[0], start[0], *linear[1], start[1])
    seen = padded.transform((width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    mesh = face.mesh
    if mesh is not None:
        points = mesh.astype(np.float64)
        points[:, :2] = (points[:, :2] + 0.5 - center) @ np.linalg.inv(linear).T + center - 0.5
        mesh = points.astype(np.float32)
    return replace(face, pixels=np.asarray(seen), mesh=mesh)


def _levels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _small(pixels: np.ndarray, at: Place, rng: np.random.Generator) -> np.ndarray:
    image = Image.fromarray(pixels)
    share = min(24 / at.side, 1.0)
    small = image.resize([max(1, round(length * share)) for length in image.size], Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.BICUBIC))


def _jpeg(pixels: np.ndarray, at: Place, rng: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file).convert("RGB"))


def _side_light(pixels: np.ndarray, at: Place, rng: np.random.Generator) -> np.ndarray:
    across = np.clip((np.arange(pixels.shape[1]) + 0.5 - at.x) / at.side, -0.5, 0.5) * rng.choice((-1, 1))
    return _levels(pixels * (1 + across)[None, :, None])


def _covered(pixels: np.ndarray, at: Place, rng: np.random.Generator) -> np.ndarray:
    side = at.side / 4
    x, y = np.array([at.x, at.y]) + rng.uniform(-0.5, 0.5, 2) * (at.side - side)
    left, top, right, bottom = (max(0, round(value)) for value in (x - side / 2, y - side / 2, x + side / 2, y + side / 2))
    covered = pixels.copy()
    covered[top:bottom, left:right] = 128
    return covered


# Default corruptions of `mien.evaluation.robustness.robustness`.
DEGRADATIONS: tuple[Degradation, ...] = (
    Degradation(
        "blur",
        "Gaussian, 1/48 of the face",
        lambda pixels, at, rng: np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(at.side / 48))),
    ),
    Degradation("small face", "24 pixels", _small),
    Degradation("JPEG", "quality 30", _jpeg),
    Degradation("noise", "10 gray levels", lambda pixels, at, rng: _levels(pixels + rng.normal(0, 10, (*pixels.shape[:2], 1)))),
    Degradation("dark", "half the light", lambda pixels, at, rng: _levels(pixels * 0.5)),
    Degradation("bright", "1.4 × the light, clipped", lambda pixels, at, rng: _levels(pixels * 1.4)),
    Degradation("low contrast", "half", lambda pixels, at, rng: _levels(pixels * 0.5 + 64)),
    Degradation("light from a side", "0.5 … 1.5 across the face", _side_light),
    Degradation(
        "color cast",
        "red × 1.25, blue × 0.75, or the reverse",
        lambda pixels, at, rng: _levels(pixels * np.array([1.25, 1.0, 0.75])[:: rng.choice((-1, 1))]),
    ),
    Degradation("no color", "gray", lambda pixels, at, rng: np.broadcast_to(gray(pixels)[..., None], pixels.shape)),
    Degradation("covered", "a square of a quarter of its side", _covered),
    Degradation("turned left", "15°", turn=15),
    Degradation("turned right", "15°", turn=-15),
    Degradation("tight crop", "20 % less", scale=0.8),
    Degradation("loose crop", "20 % more", scale=1.2),
)
# Further defaults for photographs: 1.3 × the face, 20 % less and 20 % more.
PHOTOGRAPHS: tuple[Degradation, ...] = (
    Degradation("tight photograph", "1.04 × the face, face detected again", window=1.04),
    Degradation("loose photograph", "1.56 × the face, face detected again", window=1.56),
)
TIGHT, LOOSE = "tight crop", "loose crop"


BATCH = 64
MARGIN = 0.03  # loss of accuracy that the figure marks as small


@dataclass(frozen=True, slots=True)
class Row:
    """Effect of one degradation."""

    name: str  # name of the degradation
    strength: str  # strength in words
    accuracy: float  # accuracy on the degraded faces
    change: float  # change of the accuracy against the original faces
    low: float  # lower end of the 95 % interval of the change (paired bootstrap, over persons where they are known)
    high: float  # upper end
    same: float  # share of unchanged predictions
    moved: float  # mean shift of the probabilities (total variation, 0 … 1)


@dataclass(frozen=True, slots=True)
class Robustness:
    """Result for one model."""

    model: str  # name of the model
    output: str  # evaluated output; empty for functions
    data: str  # name and split of the dataset
    faces: int  # number of labeled faces
    accuracy: float  # accuracy on the original faces
    rows: tuple[Row, ...]  # one for each degradation
    # Mean shift of the probabilities from a tight to a loose crop (total variation); None without both.
    tight_to_loose: float | None
    # The same for tight and loose photographs with the face detected in each; a missed face counts as 1.
    tight_to_loose_photograph: float | None = None

    def save(self, path: str | Path) -> None:
        """Write the rows as csv, atomically; raises ConfigError if that fails."""
        names = [field.name for field in dataclasses.fields(Row)]
        shown = [Row("original", "", self.accuracy, 0, 0, 0, 1, 0), *self.rows]
        cells = [[value if isinstance(value, str) else f"{value:.4f}" for value in dataclasses.astuple(row)] for row in shown]
        shifts = {"tight to loose": self.tight_to_loose, "tight to loose photograph": self.tight_to_loose_photograph}
        blank = [""] * (len(names) - 2)
        cells += [[name, *blank, f"{moved:.4f}"] for name, moved in shifts.items() if moved is not None]
        rows = [[self.model, self.output, self.data, self.faces, *row] for row in cells]
        write_file(path, csv_text([["model", "output", "data", "faces", *names], *rows]))

    def figure(self) -> Figure:
        """Return a matplotlib figure: change of the accuracy for each degradation, with intervals and numbers."""
        with styled():
            figure, (axes, numbers) = new_figure(8.6, 1.3 + 0.27 * len(self.rows), 1, 2, sharey=True, width_ratios=(3, 1.7))
            axes.axvspan(-100 * MARGIN, 100 * MARGIN, color="#888888", alpha=0.15, linewidth=0)
            axes.axvline(0, color="#555555", linewidth=0.8)
            for column, text in enumerate(("accuracy", "change", "unchanged"), 1):
                numbers.text(column, -1, text, va="center", ha="right", fontsize=8, color="#555555")
            for place, row in enumerate(self.rows):
                color = RED if row.change < -MARGIN else BLUE
                axes.plot([100 * row.low, 100 * row.high], [place] * 2, color=color, linewidth=1.6)
                axes.plot(100 * row.change, place, "o", color=color, markersize=5)
                texts = f"{100 * row.accuracy:.1f} %", f"{100 * row.change:+.1f}", f"{row.same:.0%}"
                for column, text in enumerate(texts, 1):
                    numbers.text(column, place, text, va="center", ha="right", fontsize=8)
            numbers.set_xlim(0.1, 3.1)
            numbers.axis("off")
            axes.set_yticks(range(len(self.rows)), [f"{row.name} ({row.strength})" for row in self.rows], fontsize=8)
            axes.set_ylim(len(self.rows) - 0.5, -1.4)
            axes.set_xlabel(f"change of the accuracy in points, from {100 * self.accuracy:.1f} % of {self.faces:,} faces")
            axes.set_title(f"{self.model} on {self.data}", loc="left")
        return figure


def robustness(
    model: Any,
    dataset: Dataset,
    *,
    degradations: Sequence[Degradation] | None = None,
    output: str = "auto",
    faces: Mode = "auto",
    detector: str = "blazeface",
    limit: int = 0,
    seed: int = 0,
    threads: int = 1,
    device: str | Device | None = None,
    progress: Callable[[int], None] = lambda rows: None,
) -> Robustness:
    """Classify the faces of a dataset with and without degradations; other arguments are those of `mien.evaluate`.

    The degradations are by default `DEGRADATIONS`, and `PHOTOGRAPHS` where faces are detected in photographs. `limit` uses only
    that many images, evenly spread; the noise, the occluded place and the side of the light follow from `seed`. `progress` is
    called with the number of images done since the last call. Raises ConfigError: the model is a table of probabilities, or no
    labeled face is found.
    """
    dataset = dataset.evenly(limit)
    with use(device):
        predictor = open_predictor(model, output, dataset, threads)
    if isinstance(predictor, StoredPredictor):
        message = f"{predictor.name} is a table of probabilities and cannot be run on degraded faces; name the model itself"
        raise ConfigError(message, value=predictor.name)
    check_fold(predictor, dataset)
    classes = mapping(predictor.labels, dataset.labels)
    with use(device):
        finder = finder_for(predictor, dataset, faces, detector, threads=threads)
    if degradations is None:
        degradations = (*DEGRADATIONS, *PHOTOGRAPHS) if finder.mode == "detect" else DEGRADATIONS
    truth, rows, left = [], [], len(dataset)
    outputs: list[list[np.ndarray]] = [[] for _ in range(len(degradations) + 1)]
    for batch, labels in labeled_faces(dataset, finder, classes.unknown, BATCH):
        truth += [classes.classes.index(label) for label in labels]
        rows += [face.row for face in batch]
        for kept, degrade in zip(outputs, (None, *degradations), strict=True):
            if degrade is None:
                shown = batch
            elif degrade.window is None:
                shown = [degrade(face, seed) for face in batch]
            else:
                shown = [finder.found(face.row, face.sample, degrade.cut(face)) for face in batch]
            found = [face for face in shown if face is not None]
            values = np.full((len(batch), len(classes.classes)), np.nan)
            if found:
                values[[face is not None for face in shown]] = classes(predictor(found, (View(),)).probabilities)
            kept.append(values)
        progress(min(BATCH, left))
        left -= BATCH
    data = f"{dataset.name} {dataset.split}"
    if not truth:
        raise ConfigError(f"no labeled face found in {data}; if each image is a face, give --faces whole")
    before, *after = (np.concatenate(each) for each in outputs)
    label, cluster = np.array(truth), None if dataset.subject is None else dataset.subject[rows]
    crops = {each.name: values for each, values in zip(degradations, after, strict=True)}

    def apart(*pair: str) -> float | None:
        return _distance(*(crops[name] for name in pair)) if set(pair) <= set(crops) else None

    return Robustness(
        model=predictor.name,
        output=str(predictor.describe()["output"]),
        data=data,
        faces=len(label),
        accuracy=float((before.argmax(1) == label).mean()),
        rows=tuple(_row(each, before, crops[each.name], label, cluster) for each in degradations),
        tight_to_loose=apart(TIGHT, LOOSE),
        tight_to_loose_photograph=apart(*(each.name for each in PHOTOGRAPHS)),
    )


def _row(which: Degradation, before: np.ndarray, after: np.ndarray, label: np.ndarray, cluster: np.ndarray | None) -> Row:
    predicted = np.where(~np.isnan(after).any(1), np.nan_to_num(after).argmax(1), -1)
    right = np.stack([before.argmax(1) == label, predicted == label, np.ones(len(label))], 1)
    change, (low, high), _ = metrics.paired_bootstrap(right, lambda sums: (sums[..., 1] - sums[..., 0]) / sums[..., 2], cluster)
    same = float((before.argmax(1) == predicted).mean())
    return Row(which.name, which.strength, float(right[:, 1].mean()), change, low, high, same, _distance(before, after))


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean total variation; rows with NaN count as 1."""
    return float(np.nan_to_num(np.abs(one - other).sum(1) / 2, nan=1.0).mean())
