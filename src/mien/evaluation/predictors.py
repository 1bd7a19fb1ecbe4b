"""What can be evaluated: a card with its weights, a Python function, or probabilities that another package left in a file."""

from __future__ import annotations

import dataclasses
import json
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..cards import Card, sha256
from ..data.datasets import Dataset
from ..data.labeled_faces import Face
from ..errors import ConfigError, UnknownName, WeightsError
from ..faces.preprocessing import IMAGE, Preprocess, gray
from ..labels import FER2013, LABEL_SETS, canonical
from ..metrics import checked_probabilities
from ..registry import lookup
from ..runtime.open_model import open_model
from .tta import View


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model says about N faces."""

    probabilities: np.ndarray
    """(N, K) in the order of the predictor's labels."""
    light: np.ndarray
    """(N, 2) mean and standard deviation of the gray levels that it was fed, 0 … 255."""
    valence_arousal: np.ndarray | None = None
    """(N, 2)."""
    action_units: np.ndarray | None = None
    """(N, U) probabilities."""


@runtime_checkable
class Predictor(Protocol):
    """A model under evaluation; one of your own is asked as it is.

    One that answers with more than classes names it in an attribute `roles`: `"valence_arousal"`, `"action_units"`.
    """

    name: str
    """By which reports call it."""
    labels: tuple[str, ...]
    """Classes in the order of its probabilities."""
    threshold: float
    """Confidence below which it abstains."""
    cuts_faces: bool
    """Whether it can be asked about faces in photographs."""

    def prepare(self, data: Dataset) -> None:
        """Look at the dataset before the first question."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what identifies it, as plain values: name, version, digest, output, card."""
        ...

    def __call__(self, faces: Sequence[Face], looks: Sequence[View]) -> Answers:
        """Answer, as the mean over the views."""
        ...


def checked(values: np.ndarray, labels: Sequence[str], name: str) -> np.ndarray:
    """Return probabilities as (N, K) float64.

    Raises:
        WeightsError: they are none, or of other classes; see `mien.metrics.checked_probabilities`.
    """
    try:
        return checked_probabilities(values, labels, name)
    except ValueError as error:
        raise WeightsError(str(error)) from error


def light(crops: Sequence[np.ndarray]) -> np.ndarray:
    """Return (N, 2) mean and standard deviation of the gray levels of (h, w, channels) uint8 images, 0 … 255."""
    levels = [gray(crop) if crop.ndim == 3 and crop.shape[2] == 3 else crop for crop in crops]
    return np.array([[level.mean(), level.std()] for level in levels]).reshape(-1, 2)


PEER = "peer:"
"""`peer:NAME=FILE.npz` is a table of probabilities."""


