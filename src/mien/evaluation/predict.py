"""Run a model over the images of a dataset, and map its classes to those of the dataset by name."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ..data.datasets import Dataset
from ..data.labeled_faces import FaceFinder, Mode, mode_for
from ..errors import ConfigError, SourceError
from ..io.files import atomic_write
from ..labels import ACTION_UNITS, canonical, map_scores, shared_classes
from .predictors import Outputs, Predictor, cuts_regions
from .report.predictions import NO_FACE, OK, OTHER_CLASS, STATUSES, UNREADABLE, Predictions
from .tta import View


@dataclass(frozen=True, slots=True)
class Mapping:
    """Mapping from the probabilities of a model to those of the compared classes."""

    source: tuple[str, ...]  # the model's classes
    classes: tuple[str, ...]  # compared classes: those of the dataset that the model has, in the dataset's order
    unknown: tuple[str, ...]  # classes of the dataset that the model lacks; their images are excluded

    @property
    def dropped(self) -> tuple[str, ...]:
        """Classes of the model that the dataset lacks; their probabilities are dropped and the rest rescaled."""
        return tuple(name for name in self.source if canonical(name) not in self.classes)

    @property
    def says(self) -> str:
        """The mapping in one sentence."""
        parts = []
        if self.dropped:
            parts.append(f"the model's {', '.join(self.dropped)} dropped and the rest rescaled to sum to one")
        if self.unknown:
            parts.append(f"images of {', '.join(self.unknown)} excluded, which the model does not have")
        if parts:
            return f"{len(self.classes)} shared classes by name: {'; '.join(parts)}"
        return f"the same {len(self.classes)} classes" + (", in another order" if self.source != self.classes else "")

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Return (N, len(classes)) for (N, len(source))."""
        if self.source == self.classes:
            return probabilities
        return map_scores(probabilities, self.source, self.classes)


def mapping(source: Sequence[str], target: Sequence[str]) -> Mapping:
    """Return the mapping from a model's classes to a dataset's; raises ConfigError for fewer than two common classes."""
    if not target:  # only valence, arousal or action units are annotated
        return Mapping(tuple(source), tuple(source), ())
    classes = shared_classes(source, target)
    if len(classes) < 2:
        both = f"the classes of the model ({', '.join(source)}) and of the dataset ({', '.join(target)})"
        message = f"{both} have {f'only {classes[0]}' if classes else 'none'} in common; expected two or more"
        raise ConfigError(f"{message}, name another dataset", value=tuple(source), expected=tuple(target))
    return Mapping(tuple(source), classes, tuple(name for name in target if canonical(name) not in classes))


# Statistics of each face, by which metrics are sliced.
SLICES = ("brightness", "contrast", "face size", "pitch", "yaw", "roll", "gaze")
NO_OUTPUTS = Outputs(np.empty((0, 0)), np.empty((0, 2)))


def face_mode(predictor: Predictor, dataset: Dataset, faces: Mode) -> Literal["whole", "detect"]:
    """Return `"whole"` or `"detect"`; raises ConfigError if faces must be detected and the model has no crop contract."""
    mode = mode_for(dataset, faces, cuts_faces=predictor.cuts_faces)
    if mode == "detect" and not predictor.cuts_faces:
        message = f"{predictor.name} has no crop contract and cannot be run on photographs"
        advice = "give its card a crop, or use images that are faces (--faces whole)"
        raise ConfigError(f"{message}; {advice}", value=faces, expected="whole")
    return mode


def finder_for(
    predictor: Predictor, dataset: Dataset, faces: Mode = "auto", detector: str = "blazeface", *, threads: int = 1
) -> FaceFinder:
    """Return the face finder for a model and a dataset. Errors: `face_mode`."""
    return FaceFinder(face_mode(predictor, dataset, faces), detector, mesh=cuts_regions(predictor), threads=threads)


def compared_classes(dataset: Dataset) -> tuple[str, ...]:
    """Return the classes of a dataset; none if no sample has a class."""
    return dataset.labels if (dataset.label >= 0).any() else ()


def predict_all(
    predictor: Predictor, dataset: Dataset, faces: Mode = "auto", detector: str = "blazeface", batch: int = 64
) -> Predictions:
    """Return the predictions for a whole dataset; arguments as for `mien.evaluate`."""
    predictor.prepare(dataset)
    classes = mapping(predictor.labels, compared_classes(dataset))
    finder = finder_for(predictor, dataset, faces, detector)
    batches = predict_batches(dataset, predictor, classes, finder, (View(),), batch)
    return Predictions.concatenate([table for table, _ in batches])


