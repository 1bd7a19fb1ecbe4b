"""Run a network file: (N, C, H, W) in, named arrays out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from . import cards
from .cards import Card
from .errors import WeightsError
from .weights import sha256


def open_session(model: str | Path | bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """Open an ONNX file (or its bytes) on the CPU.

    Worker threads do not spin while idle, so several sessions share cores kindly, and the number of threads is what
    was asked for instead of the number of cores.

    Args:
        model: path of the file, or its content.
        threads: threads used inside one call; 0 lets the runtime choose.

    Raises:
        WeightsError: the file is missing or no valid ONNX model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Processors without VNNI add pairs of 8-bit products in 16 bits, which overflow: mien-base then loses two points.
    options.add_session_config_entry("session.x64quantprecision", "1")
    name = "the given bytes" if isinstance(model, bytes) else str(model)
    if not isinstance(model, bytes) and not Path(model).is_file():
        raise WeightsError(f"weight file {name} does not exist")
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises classes of its own that share no public base
        reason = str(error).splitlines()[0][:200]
        raise WeightsError(
            f"{name} is not an ONNX model that onnxruntime {onnxruntime.__version__} can run: {reason}"
        ) from error


class OnnxRuntime:
    """A classifier file as a function from a batch to its named outputs."""

    def __init__(self, model: str | Path | bytes, threads: int = 1) -> None:
        self.session = open_session(model, threads)
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.metadata: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map

    def __call__(self, batch_NCHW: np.ndarray) -> dict[str, np.ndarray]:
        """Return every output by name for a float32 batch."""
        values = self.session.run(self.outputs, {self.inputs[0]: batch_NCHW})
        return {name: np.asarray(value) for name, value in zip(self.outputs, values, strict=True)}


def open_model(model: str | Path, threads: int = 1) -> tuple[Card, OnnxRuntime]:
    """Open a classifier with its card.

    Args:
        model: name of a bundled model, a card file (`.toml`), or an `.onnx` file with its card inside or beside it.
        threads: threads used inside one call.

    Raises:
        UnknownName: no bundled model has that name.
        WeightsError: there is no card, the card is of another file, or the network lacks an output that the card names.
    """
    path = Path(model)
    if path.suffix != ".onnx" or path.with_suffix(".toml").is_file():
        card = cards.read(path.with_suffix(".toml")) if path.suffix == ".onnx" else cards.load(model)
        runtime = OnnxRuntime(card.weights, threads)
    else:
        runtime = OnnxRuntime(path, threads)
        text = runtime.metadata.get(cards.METADATA_KEY)
        if text is None:
            raise WeightsError(
                f"{path} has no card inside (metadata {cards.METADATA_KEY}) and none beside it; labels are never guessed"
            )
        card = cards.parse(text, f"inside {path}")
        card = dataclasses.replace(card, file=path.name, sha256=sha256(path), path=path.with_suffix(".toml"))
    if card.kind != "classifier":
        raise WeightsError(f"{card.name} is a network of kind {card.kind!r}, not a classifier")
    if missing := sorted(set(card.outputs.values()) - set(runtime.outputs)):
        raise WeightsError(
            f"the card of {card.name} names the output {missing[0]!r}; the network gives {', '.join(runtime.outputs)}"
        )
    return card, runtime
