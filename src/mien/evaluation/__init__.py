"""A model × a dataset → `predictions.csv` → a report.

    report = mien.evaluate("mien-base", mien.open_dataset("fer2013", "data/fer2013", "test"), out="out/fer2013")
    report.figures["official"]["accuracy"]      # {"value": 0.6927, "low": …, "high": …}

The folder holds `predictions.csv` (a row an image, written as the answers come, so that a stopped evaluation goes on where it
was), `evaluation.json` (what was evaluated on what), and what is computed from these two alone: `metrics.json`, `report.html`
and `figures/`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..data.datasets import Dataset
from ..data.labeled_faces import FaceFinder, Mode, mode_for
from ..errors import ConfigError, DatasetError
from ..io.files import locked_folder
from ..runtime.devices import Device, use
from .label_mapping import mapping
from .predict import keep_mistakes, predict
from .predictors import CardPredictor, FunctionPredictor, Predictor, StoredPredictor, cuts_regions, open_predictor
from .report import EVALUATION, PREDICTIONS, Report
from .run_info import PART, about_dataset, environment, state_of, write_json
from .tta import views

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
    """Ask a model about every image of a dataset, and report how good the answers are.

    Args:
        model: name of a bundled model, card, `.onnx` or `.safetensors` file, run folder; a Python function that takes a list of
            (H, W, 3) uint8 RGB images, returns (N, K) probabilities and has an attribute `labels`; `"module:function"`; or
            `"peer:NAME=FILE.npz"`.
        dataset: one split, from `mien.open_dataset`.
        out: folder for the results. A stopped evaluation in it goes on; a finished one is only reported again.
        output: which head of the card; `"auto"` takes the one that bears the name of the dataset, or else the scores.
        faces: `"whole"`: each image is one face. `"detect"`: faces are found as `mien.load` finds them. `"auto"`: by size.
        detector: for `"detect"`.
        tta: number of views whose mean is the answer: as it is, mirrored, then small turns.
        seed: of the turns.
        pose: find the mesh of whole images too, for slices by pose.
        limit: evaluate only this many images, evenly spread; 0 means all.
        batch: images in one call of the network.
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
        raise ConfigError(f"the network is asked about one image a time or more, not {batch} (--batch)")
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
        raise ConfigError(f"{predictor.name} cannot cut faces out of photographs; its images must be faces (--faces whole)")
    looks = views(tta, seed)
    described, data = predictor.describe(), about_dataset(dataset)
    if limit:  # a part has another digest than the whole
        data["original"] = None
        data["notes"].append(f"only {len(dataset):,} images, evenly spread")
    identity = {
        "model": {key: value for key, value in described.items() if key in ("name", "version", "sha256", "output")},
        "dataset": {key: data[key] for key in ("name", "split", "protocol", "digest", "images")},
        "faces": mode if mode == "whole" else f"detect by {detector}",
        "views": [str(look) for look in looks],
        "pose": pose,
        "limit": limit,
    }
    with use(device), locked_folder(out):
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
        finder = FaceFinder(mode, detector, mesh=pose or cuts_regions(predictor), threads=threads)
        speed = predict(out, dataset, predictor, names, finder, looks, batch, progress)
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
        raise DatasetError(f"the split {dataset.split!r} of {dataset.name} is empty: nothing to evaluate; name another split")
    annotated = (dataset.label >= 0).any() or any(
        column is not None for column in (dataset.valence, dataset.arousal, dataset.action_units)
    )
    if not annotated:
        raise DatasetError(
            f"no image of the split {dataset.split!r} of {dataset.name} has a label: there is nothing to compare with; "
            "name another split"
        )


def _known_classes(dataset: Dataset) -> tuple[str, ...]:
    return dataset.labels if (dataset.label >= 0).any() else ()


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
