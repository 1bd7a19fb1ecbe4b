"""Evaluate a model on a dataset: predictions, metrics with intervals, and a report.

    report = mien.evaluate("mien-base", mien.open_dataset("fer2013", "data/fer2013", "test"), out="out/fer2013")
    report.figures["official"]["accuracy"]      # {"value": 0.6927, "low": …, "high": …}

The output folder holds `predictions.csv` (one row per image), `evaluation.json` (model, dataset, environment), and what is
computed from these two: `metrics.json`, `report.html` and `figures/`.
"""

import contextlib
import datetime
import json
import os
import platform
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..config import differences
from ..data.datasets import Dataset, reader
from ..data.labeled_faces import FaceFinder, Mode, mode_for
from ..errors import ConfigError, DatasetError, UnknownName
from ..io.files import locked_folder, write_errors, write_file
from ..io.provenance import software
from ..registry import lookup
from ..runtime.devices import Device, use
from .predict import compared_classes, face_mode, mapping, predict_batches, save_mistakes
from .predictors import CardPredictor, FunctionPredictor, Predictor, StoredPredictor, check_fold, cuts_regions, open_predictor
from .report import EVALUATION, PREDICTIONS, Report
from .report.predictions import read_predictions
from .tta import Views, views

__all__ = [
    "CardPredictor", "Dataset", "FunctionPredictor", "Mode", "Predictor", "Report", "StoredPredictor", "evaluate",
    "open_predictor",
]  # fmt: skip


def evaluate(
    model: Any,
    dataset: Dataset,
    *,
    out: str | Path,
    output: str = "auto",
    faces: Mode = "auto",
    detector: str = "blazeface",
    tta: Views = 1,
    seed: int = 0,
    pose: bool = False,
    metrics: Sequence[str] = (),
    limit: int = 0,
    batch: int = 64,
    threads: int = 1,
    device: str | Device | None = None,
    overwrite: bool = False,
    page: bool = True,
    command: Sequence[str] = (),
    progress: Callable[[int], None] = lambda rows: None,
) -> Report:
    """Run a model over a dataset and report metrics.

    Rows are written as they are computed; an interrupted evaluation leaves them in `predictions.csv.part`.

    Args:
        model: name of a bundled model, card, `.onnx` or `.safetensors` file, run folder; a Python function that takes a list of
            (H, W, 3) uint8 RGB images, returns (N, K) probabilities and has an attribute `labels`; `"module:function"`; or
            `"peer:NAME=FILE.npz"`.
        dataset: one split, from `mien.open_dataset`.
        out: output folder. A finished evaluation in it is not repeated, only reported again.
        output: output (head) of the model; `"auto"`: the one named after the dataset, otherwise `scores`.
        faces: `"whole"`: each image is one face. `"detect"`: find faces as `mien.load` does. `"auto"`: by image size.
        detector: face detector for `"detect"`.
        tta: number of test-time augmentation views (original, mirrored, then small rotations), or `"ten-crop"`: four corners
            and center, each mirrored too.
        seed: seed of the rotations.
        pose: find the face mesh of whole images too, for metrics by head pose.
        metrics: `"module:attribute"` of your own metrics; see `mien.evaluation.report.metrics.own_metric`.
        limit: use only this many images, evenly spread; 0 means all.
        batch: images in one call of the network.
        threads: threads inside one call.
        device: device of the networks, as for `mien.load`.
        overwrite: replace the evaluation in `out`.
        page: also write `report.html` and `figures/`, which need the extra `eval`.
        command: command line, for the report.
        progress: called with the number of rows done since the last call.

    Raises:
        DatasetError: the split is empty or has no annotations.
        ConfigError: invalid options, `out` holds another evaluation, or a model trained on another fold of the dataset.
        UnknownName: unknown metric.
        WeightsError: the outputs are not probabilities, NaN, or not one for each class.
    """
    out = Path(out)
    if batch < 1:
        raise ConfigError(f"batch must be at least 1, got {batch} (--batch)", value=batch, expected=">= 1")
    if page:
        Report.require_page()
    for metric in metrics:
        lookup(metric, {}, "metric")
    dataset = dataset.evenly(limit)
    where = f"the split {dataset.split!r} of {dataset.name}"
    if not len(dataset):
        raise DatasetError(f"{where} is empty; choose another split", value=dataset.split)
    annotations = (dataset.valence, dataset.arousal, dataset.action_units)
    if not (dataset.label >= 0).any() and all(column is None for column in annotations):
        raise DatasetError(f"{where} has no annotations; choose another split", value=dataset.split)
    with use(device):
        predictor = open_predictor(model, output, dataset, threads)
    check_fold(predictor, dataset)
    predictor.prepare(dataset)
    classes = mapping(predictor.labels, compared_classes(dataset))
    mode = face_mode(predictor, dataset, faces)
    augmentation = views(tta, seed)
    described, data = predictor.describe(), about_dataset(dataset)
    if mode == "whole" and faces == "auto" and mode_for(dataset, "auto", cuts_faces=True) == "detect":
        data["notes"].append(f"photographs, but {predictor.name} has no crop contract: its input was the whole image")
    if limit:  # a subset has another digest than the whole split
        data["original"] = None
        data["notes"].append(f"only {len(dataset):,} images, evenly spread")
    identity = {
        "model": {key: value for key, value in described.items() if key in ("name", "version", "sha256", "output")},
        "dataset": {key: data[key] for key in ("name", "split", "protocol", "digest", "images")},
        "faces": mode if mode == "whole" else f"detect by {detector}",
        "views": [str(view) for view in augmentation],
        "pose": pose,
        "limit": limit,
    }
    with use(device), locked_folder(out):
        if is_finished(out, identity, overwrite=overwrite):
            found = Report.read(out)
            report = Report(out, found.predictions, {**found.about, "metrics": list(metrics)})
            report.write(page=page)
            return report
        finder = FaceFinder(mode, detector, mesh=pose or cuts_regions(predictor), threads=threads)
        part, seconds = out / f"{PREDICTIONS}.part", 0.0
        advice = "free some space, and run the command again"
        with write_errors(part, advice), part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            for number, (table, used) in enumerate(predict_batches(dataset, predictor, classes, finder, augmentation, batch)):
                table.write(file, header=not number)
                seconds += used
                progress(len(table))
        part.replace(out / PREDICTIONS)
        table = read_predictions(out / PREDICTIONS)
        machine, today = (
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            datetime.datetime.now(datetime.UTC),
        )
        environment = {"machine": machine, "date": today.strftime("%Y-%m-%d")}
        if (runs_on := getattr(getattr(predictor, "runtime", None), "device", None)) is not None:
            environment["device"] = str(runs_on)
        speed = {"rows": len(table), "model_seconds": round(seconds, 3), "memory_mb": memory_mb(), "threads": threads}
        about = {
            "schema": 1,
            "identity": identity,
            "model": {**described, "threshold": predictor.threshold},
            "dataset": data,
            "fold": dataset.fold,
            "mapping": {**asdict(classes), "says": classes.says},
            "metrics": list(metrics),
            "command": list(command),
            "environment": software(("numpy", "pillow", "onnxruntime", "torch")) | environment,
            "run": about_run(model),
            "speed": {**speed, "batch": batch},
            "mistakes": save_mistakes(out, table, dataset),
        }
        text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
        write_file(out / EVALUATION, text, errors="surrogateescape")
        report = Report(out, table, json.loads(text))
        report.write(page=page)
        return report


