"""A model × a data set → `predictions.csv` → a report.

    report = mien.evaluate("mien-base", mien.open_dataset("fer2013", "data/fer2013", "test"), out="out/fer2013")
    report.figures["official"]["accuracy"]      # {"value": 0.6927, "low": …, "high": …}

The folder holds `predictions.csv` (a row a picture, written as the answers come, so that a stopped evaluation goes on where it
was), `evaluation.json` (what was evaluated on what), and what is computed from these two alone: `metrics.json`, `report.html`
and `figures/`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import Dataset
from ..devices import Device, use
from ..errors import ConfigError, DatasetError, SourceError
from ..report import EVALUATION, PREDICTIONS, Report
from ..report.predictions import NO_FACE, OK, OTHER_CLASS, UNREADABLE, Predictions
from .faces import Face, FaceFinder, Mode, mode_for
from .mapping import Mapping, mapping
from .mistakes import keep_mistakes
from .predictors import Answers, CardPredictor, FunctionPredictor, Predictor, StoredPredictor, open_predictor
from .records import PART, about_dataset, environment, hold, memory_mb, state_of, whole_rows, write_json
from .views import View, views

__all__ = [
    "CardPredictor",
    "Dataset",
    "FunctionPredictor",
    "Mode",
    "Predictor",
    "Report",
    "StoredPredictor",
    "evaluate",
    "open_predictor",
]

SLICES = ("brightness", "contrast", "face size", "yaw", "roll")
UNITS_OF_12 = tuple(f"AU{number}" for number in (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26))
"""Aff-Wild2's action units in the order of its files: what the columns of an output `action_units` mean."""


def evaluate(
    model: Any,
    dataset: Dataset,
    *,
    out: str | Path,
    output: str = "auto",
    faces: Mode = "auto",
    detector: str = "blazeface",
    tta: int = 1,
    seed: int = 0,
    pose: bool = False,
    limit: int = 0,
    batch: int = 64,
    threads: int = 1,
    device: str | Device | None = None,
    overwrite: bool = False,
    page: bool = True,
    command: Sequence[str] = (),
    progress: Callable[[int], None] = lambda rows: None,
) -> Report:
    """Ask a model about every picture of a data set, and report how good the answers are.

    Args:
        model: name of a bundled model, card, `.onnx` or `.safetensors` file, run folder; a Python function that takes a list of
            (H, W, 3) uint8 RGB pictures, returns (N, K) probabilities and has an attribute `labels`; `"module:function"`; or
            `"peer:NAME=FILE.npz"`.
        dataset: one split, from `mien.open_dataset`.
        out: folder for the results. A stopped evaluation in it goes on; a finished one is only reported again.
        output: which head of the card; `"auto"` takes the one that bears the name of the data set, or else the scores.
        faces: `"whole"`: each picture is one face. `"detect"`: faces are found as `mien.load` finds them. `"auto"`: by size.
        detector: for `"detect"`.
        tta: number of views whose mean is the answer: as it is, mirrored, then small turns.
        seed: of the turns.
        pose: find the mesh of whole pictures too, for slices by pose.
        limit: evaluate only this many pictures, evenly spread; 0 means all.
        batch: pictures in one call of the network.
        threads: threads inside one call.
        device: where networks run, as for `mien.load`.
        overwrite: replace whatever evaluation `out` holds.
        page: also write `report.html` and `figures/`, which need the extra `eval`.
        command: the command line, for the report.
        progress: called with the number of rows done, again and again.

    Raises:
        DatasetError: the split is empty, or nothing in it is annotated.
        ConfigError: the options make no sense, or `out` holds another evaluation.
        WeightsError: the model gives no probabilities, or NaN, or not one for each of its classes.
    """
    out = Path(out)
    if batch < 1:
        raise ConfigError(f"the network is asked about one picture a time or more, not {batch} (--batch)")
    if page:
        Report.require_page()
    dataset = dataset.evenly(limit)
    _check(dataset)
    with use(device):
        predictor = open_predictor(model, output, dataset, threads)
    predictor.prepare(dataset)
    names = mapping(predictor.labels, _known_classes(dataset))
    mode = mode_for(dataset, faces, cuts_faces=predictor.cuts_faces)
    if mode == "detect" and not predictor.cuts_faces:
        raise ConfigError(f"{predictor.name} cannot cut faces out of photographs; its pictures must be faces (--faces whole)")
    looks = views(tta, seed)
    described, data = predictor.describe(), about_dataset(dataset)
    if limit:  # a part has another digest than the whole
        data["original"] = None
        data["notes"].append(f"only {len(dataset):,} pictures, evenly spread")
    identity = {
        "model": {key: value for key, value in described.items() if key in ("name", "version", "sha256", "output")},
        "dataset": {key: data[key] for key in ("name", "split", "protocol", "digest", "pictures")},
        "faces": mode if mode == "whole" else f"detect by {detector}",
        "views": [str(look) for look in looks],
        "pose": pose,
        "limit": limit,
    }
    with use(device), hold(out):
        if state_of(out, identity, overwrite=overwrite) == "done":
            return _reported(out, page)
        about = {
            "schema": 1,
            "identity": identity,
            "model": {**described, "threshold": predictor.threshold},
            "dataset": data,
            "mapping": {"source": names.source, "classes": names.classes, "unknown": names.unknown, "says": names.says},
            "command": list(command),
            "environment": {**environment(), **_device_of(predictor)},
            "run": _run_of(model),
        }
        write_json(out / (EVALUATION + PART), about)
        regions = isinstance(predictor, CardPredictor) and bool(predictor.preprocess.regions)
        finder = FaceFinder(mode, detector, mesh=pose or regions, threads=threads)
        speed = _predict(out, dataset, predictor, names, finder, looks, batch, progress)
        mistakes = keep_mistakes(out, dataset)
        write_json(out / EVALUATION, {**about, "speed": {**speed, "threads": threads, "batch": batch}, "mistakes": mistakes})
        (out / (PREDICTIONS + PART)).replace(out / PREDICTIONS)
        (out / (EVALUATION + PART)).unlink()
        return _reported(out, page)


