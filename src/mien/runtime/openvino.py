"""OpenVINO files (`.xml` with `.bin`) with their card."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..cards import Card, verify
from ..errors import ConfigError, WeightsError, needs, reason
from .devices import AUTO, CPU, choice
from .open_model import Batch


class OpenvinoRuntime:
    """An OpenVINO network, given by its card or the content of both files, as a function from a batch to named outputs.

    Thread-safe; 0 threads inside one call lets OpenVINO choose. Raises MissingExtra: openvino is not installed; WeightsError:
    the files are missing, invalid, or do not match the card; ConfigError: another device than the CPU is selected.
    """

    def __init__(self, network: Card | tuple[bytes, bytes], threads: int = 1) -> None:
        name = network.file if isinstance(network, Card) else "the network"
        if choice() not in (CPU, AUTO):
            message = f"{name} is an OpenVINO file and runs on the CPU only, got {choice()}; export it as .onnx for a GPU"
            raise ConfigError(message)
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
            raise WeightsError(f"{name} is not a valid OpenVINO model: {reason(error)}; export it again") from error
        self._own = threading.local()  # A request handles one call at a time, so each thread has its own.
        self.inputs = [value.get_any_name() for value in self.model.inputs]
        self.outputs = [value.get_any_name() for value in self.model.outputs]

    def __call__(self, batch: Batch, /) -> dict[str, np.ndarray]:
        """Return all outputs by name, for one batch or a mapping from input name to batch."""
        fed = dict(batch) if isinstance(batch, Mapping) else {self.inputs[0]: batch}
        if not hasattr(self._own, "request"):
            self._own.request = self.model.create_infer_request()
        values = self._own.request.infer(fed)
        return {name: np.array(values[name]) for name in self.outputs}


def import_openvino() -> Any:
    """Return the package. Raises MissingExtra: openvino is not installed."""
    with needs("openvino", "openvino"):
        import openvino  # pyrefly: ignore
    return openvino