def about_run(model: Any) -> dict[str, Any] | None:
    """Return name, epochs (rows of `metrics.jsonl`) and config of a training run, for a model inside its folder."""
    if not isinstance(model, (str, Path)):
        return None
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    rows = folder / "metrics.jsonl"
    if not rows.is_file() or (not path.is_dir() and path.suffix not in (".safetensors", ".toml", ".onnx")):
        return None
    config = folder / "config.toml"
    return {
        "name": folder.name,
        "rows": [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines() if line],
        "config": tomllib.loads(config.read_text(encoding="utf-8")) if config.is_file() else {},
    }


def about_dataset(data: Dataset) -> dict[str, Any]:
    """Return the description of the data in a report, including its digest (which reads every image once)."""
    try:
        known = reader(data.name)
    except UnknownName:  # made in memory
        known = None
    original = known.fingerprints.get(data.split) if known and data.variant == next(iter(known.protocols)) else None
    return {
        "name": data.name,
        "title": known.title if known else data.name,
        "split": data.split,
        "protocol": data.variant,
        "digest": data.digest,
        "original": None if original is None else data.digest == original,
        "images": len(data),
        "classes": data.counts,
        "layout": data.layout,
        "flaws": list(data.flaws),
        "notes": list(data.notes),
    }


def memory_mb() -> float | None:
    """Return the peak resident memory of this process in MB; None where the system does not report it.

    On Linux `ru_maxrss` includes the parent's memory before exec, so a small program started by a large one would be reported
    as large; `VmHWM` starts with the program.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return round(int(status.partition("VmHWM:")[2].split()[0]) / 1024, 1)
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if platform.system() != "Darwin" else 1024**2), 1)


def is_finished(out: Path, identity: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Return whether a folder holds this evaluation; with `overwrite`, or if it does not, its files are removed.

    Python functions have no digest that would reveal a change, hence `overwrite`. Raises ConfigError for a folder with another
    evaluation, or a corrupt one.
    """
    path = out / EVALUATION
    if path.is_file() and not overwrite:
        try:
            there = json.loads(path.read_text(encoding="utf-8"))["identity"]
            other = differences(there, json.loads(json.dumps(identity)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path} is corrupt; give --overwrite to evaluate again", path=path) from error
        if other:
            key, before, now = other[0]
            message = f"{out} holds another evaluation ({key}: {before!r}, now {now!r})"
            raise ConfigError(f"{message}; give another --out, or --overwrite", path=out, value=now, expected=before)
        if (out / PREDICTIONS).is_file():
            return True
    for name in (EVALUATION, PREDICTIONS):
        (out / name).unlink(missing_ok=True)
    return False