class StoredPredictor:
    """Probabilities that another package gave for a dataset, in a `.npz` file.

    Arrays: `probs` (N, K); `labels` (K,) names, FER2013's seven in their order without it; `names` (N,) of the images, or
    else rows in the order of the dataset; `y` (N,) labels to check that order by; `speed` images a second, `memory_mb`.

    Args:
        name: by which reports call it.
        path: the file.

    Raises:
        WeightsError: the file is missing or holds no such arrays.
    """

    threshold = 0.0
    cuts_faces = False

    def __init__(self, name: str, path: str | Path) -> None:
        self.name = name
        self.arrays = _arrays(name, path)
        if "probs" not in self.arrays:
            raise WeightsError(f"{path} has no array `probs`; it has: {', '.join(self.arrays) or 'nothing'}")
        self.labels = tuple(canonical(str(one)) for one in self.arrays.get("labels", np.array(FER2013)))
        self.probabilities = checked(self.arrays["probs"], self.labels, f"{path}")
        self.path = Path(path)
        self.rows = np.empty(0, np.int64)

    def prepare(self, data: Dataset) -> None:
        """Find the row of every image.

        Raises:
            WeightsError: the file is about other images.
        """
        if "names" in self.arrays:
            place = {str(name): row for row, name in enumerate(self.arrays["names"].tolist())}
            missing = [str(name) for name in data.names.tolist() if str(name) not in place]
            if missing:
                raise WeightsError(
                    f"{self.path} says nothing about {len(missing):,} of {len(data):,} images, first {missing[0]}; "
                    "give a row for each"
                )
            self.rows = np.array([place[str(name)] for name in data.names.tolist()], np.int64)
        elif len(self.probabilities) != len(data):
            raise WeightsError(
                f"{self.path} has {len(self.probabilities):,} rows for {len(data):,} images and no array `names`; add it"
            )
        else:
            self.rows = np.arange(len(data))
        if "y" in self.arrays:
            self._compare(self.arrays["y"], data)

    def _compare(self, label: np.ndarray, data: Dataset) -> None:
        """Refuse labels (N,) that are others than the dataset's; −1 is "no label" in both."""
        fits = label.shape == (len(self.probabilities),) and label.dtype.kind in "iu"
        if not fits or label.min(initial=0) < -1 or label.max(initial=0) >= len(self.labels):
            raise WeightsError(
                f"{self.path}: `y` must hold {len(self.probabilities):,} numbers of its {len(self.labels)} classes, or −1; "
                f"it has the shape {label.shape} and the type {label.dtype}"
            )
        named, known = (*self.labels, "not labeled"), (*data.labels, "not labeled")  # which −1 points at
        theirs = [named[index] for index in label[self.rows].tolist()]
        ours = [known[index] for index in data.label.tolist()]
        if wrong := [row for row, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b]:
            raise WeightsError(
                f"{self.path} is about other images: row {wrong[0]} is {theirs[wrong[0]]} there, "
                f"{ours[wrong[0]]} here ({len(wrong):,} rows differ); "
                "give the probabilities of this split"
            )

    def describe(self) -> dict[str, Any]:
        """Return its name, digest of the file, and speed and memory if the file says them."""
        more = {key: float(self.arrays[key]) for key in ("speed", "memory_mb", "parameters") if key in self.arrays}
        version = str(self.arrays.get("version", ""))
        return {"name": self.name, "version": version, "sha256": sha256(self.path), "output": "", **more}

    def __call__(self, faces: Sequence[Face], looks: Sequence[View]) -> Answers:
        """Look the answers up.

        Raises:
            ConfigError: more than one view was asked for.
        """
        if len(looks) > 1:
            raise ConfigError(f"{self.name} is a table of probabilities, which has one view; leave out --tta")
        return Answers(self.probabilities[self.rows[[face.row for face in faces]]], light([face.pixels for face in faces]))


