"""Models under evaluation: a card with its weights, a Python function, or probabilities of another package in a file."""

import contextlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..cards import ZOO, Card, sha256
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
class Outputs:
    """Outputs of a model for N faces."""

    probabilities: np.ndarray  # (N, K) in the order of the predictor's labels
    light: np.ndarray  # (N, 2) mean and standard deviation of the gray levels of its input, 0 … 255
    valence_arousal: np.ndarray | None = None  # (N, 2)
    action_units: np.ndarray | None = None  # (N, U) probabilities


@runtime_checkable
class Predictor(Protocol):
    """A model under evaluation; objects of your own that have these attributes are used as they are.

    A multi-task model lists its further outputs in an attribute `roles`: `"valence_arousal"`, `"action_units"`.
    """

    name: str
    """Name in reports."""
    labels: tuple[str, ...]
    """Classes in the order of its probabilities."""
    threshold: float = 0.0
    """Confidence below which it abstains."""
    cuts_faces: bool = False
    """Whether it can crop faces from photographs."""

    def prepare(self, data: Dataset) -> None:
        """Prepare for a dataset, before the first call; nothing by default."""
        return

    def describe(self) -> dict[str, Any]:
        """Return its identity as plain values: name, version, digest, output, card."""

    def __call__(self, faces: Sequence[Face], views: Sequence[View]) -> Outputs:
        """Return the outputs, averaged over the views."""


def checked(values: np.ndarray, labels: Sequence[str], name: str) -> np.ndarray:
    """Return probabilities as (N, K) float64; raises WeightsError unless they are probabilities of these classes."""
    try:
        return checked_probabilities(values, labels, name)
    except ValueError as error:
        raise WeightsError(str(error)) from error


def light(crops: Sequence[np.ndarray]) -> np.ndarray:
    """Return (N, 2) mean and standard deviation of the gray levels of (h, w, channels) uint8 images, 0 … 255."""
    levels = [gray(crop) if crop.ndim == 3 and crop.shape[2] == 3 else crop for crop in crops]
    return np.array([[level.mean(), level.std()] for level in levels]).reshape(-1, 2)


PEER = "peer:"  # prefix of a table of probabilities: `peer:NAME=FILE.npz`


def split_output(model: Any) -> tuple[Any, str]:
    """Return a model without the output that an `@` adds to its name, and the output.

    An existing file may have an `@`. The first of an hf:// address is that of its revision.
    """
    text = str(model)
    revision = 1 if text.startswith("hf://") else 0
    if not isinstance(model, (str, Path)) or text.startswith(PEER) or text.count("@") <= revision or Path(text).exists():
        return model, ""
    name, _, output = text.rpartition("@")
    return name, output


class StoredPredictor(Predictor):
    """Probabilities of another package for a dataset, in a `.npz` file.

    Arrays: `probs` (N, K); `labels` (K,) names, default FER2013's seven; `names` (N,) of the images, default the order of the
    dataset; `y` (N,) labels to check that order; `speed` images per second, `memory_mb`. Raises WeightsError: the file is
    missing, corrupt or lacks `probs`.
    """

    def __init__(self, name: str, path: str | Path) -> None:
        self.name = name
        self.arrays = _arrays(name, path)
        if "probs" not in self.arrays:
            raise WeightsError(f"{path} has no array `probs`; expected it among {', '.join(self.arrays) or 'nothing'}")
        self.labels = tuple(canonical(str(one)) for one in self.arrays.get("labels", np.array(FER2013)))
        self.probabilities = checked(self.arrays["probs"], self.labels, f"{path}")
        self.path = Path(path)
        self.rows = np.empty(0, np.int64)

    def prepare(self, data: Dataset) -> None:
        """Find the row of every image; raises WeightsError if the file has other images."""
        if "names" in self.arrays:
            place = {str(name): row for row, name in enumerate(self.arrays["names"].tolist())}
            if missing := [str(name) for name in data.names.tolist() if str(name) not in place]:
                problem = f"{len(missing):,} of {len(data):,} images are missing, first {missing[0]}; add their rows"
                raise WeightsError(f"{self.path}: {problem}", path=self.path, value=missing[0])
            self.rows = np.array([place[str(name)] for name in data.names.tolist()], np.int64)
        elif (rows := len(self.probabilities)) != (expected := len(data)):
            problem = f"expected {expected:,} rows, got {rows:,}; add the array `names`"
            raise WeightsError(f"{self.path}: {problem}", path=self.path, value=rows, expected=expected)
        else:
            self.rows = np.arange(len(data))
        if "y" in self.arrays:
            self._compare(self.arrays["y"], data)

    def _compare(self, label: np.ndarray, data: Dataset) -> None:
        """Refuse labels (N,) that differ from the dataset's; −1 means "not labeled" in both."""
        fits = label.shape == (len(self.probabilities),) and label.dtype.kind in "iu"
        if not fits or label.min(initial=0) < -1 or label.max(initial=0) >= len(self.labels):
            wanted = f"{len(self.probabilities):,} integers from −1 to {len(self.labels) - 1}"
            message = f"{self.path}: `y` must be {wanted}, got shape {label.shape} and type {label.dtype}"
            raise WeightsError(message, path=self.path, value=label.shape)
        theirs = np.array([*self.labels, "not labeled"])[label[self.rows]]  # the index −1 is the last entry
        ours = np.array([*data.labels, "not labeled"])[data.label]
        if len(wrong := np.flatnonzero(theirs != ours)):
            row = int(wrong[0])
            found, wanted = str(theirs[row]), str(ours[row])
            differs = f"`y` is {found} in row {row}, the dataset has {wanted} ({len(wrong):,} rows differ)"
            message = f"{self.path} belongs to other images: {differs}; use the probabilities of this split"
            raise WeightsError(message, path=self.path, line=row, value=found, expected=wanted)

    def describe(self) -> dict[str, Any]:
        """Return its name, digest of the file, and speed and memory if the file has them."""
        more = {key: float(self.arrays[key]) for key in ("speed", "memory_mb", "parameters") if key in self.arrays}
        version = str(self.arrays.get("version", ""))
        return {"name": self.name, "version": version, "sha256": sha256(self.path), "output": "", **more}

    def __call__(self, faces: Sequence[Face], views: Sequence[View]) -> Outputs:
        """Look the probabilities up; raises ConfigError for more than one view."""
        if len(views) > 1:
            message = f"{self.name} is a table of probabilities and has one view, got {len(views)}; omit --tta"
            raise ConfigError(message, value=len(views), expected=1)
        return Outputs(self.probabilities[self.rows[[face.row for face in faces]]], light([face.pixels for face in faces]))


