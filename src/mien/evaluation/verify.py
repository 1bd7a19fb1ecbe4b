"""Compare the metrics that a card claims with measured ones, and test hypotheses about the preprocessing.

Published metrics often differ by preprocessing: swapped channels, another resize, a tighter crop. Each is tested as a
hypothesis on the same images, and reported where it improves the accuracy significantly.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .. import metrics
from ..cards import VALUE_RANGES, Measured
from ..data.datasets import Dataset
from ..data.labeled_faces import Face, Mode, labeled_faces
from ..errors import ConfigError
from ..faces.preprocessing import between
from ..runtime.devices import Device, use
from . import CardPredictor, Report, evaluate, open_predictor
from .predict import finder_for, mapping
from .tta import View

SAME = 5e-5
"""Maximum difference of equal values; cards round to four decimals."""

Change = Callable[[np.ndarray], np.ndarray]
"""(H, W, 3) uint8 RGB image → changed image."""

LEVEL = 0.05
"""Significance level of the corrected p values."""

RANGES: Mapping[str, Mapping[str, Any]] = {
    "values 0 … 1": VALUE_RANGES["unit"],
    "values −1 … 1": VALUE_RANGES["half"],
    "values 0 … 255": {"scale": 1.0, "offset": (0.0,), "std": ()},
    "ImageNet mean and deviation": VALUE_RANGES["imagenet"],
}
"""Name → fields of the input."""

METRICS: Mapping[str, str] = {
    **dict.fromkeys(("accuracy", "uar", "macro_f1", "kappa"), "official"),
    **dict.fromkeys(("nll", "brier", "ece"), "answered"),
    **dict.fromkeys(("coverage", "accuracy_when_certain"), "abstention"),
}
"""Metric of a card, in our spelling → its section in the metrics of a report."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One claimed metric, with its measured value and the ends, low and high, of the 95 % interval of the measurement."""

    metric: str
    claimed: float
    measured: float
    low: float
    high: float

    @property
    def agrees(self) -> bool:
        """Whether the claim is within the interval, or equals the measured value."""
        return self.low <= self.claimed <= self.high or abs(self.claimed - self.measured) <= SAME

    @property
    def says(self) -> str:
        """The claim as a sentence."""
        equal = abs(self.claimed - self.measured) <= SAME
        verdict = "equal" if equal else "agrees" if self.agrees else "does not agree"
        claimed, measured, low, high = (f"{100 * value:.1f}" for value in (self.claimed, self.measured, self.low, self.high))
        return f"{self.metric}: claimed {claimed}, measured {measured} ({low} … {high}): {verdict}"


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Another preprocessing, by name (`"RGB instead of BGR"`): the accuracies before, with that of the card, and after it.

    `p` is that of McNemar's test, after Holm's correction over all hypotheses.
    """

    name: str
    before: float
    after: float
    p: float

    @property
    def better(self) -> bool:
        """Whether it improves the accuracy significantly."""
        return self.after > self.before and self.p < LEVEL

    @property
    def says(self) -> str:
        """The hypothesis as a sentence."""
        return f"accuracy {100 * self.before:.1f} becomes {100 * self.after:.1f} with {self.name}"


@dataclass(frozen=True, slots=True)
class Verification:
    """Result of `verify`: the evaluation, and the claims about this dataset and split.

    `data` is a sentence on whether the data is the published original; `hypotheses` are all tested ones, best first, and
    `tried_on` is the number of images they were tested on.
    """

    report: Report
    claims: tuple[Claim, ...]
    data: str
    hypotheses: tuple[Hypothesis, ...]
    tried_on: int

    @property
    def agrees(self) -> bool:
        """Whether every claim agrees and no hypothesis is better than the preprocessing of the card."""
        return all(claim.agrees for claim in self.claims) and not any(each.better for each in self.hypotheses)


def verify(
    model: Any,
    dataset: Dataset,
    *,
    out: str | Path,
    claims: Mapping[str, float] | None = None,
    images: int = 1000,
    output: str = "auto",
    faces: Mode = "auto",
    detector: str = "blazeface",
    threads: int = 1,
    device: str | Device | None = None,
    progress: Callable[[int], None] = lambda rows: None,
    **options: Any,
) -> Verification:
    """Evaluate a model with a card in the folder `out`, and compare with the claims of its card.

    `claims`, metric → value in 0 … 1, replace those of the card. The `output` `"auto"` is the one named after the dataset if
    the card has claims about it, otherwise the scores. Hypotheses are tested on that many `images`, evenly spread; 0 tests
    none. `progress` is called with the number of rows done since the last call; other arguments are those of `mien.evaluate`.
    Raises ConfigError: the card has no claims about this dataset, or a claim has an unknown metric.
    """
    with use(device):
        predictor = open_predictor(model, output, dataset, threads)
        if not isinstance(predictor, CardPredictor):
            message = f"{predictor.name} has no card with claims to verify; name a model with a card"
            raise ConfigError(message, value=predictor.name)
        wanted = dict(claims or {}) or _claimed(predictor.card.measured, dataset, predictor.output)
        if not wanted and output == "auto" and predictor.output != "scores":
            predictor = CardPredictor(predictor.card, predictor.runtime)
            wanted = _claimed(predictor.card.measured, dataset, "scores")
    if not wanted:
        data = f"{dataset.name} {dataset.split}"
        about = f"{data}, output {predictor.output}, {len(dataset):,} images"
        message = f"the card of {predictor.name} has no claims about {about}; give the claim with --claim accuracy=60.4"
        raise ConfigError(message, value=data)
    if unknown := [name for name in wanted if _spelling(name) not in METRICS]:
        message = f"unknown metric {unknown[0]!r} (expected {', '.join(METRICS)})"
        raise ConfigError(message, value=unknown[0], expected=tuple(METRICS))
    shared: dict[str, Any] = {"faces": faces, "detector": detector, "threads": threads, "device": device}
    report = evaluate(model, dataset, out=out, output=predictor.output, page=False, progress=progress, **shared, **options)
    with use(device):
        tried, count = _hypotheses(predictor, dataset, faces, detector, images, threads) if images else ((), 0)
    compared = []
    for name, value in wanted.items():
        metric = _spelling(name)
        found = report.figures[METRICS[metric]][metric]
        ends = (np.nan if found[end] is None else found[end] for end in ("value", "low", "high"))
        compared.append(Claim(metric.replace("_", " "), value, *ends))
    return Verification(report, tuple(compared), _data(report), tried, count)


def _claimed(measured: Sequence[Measured], dataset: Dataset, output: str) -> dict[str, float]:
    """Return the claims of a card about this split with this number of images, and this output."""
    found: dict[str, float] = {}
    for each in measured:
        name = _spelling(each.metric)
        head = re.search(r"output (\w+)", each.note)
        right_rows = each.n == len(dataset) or name == "accuracy_when_certain"
        right_head = (head[1] if head else "scores") == output
        if (each.dataset, each.split) == (dataset.name, dataset.split) and name in METRICS and right_rows and right_head:
            found.setdefault(name, each.value)
    return found


def _spelling(metric: str) -> str:
    return metric.strip().lower().replace("-", "_").replace(" ", "_")


def _data(report: Report) -> str:
    data = report.about["dataset"]
    name, digest = f"{data['name']} {data['split']}", f"digest {data['digest'][:12]}"
    if data["original"] is None:
        return f"{name}, {digest}; the digest of the original is unknown"
    if data["original"]:
        return f"{name} is the published original ({digest})"
    return f"{name} differs from the published original ({digest}), so metrics may differ"


def variants(predictor: CardPredictor, mode: str) -> Iterator[tuple[str, CardPredictor, Change]]:
    """Yield the hypotheses: a name, the network with a changed card, and a function of the image before it."""
    card = predictor.card
    fed, crop = card.input, card.crop
    assert fed is not None

    def changed(name: str, **fields: Any) -> tuple[str, CardPredictor, Change]:
        return name, CardPredictor(replace(card, **fields), predictor.runtime, predictor.output), np.asarray

    inside = fed.dtype == "uint8"  # Preprocessing inside the network cannot be changed from here.
    if fed.color in ("rgb", "bgr") and not inside:
        other = "bgr" if fed.color == "rgb" else "rgb"
        yield changed(f"{other.upper()} instead of {fed.color.upper()}", input=replace(fed, color=other))
    if fed.color in ("rgb", "bgr"):
        yield "gray images", predictor, lambda pixels: np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))
    if mode == "whole":
        resize = "cv2-bilinear" if fed.resize == "pil-bilinear" else "pil-bilinear"
        yield changed(f"{resize} resizing", input=replace(fed, resize=resize))
        for share in (0.9, 0.8):
            yield f"the crop tightened to {share:.0%}", predictor, lambda pixels, share=share: _center(pixels, share)
        yield "a margin of 10 % around the crop", predictor, _margin
    elif crop is not None:
        for margin in (0.8, 0.9, 1.1, 1.25):
            yield changed(f"crops of {margin:.0%} of the side", crop=replace(crop, margin=crop.margin * margin))
    equalized = lambda pixels: np.asarray(ImageOps.equalize(Image.fromarray(pixels).convert("L")).convert("RGB"))  # noqa: E731
    yield "histogram equalization", predictor, equalized
    for name, fields in () if inside else RANGES.items():
        other = replace(fed, **fields)
        if len(other.offset) <= predictor.preprocess.channels and not np.allclose(between(fed, other), [[1], [0]], atol=1e-3):
            yield changed(name, input=other)


def _hypotheses(
    predictor: CardPredictor, dataset: Dataset, faces: Mode, detector: str, images: int, threads: int
) -> tuple[tuple[Hypothesis, ...], int]:
    some = dataset.evenly(images)
    finder = finder_for(predictor, some, faces, detector, threads=threads)
    classes = mapping(predictor.labels, some.labels)
    tried = [("", predictor, np.asarray), *variants(predictor, finder.mode)]
    right: dict[str, list[bool]] = {name: [] for name, _, _ in tried}
    for batch, truth in labeled_faces(some, finder, classes.unknown):
        for name, fed, change in tried if batch else ():
            outputs = fed([_changed(face, change) for face in batch], (View(),))
            predicted = classes(outputs.probabilities).argmax(1).tolist()
            right[name] += [classes.classes[index] == label for index, label in zip(predicted, truth, strict=True)]
    base = np.array(right.pop(""), bool)
    if not len(base):
        return (), 0
    p = metrics.holm([metrics.mcnemar(base, np.array(values)) for values in right.values()])
    after = [float(np.mean(values)) for values in right.values()]
    found = map(Hypothesis, right, [float(base.mean())] * len(p), after, p)
    return tuple(sorted(found, key=lambda each: -each.after)), len(base)


def _changed(face: Face, change: Change) -> Face:
    """Return a face with changed pixels; after cropping or padding by the same width on all sides its mesh moves along."""
    pixels = change(face.pixels)
    grown = np.array(pixels.shape[1::-1]) - face.pixels.shape[1::-1]
    if face.mesh is None or not grown.any():
        return replace(face, pixels=pixels)
    mesh = face.mesh.copy()
    mesh[:, :2] += grown / 2
    return replace(face, pixels=pixels, mesh=mesh)


def _center(pixels: np.ndarray, share: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    top, left = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    return np.ascontiguousarray(pixels[top : height - top, left : width - left])


def _margin(pixels: np.ndarray) -> np.ndarray:
    rows, columns = round(pixels.shape[0] / 10), round(pixels.shape[1] / 10)
    return np.pad(pixels, ((rows, rows), (columns, columns), (0, 0)), mode="edge")
