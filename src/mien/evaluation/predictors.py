"""What can be evaluated: a card with its weights, a Python function, or probabilities that another package left in a file."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..cards import Card
from ..datasets import Dataset
from ..errors import ConfigError, UnknownName, WeightsError
from ..labels import LABEL_SETS, canonical
from ..lookup import lookup
from ..preprocessing import IMAGE, Preprocess
from ..runtime import open_model
from .answers import Answers, Predictor, checked, light
from .faces import Face
from .stored import PEER, StoredPredictor
from .views import View

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
            seen = [{name: look(picture) for name, picture in crop.items()} for crop in crops]
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
    """Return whether it is shown eyes, nose and mouth too, for which the mesh of whole pictures must be found."""
    return isinstance(predictor, CardPredictor) and bool(predictor.preprocess.regions)


class FunctionPredictor:
    """A Python function of your own.

    It takes a list of (H, W, 3) uint8 RGB pictures and returns (N, K) probabilities; its attribute `labels` names the classes
    in the order of the columns. It is given whole pictures.

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
        pictures = [face.pixels for face in faces]
        means = [
            checked(np.asarray(self.function([look(picture) for picture in pictures])), self.labels, self.name)
            for look in looks
        ]
        return Answers(np.mean(means, 0), light(pictures))


def open_predictor(model: Any, output: str = "auto", data: Dataset | None = None, threads: int = 1) -> Predictor:
    """Open whatever can be evaluated.

    Args:
        model: name of a bundled model, card, weight file or run, as for `mien.load`; `"peer:NAME=FILE.npz"`; a Python function,
            or `"module:function"`; or a `Predictor`.
        output: role of the card's output; `"auto"` takes the head that bears the name of the data set, or else the scores.
        data: the data set, for `"auto"`.
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
