"""Run an OpenVINO file (`.xml` with its `.bin`) by the card beside it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..cards import Card, verify
from ..errors import ConfigError, MissingExtra, WeightsError
from .devices import AUTO, CPU, choice
from .open_model import Batch


class OpenvinoRuntime:
    """A converted network as a function from a batch to its named outputs. Safe to call from several threads.

    Args:
        network: its card, which says where the file lies and the digests of both of its parts; or the content of both.
        threads: threads used inside one call; 0 lets OpenVINO choose.

    Raises:
        MissingExtra: openvino is not installed.
        WeightsError: the files are missing, are not those of the card, or cannot be read.
        ConfigError: a GPU is chosen: those that OpenVINO runs on have no word in `mien.runtime.devices`.
    """

    def __init__(self, network: Card | tuple[bytes, bytes], threads: int = 1) -> None:
        if choice() not in (CPU, AUTO):
            name = network.file if isinstance(network, Card) else "the network"
            raise ConfigError(
                f"{name} is an OpenVINO file, which runs on the CPU, not on {choice()}; export it as .onnx for a GPU"
            )
        self.device = CPU
        openvino = import_openvino()
        if isinstance(network, Card):
            path = network.weights
            verify(path.with_suffix(".bin"), network.export.get("bin_sha256", ""))
            read: tuple[Any, ...] = (path,)
        else:
            read = network
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            core = openvino.Core()
            self.model = core.compile_model(core.read_model(*read), "CPU", options)
        except RuntimeError as error:
            name, reason = network.file if isinstance(network, Card) else "the network", str(error).splitlines()[0][:200]
            raise WeightsError(f"{name} is no OpenVINO model that can be run: {reason}; export it anew") from error
        self._own = threading.local()  # a request answers one call at a time, and that of the model itself is shared
        self.inputs = [value.get_any_name() for value in self.model.inputs]
        self.outputs = [value.get_any_name() for value in self.model.outputs]

    def __call__(self, batch: Batch, /) -> dict[str, np.ndarray]:
        """Return every output by name for a batch, or one for each input by name."""
        fed = dict(batch) if isinstance(batch, Mapping) else {self.inputs[0]: batch}
        if not hasattr(self._own, "request"):
            self._own.request = self.model.create_infer_request()
        answer = self._own.request.infer(fed)
        return {name: np.array(answer[name]) for name in self.outputs}


def import_openvino() -> Any:
    """Return the package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import openvino  # pyrefly: ignore
    except ModuleNotFoundError as error:
        raise MissingExtra("openvino", "openvino") from error
    return openvino