def _arrays(name: str, path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of a `.npz` file of probabilities, by name."""
    try:
        with Path(path).open("rb") as file:  # numpy leaves a path that it cannot read open
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise ValueError("a single array, .npy")
            return {key: found[key] for key in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        message = f"probabilities of {name}: {path} cannot be read ({error}); expected an .npz with `probs`"
        raise WeightsError(message, path=path) from error


NOT_SCORES = ("valence_arousal", "action_units", "feature")  # roles of a card's outputs that are not class probabilities


class CardPredictor(Predictor):
    """A classifier with its card, with the preprocessing of `mien.load`.

    `runtime` maps a batch to outputs by name; the evaluated `output` is `"scores"`, or a head named after a label set. Raises
    ConfigError: the card has no such output, or its classes are unknown.
    """

    def __init__(self, card: Card, runtime: Callable[[Any], Mapping[str, np.ndarray]], output: str = "scores") -> None:
        roles = [role for role in card.outputs if role not in NOT_SCORES]
        if output not in roles:
            message = f"{card.name}: unknown output {output!r} (expected {', '.join(roles)})"
            raise ConfigError(message, value=output, expected=roles)
        labels = card.labels if output == "scores" else card.heads.get(output, LABEL_SETS.get(output))
        if labels is None:
            message = f"the classes of the output {output!r} of {card.name} are unknown; write them under heads of the card"
            raise ConfigError(message, value=output, expected=tuple(LABEL_SETS))
        self.card, self.runtime, self.output, self.roles = card, runtime, output, tuple(card.outputs)
        self.name = card.name
        self.labels = labels
        self.threshold = card.calibration.threshold if output == "scores" else 0.0
        self.preprocess = Preprocess.of(card)
        self.cuts_faces = self.preprocess.cuts_faces

    def describe(self) -> dict[str, Any]:
        """Return name, version, digest of the weights, output and the card itself."""
        return {
            "name": self.name,
            "version": self.card.version,
            "sha256": self.card.sha256,
            "output": self.output,
            **_costs(self.card, self.runtime),
            "card": self.card.to_dict(),
        }

    def crop(self, face: Face) -> dict[str, np.ndarray]:
        """Return name → (h, w, channels) uint8: the inputs of the network for a face, by the preprocessing of inference."""
        if face.box is None or face.mesh is None:
            return self.preprocess.take(face.pixels, face.mesh)
        return self.preprocess.cut(face.pixels, face.mesh)

    def __call__(self, faces: Sequence[Face], views: Sequence[View]) -> Outputs:
        """Return the outputs, averaged over the views; WeightsError: the scores are not probabilities of the card's classes."""
        crops = [self.crop(face) for face in faces]
        found: dict[str, np.ndarray] = {}
        wanted = {role: name for role, name in self.card.outputs.items() if role == self.output or role in NOT_SCORES[:2]}
        for view in views:
            seen = [{name: view(image) for name, image in crop.items()} for crop in crops]
            outputs = self.runtime(self.preprocess.batch(seen))
            for role, name in wanted.items():
                found[role] = found.get(role, 0) + np.asarray(outputs[name], np.float64) / len(views)
        probabilities = checked(found[self.output], self.labels, self.name)
        others = found.get("valence_arousal"), found.get("action_units")
        return Outputs(probabilities, light([crop[IMAGE] for crop in crops]), *others)


def check_fold(predictor: Predictor, data: Dataset) -> None:
    """Raise ConfigError for a model of another fold of the dataset, whose training images would be test images."""
    card = getattr(predictor, "card", None)
    trained_here = card is not None and f"{data.name}, {data.variant}" in card.data.split("; ")
    if not trained_here or data.fold is None or "fold" not in card.training:
        return
    (ours, of), theirs = data.fold, int(card.training["fold"])
    trained = (theirs, folds := int(card.training.get("folds", of)))
    if trained != data.fold:
        both = f"{card.name} was trained on fold {theirs} of {folds} of {data.name}, and this is fold {ours} of {of}"
        message = f"{both}: its training images would be test images; give --folds {folds} --fold {theirs}"
        raise ConfigError(message, value=data.fold, expected=trained)


def cuts_regions(predictor: Predictor) -> bool:
    """Return whether the model reads eyes, nose and mouth too, which need the face mesh of whole images."""
    return isinstance(predictor, CardPredictor) and bool(predictor.preprocess.regions)


class FunctionPredictor(Predictor):
    """A Python function of your own from a list of (H, W, 3) uint8 RGB images to (N, K) probabilities.

    Its attribute `labels` names the classes in the order of the columns; without it ConfigError is raised.
    """

    def __init__(self, function: Callable[[list[np.ndarray]], Any], name: str = "") -> None:
        self.function, self.name = function, name or getattr(function, "__name__", type(function).__name__)
        labels = getattr(function, "labels", None)
        if not labels or isinstance(labels, str):
            message = f"{self.name} has no attribute `labels`; set it to the classes in the order of its probabilities"
            raise ConfigError(message, value=labels, expected="a sequence of class names")
        self.labels = tuple(canonical(str(label)) for label in labels)

    def describe(self) -> dict[str, Any]:
        """Return its name and labels; a function has no digest."""
        return {"name": self.name, "version": "", "sha256": "", "output": "", "parameters": None}

    def __call__(self, faces: Sequence[Face], views: Sequence[View]) -> Outputs:
        """Return the outputs, averaged over the views."""
        images = [face.pixels for face in faces]
        means = [
            checked(np.asarray(self.function([view(image) for image in images])), self.labels, self.name) for view in views
        ]
        return Outputs(np.mean(means, 0), light(images))


def open_predictor(model: Any, output: str = "auto", data: Dataset | None = None, threads: int = 1) -> Predictor:
    """Open a model for evaluation: a bundled model, card, weight file or run, as for `mien.load`, or one of your own.

    Own ones are `"peer:NAME=FILE.npz"`, a Python function, `"module:function"`, or a `Predictor`. The output `"auto"` is the
    head named after the dataset `data` (FER2013's own labels for a model whose `scores` are the labels of many annotators),
    otherwise `scores`. `threads` are those inside one call of the network. Raises ConfigError: a peer without a file, or an
    output that the card does not have; MienError: the model cannot be opened.
    """
    if isinstance(model, Predictor):
        return model
    if callable(model):
        return FunctionPredictor(model)
    text = str(model)
    if text.startswith(PEER):
        name, equals, path = text.removeprefix(PEER).partition("=")
        if not equals:
            raise ConfigError(f"invalid model {text!r}: expected {PEER}NAME=FILE.npz", value=text)
        return StoredPredictor(name, path)
    if ":" in text and not text.startswith(ZOO) and not Path(text).exists():
        return FunctionPredictor(lookup(text, {}, "function"), text)
    card, runtime = open_model(model, threads)
    if output == "auto":
        known = {*card.outputs} & {*LABEL_SETS, *card.heads}
        output = data.name if data is not None and data.name in known else "scores"
    return CardPredictor(card, runtime, output)


def _costs(card: Card, runtime: Any) -> dict[str, int | None]:
    """Return parameters (without buffers), and multiply-accumulates of one face at the card's size, as far as known."""
    network = getattr(runtime, "network", None)
    if network is not None:
        from ..models.torch_runtime import multiply_accumulates

        preprocess = Preprocess.of(card)
        face = runtime.tensors(preprocess.batch([preprocess.take(np.zeros((*preprocess.size, 3), np.uint8))]))
        return {
            "parameters": sum(each.numel() for each in network.parameters()),
            "macs": multiply_accumulates(network, face)[0],
        }
    parameters = None
    with contextlib.suppress(ModuleNotFoundError, WeightsError, UnknownName):  # onnx is not installed, or the card has no file.
        import onnx

        if card.file.endswith(".onnx"):
            parameters = sum(int(np.prod(tensor.dims)) for tensor in onnx.load(card.weights).graph.initializer)
    return {"parameters": parameters, "macs": None}
