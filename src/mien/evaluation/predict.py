"""Ask a model about the images of a dataset, and append its answers to `predictions.csv` as they come."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.datasets import Dataset
from ..data.labeled_faces import Face, FaceFinder
from ..errors import ConfigError, SourceError
from ..io.files import atomic_write
from ..labels import ACTION_UNITS
from .label_mapping import Mapping
from .predictors import Answers, Predictor
from .report import PREDICTIONS
from .report.predictions import NO_FACE, OK, OTHER_CLASS, STATUSES, UNREADABLE, Predictions, read_predictions
from .run_info import PART, memory_mb, whole_rows
from .tta import View

SLICES = ("brightness", "contrast", "face size", "yaw", "roll")
"""What is told of every face, beside the answer."""


def predict(
    out: Path,
    dataset: Dataset,
    predictor: Predictor,
    names: Mapping,
    finder: FaceFinder,
    looks: Sequence[View],
    batch: int,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Append the rows that are missing to the table of a begun evaluation, and return how fast that went.

    Args:
        out: its folder.
        dataset: one split.
        predictor: the model.
        names: how its classes become those that are compared.
        finder: finds the face of each image.
        looks: views whose mean is the answer.
        batch: images in one call of the network.
        progress: called with the number of rows done, first with those that are there already.

    Raises:
        ConfigError: the table has rows about other images, or the disk is full.
        WeightsError: as of the predictor.
    """
    path = out / (PREDICTIONS + PART)
    done = whole_rows(path, [str(name) for name in dataset.names.tolist()])
    progress(done)
    started, seconds, asked = time.perf_counter(), 0.0, 0
    with _told_where(path), path.open("a", encoding="utf-8", errors="surrogateescape", newline="") as file:
        for first in range(done, len(dataset), batch):
            rows = range(first, min(first + batch, len(dataset)))
            table, used = _ask(rows, dataset, predictor, names, finder, looks)
            table.append_to(file, header=first == 0)
            seconds, asked = seconds + used, asked + len(rows)
            progress(len(rows))
    return {
        "rows": asked,
        "seconds": round(time.perf_counter() - started, 3),
        "model_seconds": round(seconds, 3),
        "memory_mb": memory_mb(),
    }


@contextlib.contextmanager
def _told_where(path: Path) -> Iterator[None]:
    """Name the file where the disk is full: what is in it stays, and the same command goes on with it."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:  # another file, which could not be opened
            raise
        raise ConfigError(f"{path} cannot be written: {error.strerror}; free some space and start the command again") from error


def _ask(
    rows: range, dataset: Dataset, predictor: Predictor, names: Mapping, finder: FaceFinder, looks: Sequence[View]
) -> tuple[Predictions, float]:
    """Return the table of some rows, and the seconds that the model took for them."""
    samples = [dataset[row] for row in rows]
    status = np.full(len(rows), OK, dtype=f"U{max(map(len, STATUSES))}")
    readable, images = [], []
    for place, sample in enumerate(samples):
        if sample.label in names.unknown:
            status[place] = OTHER_CLASS
            continue
        try:
            images.append(sample.read())
            readable.append(place)
        except SourceError:
            status[place] = UNREADABLE
    found = finder([rows[place] for place in readable], [samples[place] for place in readable], images)
    faces: list[Face] = []
    places: list[int] = []
    for place, face in zip(readable, found, strict=True):
        if face is None:
            status[place] = NO_FACE
        else:
            faces.append(face)
            places.append(place)
    started = time.perf_counter()
    answers = predictor(faces, looks) if faces else None
    seconds = time.perf_counter() - started
    return _table(dataset.take(np.asarray(rows)), status, places, faces, answers, predictor, names), seconds


def _table(
    part: Dataset,
    status: np.ndarray,
    places: list[int],
    faces: list[Face],
    answers: Answers | None,
    predictor: Predictor,
    names: Mapping,
) -> Predictions:
    number = len(part)

    def spread(values: np.ndarray | None, width: int) -> np.ndarray:
        whole = np.full((number, width), np.nan)
        if values is not None and places:
            whole[places] = values
        return whole

    probabilities = spread(None if answers is None else names(answers.probabilities), len(names.classes))
    certain = np.zeros(number, bool)
    certain[places] = probabilities[places].max(1) >= predictor.threshold if places else False
    known = np.array([*part.labels, ""], dtype=str)
    seen = None if answers is None else np.concatenate([answers.light, [[face.size, *face.pose] for face in faces]], 1)
    roles = getattr(predictor, "roles", ())
    both = spread(None if answers is None else answers.valence_arousal, 2) if "valence_arousal" in roles else None
    units = spread(None if answers is None else answers.action_units, len(ACTION_UNITS)) if "action_units" in roles else None
    return Predictions(
        classes=names.classes,
        sample=part.names.astype(str),
        label=known[part.label],
        part=part.part.astype(str),
        status=status,
        probabilities=probabilities,
        certain=certain,
        subject=part.subject.astype(str) if part.subject is not None else np.full(number, ""),
        affect=_affect(part, both),
        **_units(part, units),
        groups={name: column.astype(str) for name, column in part.groups.items()},
        slices=dict(zip(SLICES, spread(seen, len(SLICES)).T, strict=True)),
    )


def _affect(part: Dataset, predicted: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return the columns of valence and arousal that the dataset or the model has; `predicted` is (N, 2)."""
    found = {}
    for name in ("valence", "arousal"):
        column = getattr(part, name)
        if column is not None or predicted is not None:
            found[name] = np.full(len(part), np.nan) if column is None else column.astype(np.float64)
    if predicted is not None:
        found |= {"predicted:valence": predicted[:, 0], "predicted:arousal": predicted[:, 1]}
    return found


def _units(part: Dataset, predicted: np.ndarray | None) -> dict[str, Any]:
    """Return the fields of action units; `predicted` is (N, 12), and where the dataset has some too, those of both stay."""
    if part.action_units is None:
        return {} if predicted is None else {"unit_names": ACTION_UNITS, "unit_probabilities": predicted}
    units = part.action_units.astype(int)
    if predicted is None:
        return {"unit_names": part.unit_names, "units": units}
    names = tuple(name for name in part.unit_names if name in ACTION_UNITS)  # in the dataset's order
    return {
        "unit_names": names,
        "units": units[:, [part.unit_names.index(name) for name in names]],
        "unit_probabilities": predicted[:, [ACTION_UNITS.index(name) for name in names]],
    }


FOLDER = "mistakes"
NUMBER = 24
SIDE = 112
"""Longest side of an image that is kept, in pixels; smaller ones stay as they are."""


def keep_mistakes(out: Path, dataset: Dataset) -> list[dict[str, str]]:
    """Write the images of the most confident wrong answers to `mistakes/`, and return which is which."""
    table = read_predictions(out / (PREDICTIONS + ".part"))
    wrong = np.flatnonzero(table.counted & (table.status == OK) & (table.answer != table.truth))
    worst = wrong[np.argsort(-table.confidence[wrong], kind="stable")][:NUMBER]
    folder = out / FOLDER
    for old in folder.glob("*.jpg"):
        old.unlink()
    kept = []
    for row in worst.tolist():
        try:
            image = Image.fromarray(dataset[row].read())
        except SourceError:
            continue
        image.thumbnail((SIDE, SIDE))
        name = f"{len(kept):02d}.jpg"
        with atomic_write(folder / name) as part:
            image.save(part, "JPEG", quality=88)
        kept.append({"file": f"{FOLDER}/{name}", "sample": str(table.sample[row])})
    return kept
