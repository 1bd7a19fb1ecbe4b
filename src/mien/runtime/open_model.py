"""Open classifiers with their cards."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from .. import cards
from ..cards import FOUND, Card, contracts, input_name, no_weights, sha256
from ..errors import TORCH_SIDE, WeightsError, needs
from ..io.urls import is_url, model_file
from ..registry import lookup
from .devices import Device
from .onnx import Batch, OnnxRuntime
from .pooling import RULES, columns, pooled, selected, votes


class Runtime(Protocol):
    """A network on a device."""

    device: Device  # device of the network

    @property
    def outputs(self) -> Sequence[str]:
        """Names of the outputs."""

    def __call__(self, batch: Batch, /) -> dict[str, np.ndarray]:
        """Return every output by name."""


RUNTIMES: Mapping[str, str] = {
    ".onnx": "mien.runtime.onnx:OnnxRuntime",
    ".safetensors": "mien.models.torch_runtime:TorchRuntime",
    ".xml": "mien.runtime.openvino:OpenvinoRuntime",
}
"""File extension → factory of a `Runtime` from a card and a number of threads, on the selected device."""


def open_model(model: str | Path, threads: int = 1) -> tuple[Card, Runtime]:
    """Open a classifier and its card on the selected device (see `mien.runtime.devices`).

    Args:
        model: name of a bundled model or of the zoo (`zoo:NAME`), a card (`.toml`), a weights file (`.onnx` with an embedded or
            adjacent card, `.safetensors` or OpenVINO `.xml` with an adjacent card), a training run, of which the best weights
            are used, or a URL (`hf://owner/repo@revision`, `https://…/model.onnx#sha256=…`; see `mien.io.urls`).
        threads: threads used inside one call.

    Raises:
        UnknownName: unknown model.
        WeightsError: the card is missing or belongs to another file, or an output on the card is missing.
        MissingExtra: the weights need torch, which is not installed.
        ConfigError: the device is not available.
    """
    if is_url(str(model)):
        model = model_file(str(model))
    path = Path(model)
    if os.path.isdir(path) and str(model) not in cards.bundled():  # noqa: PTH112 - Path.is_dir raises on a name too long
        path = path / "best.toml"
        if not path.is_file():
            message = f"{path.parent} has no best.toml, the card of the best weights of a run; finish at least one epoch"
            raise WeightsError(message, path=path.parent)
    beside = path.with_suffix(".toml")
    has_card = path.suffix in RUNTIMES and os.path.isfile(beside)  # noqa: PTH113 - as above
    if has_card and (path.suffix != ".onnx" or cards.read(beside).file == path.name):
        path = beside  # An exported file next to its source has its own embedded card.
    if path.suffix not in RUNTIMES:
        card = cards.load(path if path.suffix == ".toml" else model)
        runtime = EnsembleRuntime(card, threads) if card.members and not card.file else _runtime(card, threads)
    elif path.suffix == ".onnx" and cards.METADATA_KEY in (runtime := OnnxRuntime(path, threads)).metadata:
        card = cards.parse(runtime.metadata[cards.METADATA_KEY], f"inside {path}")
        card = dataclasses.replace(card, file=path.name, sha256=sha256(path), path=beside)
    elif os.path.isfile(path):  # noqa: PTH113
        message = f"{path} has no card beside it and, as .onnx, inside (metadata {cards.METADATA_KEY}); write {beside.name}"
        raise WeightsError(f"{message}, see docs/howto/own-model.md", path=path, expected=beside)
    else:
        raise no_weights(path)
    if card.kind != "classifier":
        message = f"{card.name} is of kind {card.kind!r}, expected a classifier"
        raise WeightsError(message, value=card.kind, expected="classifier")
    if isinstance(runtime, OnnxRuntime) and isinstance(runtime.faces, int):
        message = f"{card.name} has the fixed batch size {runtime.faces}; export it with a dynamic batch axis"
        raise WeightsError(message, value=runtime.faces)
    if missing := sorted(set(card.outputs.values()) - set(runtime.outputs)):
        message = f"output {missing[0]!r} on the card of {card.name} not found; the network has {', '.join(runtime.outputs)}"
        raise WeightsError(message, value=missing[0], expected=tuple(runtime.outputs))
    return card, runtime


class EnsembleRuntime:
    """The models of an ensemble as one function from a batch to its named outputs.

    Raises WeightsError: the weights of a member are missing, or are not those that the ensemble was made of.
    """

    def __init__(self, card: Card, threads: int = 1) -> None:
        self.card, self.members = card, []
        for each, number in zip(card.members, contracts(card.members), strict=True):
            member, runtime = open_model(card.folder / each.card, threads)
            if member.sha256 != each.sha256:
                message = f"member {each.card} of the ensemble {card.name} has other weights than it was fused from; fuse again"
                path = card.folder / each.card
                raise WeightsError(message, path=path, value=member.sha256, expected=each.sha256)
            names = ["image", *each.regions]
            self.members.append((member, runtime, {name: input_name(number, name) for name in names}))
        self.device = self.members[0][1].device
        self.outputs = list(card.outputs.values())
        self._weights = np.array([each.weight for each in card.members])
        self._regional = np.array([bool(each.regions) for each in card.members])

    def __call__(self, batch: Batch, /) -> dict[str, np.ndarray]:
        """Return every output by name."""
        images = batch if isinstance(batch, Mapping) else {"image": batch}
        shares = votes(self._weights, self._regional, images.get(FOUND))
        outputs = []
        for _, runtime, names in self.members:
            own = {name: images[given] for name, given in names.items()}
            outputs.append(runtime(own if len(own) > 1 else own["image"]))
        found = {}
        for role, name in self.card.outputs.items():
            given = list(zip(self.members, self.card.members, outputs, strict=True))
            if role == "scores":
                scores = [
                    selected(np.asarray(values[member.outputs[each.output]]), columns(self.card.labels, each.labels))
                    for (member, *_), each, values in given
                ]
                rule, temperature = self.card.network.get("rule", RULES[0]), self.card.calibration.temperature
                found[name] = pooled(scores, shares, rule, temperature).astype(np.float32)
            else:
                stacked = np.stack([np.asarray(values[member.outputs[role]]) for (member, *_), _, values in given], 1)
                parts = np.broadcast_to(shares, stacked.shape[:2])[..., None]
                found[name] = ((parts * stacked).sum(1) / parts.sum(1)).astype(np.float32)
        return found


def _runtime(card: Card, threads: int) -> Runtime:
    suffix = Path(card.file).suffix
    if suffix not in RUNTIMES:
        message = f"the card of {card.name} names the file {card.file!r}, expected one of the extensions {', '.join(RUNTIMES)}"
        raise WeightsError(message, value=card.file, expected=tuple(RUNTIMES))
    with needs("train", among=TORCH_SIDE):
        return lookup(suffix, RUNTIMES, "runtime", plugins=False)(card, threads)
