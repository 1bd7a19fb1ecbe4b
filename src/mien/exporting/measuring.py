"""Size, speed and accuracy of exported files."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..cards import Card
from ..data.datasets import Dataset
from ..data.labeled_faces import FaceFinder, mode_for
from ..errors import DatasetError
from ..evaluation.predict import predict_all
from ..evaluation.predictors import CardPredictor
from ..evaluation.report.metrics import measure
from ..faces.preprocessing import Preprocess
from ..runtime.open_model import Runtime
from .parity import faces

ROUNDS, SECONDS, BATCH = 5, 0.3, 8


@dataclass(frozen=True, slots=True)
class Figures:
    """Measurements of one file."""

    file: str
    """Its name."""
    precision: str
    """Of its weights."""
    size: int
    """Bytes."""
    speed: float | None = None
    """Images per second of the network, without preprocessing."""
    accuracy: float | None = None
    """Accuracy on the validation images."""
    low: float | None = None
    """Lower end of its 95 % interval."""
    high: float | None = None
    """Upper end."""
    ece: float | None = None
    """Calibration error there."""
    n: int | None = None
    """Number of these images."""


def speeds(networks: Sequence[tuple[Card, Runtime]]) -> list[float]:
    """Return images per second of each network: medians of rounds in which the networks take turns, under the same load."""
    batches = []
    for card, _ in networks:
        preprocess = Preprocess.of(card)
        batches.append(preprocess.batch([preprocess.take(image) for image in faces(BATCH)]))
    seconds: list[list[float]] = [[] for _ in networks]
    for number in range(ROUNDS + 1):
        for (_, run), batch, kept in zip(networks, batches, seconds, strict=True):
            started, calls = time.perf_counter(), 0
            while not calls or time.perf_counter() - started < SECONDS:
                run(batch)
                calls += 1
            if number:  # the first round warms up
                kept.append((time.perf_counter() - started) / calls)
    return [BATCH / statistics.median(kept) for kept in seconds]


def judged(card: Card, runtime: Runtime, data: Dataset) -> dict[str, Any]:
    """Return accuracy with its interval, calibration error and number of images, as `mien.evaluate` computes them."""
    figures = measure(predict_all(CardPredictor(card, runtime), data))
    accuracy = figures["official"]["accuracy"]
    return {
        "accuracy": accuracy["value"],
        "low": accuracy["low"],
        "high": accuracy["high"],
        "ece": figures["answered"]["ece"]["value"],
        "n": figures["official"]["n"],
    }


def batches_of(card: Card, runtime: Runtime, data: Dataset, count: int, batch: int = 32) -> list[dict[str, np.ndarray]]:
    """Return the inputs of a network for `count` images of a dataset, chosen at random with a fixed seed: input → (n, C, H, W).

    Raises:
        DatasetError: no face is found.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(data))[:count])
    predictor, some = CardPredictor(card, runtime), data.take(rows)
    mode = mode_for(some, "auto", cuts_faces=predictor.cuts_faces)
    find = FaceFinder(mode, "blazeface", mesh=bool(predictor.preprocess.regions))
    found: list[dict[str, np.ndarray]] = []
    for first in range(0, len(some), batch):
        samples = [some[row] for row in range(first, min(first + batch, len(some)))]
        seen = find(list(range(len(samples))), samples, [sample.read() for sample in samples])
        crops = [predictor.crop(face) for face in seen if face is not None]
        if crops:
            fed = predictor.preprocess.batch(crops)
            found.append(dict(fed) if isinstance(fed, Mapping) else {"image": fed})
    if not found:
        raise DatasetError(
            f"no face found in {len(some)} images of {data.name} {data.split}; activation ranges need faces, use other images"
        )
    return found
