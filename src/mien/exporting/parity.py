"""Compare an exported file with its source: outputs on faces of the bundled photo, accuracy on a dataset, speed."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cards import FOUND, Card
from ..data.datasets import Dataset
from ..data.labeled_faces import found_faces
from ..errors import DatasetError, ExportError
from ..evaluation.predict import finder_for, predict_all
from ..evaluation.predictors import CardPredictor
from ..evaluation.report.metrics import measure
from ..faces.preprocessing import IMAGE, Preprocess
from ..io.images import read_image, sample
from ..models.torch_runtime import FEATURE
from ..runtime.onnx import Batch
from ..runtime.open_model import Runtime

BATCHES = (1, 2, 7)
TOLERANCES: Mapping[str | None, float | None] = {"fp32": 1e-4, "fp16": 1e-2, "int8": None, None: 1e-4}
"""Precision → maximum difference of an output: absolute, or relative to the largest value for the feature. int8 is checked by
accuracy instead. None: unchanged precision."""
ROUNDED = 5e-2  # the same for 8-bit networks in another runtime
FACE = (190, 40, 150)  # left, top and side of the face in the bundled photo
ROUNDS, SECONDS, BATCH = 5, 0.3, 8  # rounds, seconds per round and batch size of the speed measurement


@dataclass(frozen=True, slots=True)
class Figures:
    """Measurements of one file."""

    file: str  # its name
    precision: str  # precision of its weights
    size: int  # bytes
    speed: float | None = None  # images per second of the network, without preprocessing
    accuracy: float | None = None  # accuracy on the validation images
    low: float | None = None  # lower end of its 95 % interval
    high: float | None = None  # upper end
    ece: float | None = None  # expected calibration error on the same images
    n: int | None = None  # number of these images


def faces(count: int) -> list[np.ndarray]:
    """Return (S, S, 3) uint8 RGB crops around the face of the bundled photo, shifted, scaled and mirrored."""
    pixels = read_image(sample()).pixels
    left, top, side = FACE
    found = []
    for number in range(count):
        wide = side + 23 * (number % 4)
        x, y = left - 11 * (number % 3), top + 7 * (number % 5)
        window = pixels[y : y + wide, x : x + wide]
        found.append(np.ascontiguousarray(window[:, ::-1] if number % 2 else window))
    return found


def largest_difference(card: Card, source: Runtime, exported: Card, file: Runtime, limit: float | None) -> dict[str, float]:
    """Return role → largest difference of the outputs of two networks; ExportError above the limit, for NaN, another shape."""
    found: dict[str, float] = {}
    before, after = Preprocess.of(card), Preprocess.of(exported)
    for count in BATCHES:
        images = faces(count)
        wanted, given = source(_batch(before, images)), file(_batch(after, images))
        scores = wanted[card.outputs["scores"]]
        classes, labels = scores.shape[-1], len(card.labels)
        if classes != labels:
            message = f"the card of {card.name} names {labels} classes, but the network has {classes}; fix its labels"
            raise ExportError(message, value=classes, expected=labels)
        roles = {FEATURE: FEATURE} if FEATURE in wanted else {}
        pairs = [(role, wanted[name], given[exported.outputs[role]]) for role, name in (roles | dict(card.outputs)).items()]
        if after.raw and not after.regions:  # Images may have any size.
            single = [file(image[None])[exported.outputs["scores"]] for image in images]
            pairs.append(("scores", scores, np.concatenate(single)))
        for role, left, right in pairs:
            if left.shape != right.shape or not np.isfinite(right).all():
                problem = "NaN" if left.shape == right.shape else f"the shape {right.shape} instead of {left.shape}"
                message = f"the exported {role} have {problem} at batch size {count}; nothing was written"
                raise ExportError(message, value=role)
            unit = max(1.0, float(np.abs(left).max())) if role == FEATURE else 1.0
            found[role] = max(found.get(role, 0.0), float(np.abs(left - right).max()) / unit)
    role, worst = max(found.items(), key=lambda each: each[1])
    if limit is not None and not worst <= limit:
        message = f"the file differs from its source by {worst:.1e} in {role}, more than {limit:.0e}; nothing was written"
        raise ExportError(f"{message}. Export it with more precision", value=worst, expected=limit)
    return found


def _batch(preprocess: Preprocess, images: Sequence[np.ndarray]) -> Batch:
    """Return the inputs for these faces; for ensembles with regions every second face has landmarks."""
    batch = preprocess.batch([preprocess.take(image) for image in images])
    if isinstance(batch, dict) and FOUND in batch:
        batch[FOUND] = (np.arange(len(images)) % 2).astype(np.float32)
    return batch


def accuracy(card: Card, runtime: Runtime, data: Dataset) -> dict[str, Any]:
    """Return accuracy with its interval, calibration error and number of images, as `mien.evaluate` computes them."""
    figures = measure(predict_all(CardPredictor(card, runtime), data))
    official, ece = figures["official"], figures["answered"]["ece"]["value"]
    accuracy, low, high = (official["accuracy"][key] for key in ("value", "low", "high"))
    return {"accuracy": accuracy, "low": low, "high": high, "ece": ece, "n": official["n"]}


def speeds(networks: Sequence[tuple[Card, Runtime]]) -> list[float]:
    """Return images per second of each network: medians of alternating rounds, so that all see the same load."""
    batches = [_batch(Preprocess.of(card), faces(BATCH)) for card, _ in networks]
    seconds: list[list[float]] = [[] for _ in networks]
    for _ in range(ROUNDS + 1):
        for (_, run), batch, kept in zip(networks, batches, seconds, strict=True):
            started, calls = time.perf_counter(), 0
            while not calls or time.perf_counter() - started < SECONDS:
                run(batch)
                calls += 1
            kept.append((time.perf_counter() - started) / calls)
    return [BATCH / statistics.median(kept[1:]) for kept in seconds]  # The first round warms up.


def batches_of(card: Card, runtime: Runtime, data: Dataset, count: int) -> list[dict[str, np.ndarray]]:
    """Return the inputs, input → (n, C, H, W), for a random sample of `count` images; raises DatasetError without any face."""
    predictor, some = CardPredictor(card, runtime), data.take(np.sort(np.random.default_rng(0).permutation(len(data))[:count]))
    find = finder_for(predictor, some)
    found: list[dict[str, np.ndarray]] = []
    for first in range(0, len(some), 32):
        part = found_faces(some, find, range(first, min(first + 32, len(some))))
        if crops := [predictor.crop(face) for face in part.values()]:
            fed = predictor.preprocess.batch(crops)
            found.append(dict(fed) if isinstance(fed, Mapping) else {IMAGE: fed})
    if not found:
        where = f"{len(some)} images of {data.name} {data.split}"
        raise DatasetError(f"no face found in {where}; activation ranges need faces, use other images")
    return found