def _arrays(name: str, path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of a `.npz` file of probabilities, by name."""
    try:
        with Path(path).open("rb") as file:  # which numpy leaves open where it cannot read it
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise ValueError("it is a single array, .npy")
            return {key: found[key] for key in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"probabilities of {name}: {path} cannot be read ({error}); a .npz with `probs` is needed"
        ) from error


NOT_SCORES = ("valence_arousal", "action_units", "feature")
"""Roles of a card's outputs that are no probabilities of classes."""


class CardPredictor:
    """A classifier with its card, asked exactly as `mien.load` asks it.

    Args:
        card: its card.
        runtime: batch → outputs by name.
        output: role of the card's outputs that is judged: `"scores"`, or a head that is named after a label set.

    Raises:
        ConfigError: the card has no such output, or its classes are not known.
    """

    def __init__(self, card: Card, runtime: Callable[[Any], Mapping[str, np.ndarray]], output: str = "scores") -> None:
        roles = [role for role in card.outputs if role not in NOT_SCORES]
        if output not in roles:
            raise ConfigError(f"{card.name} has no output {output!r}; it has: {', '.join(roles)}")
        if output != "scores" and output not in LABEL_SETS:
            raise ConfigError(f"nothing says which classes the output {output!r} of {card.name} has; it is no label set")
        self.card, self.runtime, self.output, self.roles = card, runtime, output, tuple(card.outputs)
        self.name = card.name
        self.labels = card.labels if output == "scores" else LABEL_SETS[output]
        self.threshold = card.calibration.threshold if output == "scores" else 0.0
        self.preprocess = Preprocess.of(card)
        self.cuts_faces = self.preprocess.cuts_faces
        self.size = _parameters(card)

    def prepare(self, data: Dataset) -> None:
        """Nothing is needed."""

    def describe(self) -> dict[str, Any]:
        """Return name, version, digest of the weights, output and the card itself."""
        return {
            "name": self.name,
            "version": self.card.version,
            "sha256": self.card.sha256,
            "output": self.output,
            "parameters": self.size,
            "card": self.card.to_dict(),
        }

    def crop(self, face: Face) -> dict[str, np.ndarray]:
        """Return name → (h, w, channels) uint8: what the network is fed of a face, by the preprocessing of inference."""
        if face.box is None or face.mesh is None:
            return self.preprocess.take(face.pixels, face.mesh)
        return self.preprocess.cut(face.pixels, face.mesh)

    def __call__(self, faces: Sequence[Face], looks: Sequence[View]) -> Answers:
        """Answer, as the mean over the views.

        Raises:
            WeightsError: the network gives no probabilities, or others than its card says.
        """
        crops = [self.crop(face) for face in faces]
        found: dict[str, np.ndarray] = {}
        wanted = {role: name for role, name in self.card.outputs.items() if role == self.output or role in NOT_SCORES[:2]}
        for look in looks:
            seen = [{name: look(image) for name, image in crop.items()} for crop in crops]
            answer = self.runtime(self.preprocess.batch(seen))
            for role, name in wanted.items():
                found[role] = found.get(role, 0) + np.asarray(answer[name], np.float64) / len(looks)
        return Answers(
            checked(found[self.output], self.labels, self.name),
            light([crop[IMAGE] for crop in crops]),
            found.get("valence_arousal"),
            found.get("action_units"),
        )


def cuts_regions(predictor: Predictor) -> bool:
    """Return whether it is shown eyes, nose and mouth too, for which the mesh of whole images must be found."""
    return isinstance(predictor, CardPredictor) and bool(predictor.preprocess.regions)


class FunctionPredictor:
    """A Python function of your own.

    It takes a list of (H, W, 3) uint8 RGB images and returns (N, K) probabilities; its attribute `labels` names the classes
    in the order of the columns. It is given whole images.

    Args:
        function: the function.
        name: by which reports call it.

    Raises:
        ConfigError: it has no labels.
    """

    threshold = 0.0
    cuts_faces = False

    def __init__(self, function: Callable[[list[np.ndarray]], Any], name: str = "") -> None:
        self.function, self.name = function, name or getattr(function, "__name__", type(function).__name__)
        labels = getattr(function, "labels", None)
        if not labels or isinstance(labels, str):
            raise ConfigError(f"{self.name} has no attribute `labels` that names the classes of its probabilities in order")
        self.labels = tuple(canonical(str(label)) for label in labels)

    def prepare(self, data: Dataset) -> None:
        """Nothing is needed."""

    def describe(self) -> dict[str, Any]:
        """Return its name and labels; a function has no digest."""
        return {"name": self.name, "version": "", "sha256": "", "output": "", "parameters": None}

    def __call__(self, faces: Sequence[Face], looks: Sequence[View]) -> Answers:
        """Answer, as the mean over the views."""
        images = [face.pixels for face in faces]
        means = [
            checked(np.asarray(self.function([look(image) for image in images])), self.labels, self.name) for look in looks
        ]
        return Answers(np.mean(means, 0), light(images))


def open_predictor(model: Any, output: str = "auto", data: Dataset | None = None, threads: int = 1) -> Predictor:
    """Open whatever can be evaluated.

    Args:
        model: name of a bundled model, card, weight file or run, as for `mien.load`; `"peer:NAME=FILE.npz"`; a Python function,
            or `"module:function"`; or a `Predictor`.
        output: role of the card's output; `"auto"` takes the head that bears the name of the dataset, or else the scores.
        data: the dataset, for `"auto"`.
        threads: threads inside one call of the network.

    Raises:
        ConfigError: a peer's file is not named, or the card has no such output.
        MienError: it cannot be opened.
    """
    if isinstance(model, Predictor):
        return model
    if callable(model):
        return FunctionPredictor(model)
    text = str(model)
    if text.startswith(PEER):
        name, equals, path = text.removeprefix(PEER).partition("=")
        if not equals:
            raise ConfigError(f"{text!r}: probabilities of another package are given as {PEER}NAME=FILE.npz")
        return StoredPredictor(name, path)
    if ":" in text and not Path(text).exists():
        return FunctionPredictor(lookup(text, {}, "function"), text)
    card, runtime = open_model(model, threads)
    if output == "auto":
        output = data.name if data is not None and data.name in card.outputs and data.name in LABEL_SETS else "scores"
    return CardPredictor(card, runtime, output)


def _parameters(card: Card) -> int | None:
    """Return the number of parameters that lie in the weight file, where that can be read without torch."""
    try:
        path = card.weights
    except (WeightsError, UnknownName):
        return None
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        return sum(int(np.prod(each["shape"])) for name, each in header.items() if name != "__metadata__")
    try:
        import onnx
    except ModuleNotFoundError:
        return None
    return sum(int(np.prod(tensor.dims)) for tensor in onnx.load(path).graph.initializer)


def with_card(predictor: CardPredictor, **changes: Any) -> CardPredictor:
    """Return the same network fed by a changed card, for trying what it should have been fed."""
    return CardPredictor(dataclasses.replace(predictor.card, **changes), predictor.runtime, predictor.output)