def predict_batches(
    dataset: Dataset, predictor: Predictor, classes: Mapping, finder: FaceFinder, views: Sequence[View], batch: int
) -> Iterator[tuple[Predictions, float]]:
    """Yield the predictions for each batch of images, and the seconds that the model took.

    `classes` maps the model's classes to the compared ones; outputs are averaged over the `views`.
    """
    for first in range(0, len(dataset), batch):
        rows = range(first, min(first + batch, len(dataset)))
        samples = [dataset[row] for row in rows]
        status = np.full(len(rows), OK, dtype=f"U{max(map(len, STATUSES))}")
        readable, images = [], []
        for place, sample in enumerate(samples):
            if sample.label in classes.unknown:
                status[place] = OTHER_CLASS
                continue
            try:
                images.append(sample.read())
                readable.append(place)
            except SourceError:
                status[place] = UNREADABLE
        found = finder([rows[place] for place in readable], [samples[place] for place in readable], images)
        status[[place for place, face in zip(readable, found, strict=True) if face is None]] = NO_FACE
        faces = [face for face in found if face is not None]
        started = time.perf_counter()
        outputs = predictor(faces, views) if faces else NO_OUTPUTS
        seconds = time.perf_counter() - started
        shapes = np.array([[face.size, *face.pose] for face in faces]).reshape(-1, len(SLICES) - 2)
        yield _table(dataset.take(np.asarray(rows)), status, outputs, shapes, predictor, classes), seconds


def _table(
    part: Dataset, status: np.ndarray, outputs: Outputs, shapes: np.ndarray, predictor: Predictor, classes: Mapping
) -> Predictions:
    """Return the table of one batch; `shapes` is (n, 5) size, pitch, yaw, roll and gaze of the faces with a prediction."""
    known = status == OK

    def spread(values: np.ndarray | None, width: int) -> np.ndarray:
        everywhere = np.full((len(part), width), np.nan)
        if values is not None and known.any():
            everywhere[known] = values
        return everywhere

    def texts(column: np.ndarray | None) -> np.ndarray:
        return np.full(len(part), "") if column is None else column.astype(str)

    probabilities = spread(classes(outputs.probabilities) if known.any() else None, len(classes.classes))
    columns = {
        "sample": texts(part.names),
        "label": np.array([*part.labels, ""], dtype=str)[part.label],
        "part": texts(part.part),
        "status": status,
        "certain": known & (np.nan_to_num(probabilities, nan=-1).max(1) >= predictor.threshold),
        "subject": texts(part.subject),
        **{f"p:{name}": column for name, column in zip(classes.classes, probabilities.T, strict=True)},
    }
    roles = getattr(predictor, "roles", ())
    both = spread(outputs.valence_arousal, 2) if "valence_arousal" in roles else None
    for name, annotated in (("valence", part.valence), ("arousal", part.arousal)):
        if annotated is not None or both is not None:
            columns[name] = np.full(len(part), np.nan) if annotated is None else annotated.astype(np.float64)
    if both is not None:
        columns |= {"predicted:valence": both[:, 0], "predicted:arousal": both[:, 1]}
    units = spread(outputs.action_units, len(ACTION_UNITS)) if "action_units" in roles else None
    names = part.unit_names if part.action_units is not None else ACTION_UNITS
    if units is not None:  # of annotated and predicted units those of both
        names = tuple(name for name in names if name in ACTION_UNITS)
    if part.action_units is not None:
        columns |= {name: part.action_units[:, part.unit_names.index(name)].astype(np.int64) for name in names}
    if units is not None:
        columns |= {f"p:{name}": units[:, ACTION_UNITS.index(name)] for name in names}
    columns |= {f"group:{name}": texts(column) for name, column in part.groups.items()}
    seen = spread(np.concatenate([outputs.light, shapes], 1), len(SLICES))
    return Predictions(columns | {f"slice:{name}": column for name, column in zip(SLICES, seen.T, strict=True)})


MISTAKES = "mistakes"
NUMBER = 24
SIDE = 112  # longest side of a stored image in pixels; smaller images are stored as they are


def save_mistakes(out: Path, table: Predictions, dataset: Dataset) -> list[dict[str, str]]:
    """Write the images of the most confident wrong predictions to `mistakes/`, and return file and sample of each."""
    wrong = np.flatnonzero(table.counted & (table.status == OK) & (table.predicted != table.truth))
    worst = wrong[np.argsort(-table.confidence[wrong], kind="stable")][:NUMBER]
    folder = out / MISTAKES
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
        kept.append({"file": f"{MISTAKES}/{name}", "sample": str(table.sample[row])})
    return kept
