"""What a file of a bundled classifier gives on PublicTest and PrivateTest, as rows of its card."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fer2013_arrays import Fer2013
from mien import cards, metrics
from mien.data.datasets import ferplus
from mien.faces.preprocessing import Preprocess
from mien.labels import FER2013
from mien.metrics.calibration import abstention_threshold, expected_calibration_error
from mien.runtime.onnx import OnnxRuntime
from two_heads import tensor

ACCURACY_WHEN_CERTAIN = 0.8
"""On PublicTest, from which the threshold of abstention follows."""


def answers(runtime: OnnxRuntime, preprocess: Preprocess, split: Fer2013) -> dict[str, np.ndarray]:
    """Return output → (N, classes) probabilities of a split's images."""
    parts = [runtime(part) for part in np.array_split(tensor(preprocess, split.pixels), 16)]
    return {name: np.concatenate([part[name] for part in parts]) for name in runtime.outputs}


def interval(right: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean of (N,) values."""
    sums = metrics.bootstrap(np.stack([right, np.ones(len(right))], 1), seed=seed)
    return metrics.interval(sums[:, 0] / sums[:, 1])


def measured(
    runtime: OnnxRuntime, preprocess: Preprocess, validation: Fer2013, test: Fer2013, threshold: float | None = None
) -> tuple[float, tuple[cards.Measured, ...]]:
    """Measure a network on both splits, official and without leaked images, and print it.

    Returns the threshold of abstention, fitted on validation if it is not given, and the figures.
    """
    rows: list[cards.Measured] = []
    for name, split in (("validation", validation), ("test", test)):
        outputs = answers(runtime, preprocess, split)
        if threshold is None:
            threshold = abstention_threshold(outputs["scores"], validation.label, ACCURACY_WHEN_CERTAIN)
        rows += [*_shares(name, split, outputs, threshold), *_others(name, split, outputs)]
    print(*rows, sep="\n")
    assert threshold is not None
    return threshold, tuple(rows)


def _shares(name: str, split: Fer2013, outputs: dict[str, np.ndarray], threshold: float) -> Iterator[cards.Measured]:
    """Yield the figures that are shares of images, with their intervals."""
    scores = outputs["scores"]
    right, certain = scores.argmax(1) == split.label, scores.max(1) >= threshold
    majority, kept = _majority(split)
    for dataset, metric, values, note in (
        ("fer2013", "accuracy", right, "output scores, official split, single view"),
        ("fer2013", "accuracy", outputs["fer2013"].argmax(1) == split.label, "output fer2013, official split, single view"),
        ("fer2013", "accuracy", right[split.unique], "output scores, images that occur in no other split"),
        (
            "ferplus",
            "accuracy",
            (outputs["ferplus"].argmax(1) == majority)[kept],
            "output ferplus, majority rule, 8 classes, single view",
        ),
        ("fer2013", "coverage", certain, "share of images on which the model does not abstain"),
        ("fer2013", "accuracy when certain", right[certain], "output scores"),
    ):
        value, (low, high) = round(float(values.mean()), 4), interval(values.astype(np.float64))
        ends = {"low": round(low, 4), "high": round(high, 4)}
        yield cards.Measured(dataset=dataset, split=name, metric=metric, value=value, n=len(values), note=note, **ends)


def _others(name: str, split: Fer2013, outputs: dict[str, np.ndarray]) -> Iterator[cards.Measured]:
    """Yield the figures that are of a split as a whole."""
    scores, crowd = outputs["scores"], outputs["ferplus"]
    majority, kept = _majority(split)
    balanced = metrics.uar(metrics.confusion(split.label, scores.argmax(1), len(FER2013)))
    for dataset, metric, value, n, note in (
        ("fer2013", "UAR", balanced, len(scores), "output scores"),
        ("fer2013", "ECE", expected_calibration_error(scores, split.label), len(scores), "output scores, 15 bins"),
        (
            "ferplus",
            "ECE",
            expected_calibration_error(crowd[kept], majority[kept]),
            int(kept.sum()),
            "output ferplus, majority rule, 15 bins",
        ),
    ):
        yield cards.Measured(dataset=dataset, split=name, metric=metric, value=round(float(value), 4), n=n, note=note)


def _majority(split: Fer2013) -> tuple[np.ndarray, np.ndarray]:
    """Return the crowd's choice (N,) and (N,) bool: it made one."""
    distribution, kept = ferplus.targets(split.votes, "majority")
    return distribution.argmax(1), kept