def _reported(out: Path, page: bool) -> Report:
    report = Report.read(out)
    report.write(page=page)
    return report


def _check(dataset: Dataset) -> None:
    if not len(dataset):
        raise DatasetError(f"the split {dataset.split!r} of {dataset.name} is empty: there is nothing to evaluate")
    annotated = (dataset.label >= 0).any() or any(
        column is not None for column in (dataset.valence, dataset.arousal, dataset.action_units)
    )
    if not annotated:
        raise DatasetError(
            f"no picture of the split {dataset.split!r} of {dataset.name} has a label: there is nothing to compare with"
        )


def _known_classes(dataset: Dataset) -> tuple[str, ...]:
    return dataset.labels if (dataset.label >= 0).any() else ()


def _predict(
    out: Path,
    dataset: Dataset,
    predictor: Predictor,
    names: Mapping,
    finder: FaceFinder,
    looks: Sequence[View],
    batch: int,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Append the rows that are missing, and return how fast that went."""
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
    status = np.full(len(rows), OK, dtype=f"U{max(map(len, (OK, NO_FACE, UNREADABLE, OTHER_CLASS)))}")
    readable, pictures = [], []
    for place, sample in enumerate(samples):
        if sample.label in names.unknown:
            status[place] = OTHER_CLASS
            continue
        try:
            pictures.append(sample.read())
            readable.append(place)
        except SourceError:
            status[place] = UNREADABLE
    found = finder([rows[place] for place in readable], [samples[place] for place in readable], pictures)
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
    slices = spread(
        None if answers is None else np.concatenate([answers.light, [[face.size, *face.pose] for face in faces]], 1),
        len(SLICES),
    )
    roles = predictor.card.outputs if isinstance(predictor, CardPredictor) else {}
    affect = {}
    for name in ("valence", "arousal"):
        column = getattr(part, name)
        if column is not None or "valence_arousal" in roles:
            affect[name] = np.full(number, np.nan) if column is None else column.astype(np.float64)
    if "valence_arousal" in roles:
        both = spread(None if answers is None else answers.valence_arousal, 2)
        affect |= {"predicted:valence": both[:, 0], "predicted:arousal": both[:, 1]}
    unit_names = part.unit_names if part.action_units is not None else UNITS_OF_12
    units = None if part.action_units is None else part.action_units.astype(int)
    unit_probabilities = None
    if "action_units" in roles:
        unit_probabilities = spread(None if answers is None else answers.action_units, len(UNITS_OF_12))
        if units is not None:  # those that both have, in the data set's order
            unit_names = tuple(name for name in part.unit_names if name in UNITS_OF_12)
            units = units[:, [part.unit_names.index(name) for name in unit_names]]
            unit_probabilities = unit_probabilities[:, [UNITS_OF_12.index(name) for name in unit_names]]
    return Predictions(
        classes=names.classes,
        sample=part.names.astype(str),
        label=known[part.label],
        part=part.part.astype(str),
        status=status,
        probabilities=probabilities,
        certain=certain,
        subject=part.subject.astype(str) if part.subject is not None else np.full(number, ""),
        affect=affect,
        unit_names=unit_names if units is not None or unit_probabilities is not None else (),
        units=units,
        unit_probabilities=unit_probabilities,
        groups={name: column.astype(str) for name, column in part.groups.items()},
        slices=dict(zip(SLICES, slices.T, strict=True)),
    )


def _device_of(predictor: Predictor) -> dict[str, str]:
    """Return where its network runs, if it has one that we opened."""
    device = getattr(getattr(predictor, "runtime", None), "device", None)
    return {} if device is None else {"device": str(device)}


def _run_of(model: Any) -> dict[str, Any] | None:
    """Return the learning curves of a training run, where the model lies in its folder."""
    if not isinstance(model, (str, Path)):
        return None
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    rows = folder / "metrics.jsonl"
    if not rows.is_file() or (not path.is_dir() and path.suffix not in (".safetensors", ".toml", ".onnx")):
        return None
    return {"name": folder.name, "rows": [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines() if line]}
