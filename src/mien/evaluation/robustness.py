"""Accuracy of a model on corrupted faces: blur, poor light, occlusion, rotation and other crops.

    found = mien.evaluation.robustness.robustness("mien-base", mien.open_dataset("fer2013", "data/fer2013", "test"))
    found.rows[0].change                        # change of the accuracy by blur, with an interval

The same faces are classified with and without each corruption, so that differences are paired. Faces are detected once, in the
original images, so that the effect on the detector is not included. Only corruptions that crop the photograph detect and align
the face again; a face that is not found then counts as wrong.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import metrics
from ..data.datasets import Dataset
from ..data.labeled_faces import Face, FaceFinder, Mode, labeled_faces
from ..errors import ConfigError
from ..io.files import csv_text, write_file
from ..runtime.devices import Device, use
from ..visualization.plotting import BLUE, RED, Figure, new_figure, styled
from .corruptions import DEGRADATIONS, LOOSE, PHOTOGRAPHS, TIGHT, Degradation
from .label_mapping import mapping
from .predict import finder_for
from .predictors import StoredPredictor, check_fold, open_predictor
from .tta import View

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

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return dataclasses.asdict(self)

    def csv(self) -> str:
        """Return the rows as a table with a header."""
        names = [field.name for field in dataclasses.fields(Row)]
        shown = [Row("original", "", self.accuracy, 0, 0, 0, 1, 0), *self.rows]
        cells = [[value if isinstance(value, str) else f"{value:.4f}" for value in dataclasses.astuple(row)] for row in shown]
        shifts = {"tight to loose": self.tight_to_loose, "tight to loose photograph": self.tight_to_loose_photograph}
        blank = [""] * (len(names) - 2)
        cells += [[name, *blank, f"{moved:.4f}"] for name, moved in shifts.items() if moved is not None]
        rows = [[self.model, self.output, self.data, self.faces, *row] for row in cells]
        return csv_text([["model", "output", "data", "faces", *names], *rows])

    def save(self, path: str | Path) -> Path:
        """Write the rows as csv, atomically; raises ConfigError if that fails."""
        write_file(path, self.csv())
        return Path(path)

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
    truth: list[int] = []
    rows: list[int] = []
    left = len(dataset)
    outputs: list[list[np.ndarray]] = [[] for _ in range(len(degradations) + 1)]
    for batch, labels in labeled_faces(dataset, finder, classes.unknown, BATCH):
        truth += [classes.classes.index(label) for label in labels]
        rows += [face.row for face in batch]
        for kept, degrade in zip(outputs, (None, *degradations), strict=True):
            shown = [_shown(face, degrade, seed, finder) for face in batch]
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


def _shown(face: Face, degrade: Degradation | None, seed: int, find: FaceFinder) -> Face | None:
    """Return the degraded face; None if it is detected again and not found."""
    if degrade is None:
        return face
    if degrade.window is not None:
        return find.found(face.row, face.sample, degrade.cut(face))
    return degrade(face, seed)


def _row(which: Degradation, before: np.ndarray, after: np.ndarray, label: np.ndarray, cluster: np.ndarray | None) -> Row:
    predicted = np.where(~np.isnan(after).any(1), np.nan_to_num(after).argmax(1), -1)
    right = np.stack([before.argmax(1) == label, predicted == label, np.ones(len(label))], 1)
    change, (low, high), _ = metrics.paired_bootstrap(right, lambda sums: (sums[..., 1] - sums[..., 0]) / sums[..., 2], cluster)
    same = float((before.argmax(1) == predicted).mean())
    return Row(which.name, which.strength, float(right[:, 1].mean()), change, low, high, same, _distance(before, after))


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean total variation; rows with NaN count as 1."""
    return float(np.nan_to_num(np.abs(one - other).sum(1) / 2, nan=1.0).mean())
