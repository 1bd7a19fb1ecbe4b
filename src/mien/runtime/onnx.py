"""Sessions of onnxruntime: every network in ONNX is opened here, on the device that `mien.runtime.devices` says."""

from __future__ import annotations

import base64
import contextlib
import functools
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime

from ..cards import Card, bundled_file, no_weights
from ..errors import ConfigError, WeightsError
from .devices import AUTO, CPU, Device, choice

Batch = np.ndarray | Mapping[str, np.ndarray]
"""(N, C, H, W) float32; or input name → array for networks with several inputs."""

Providers = list[tuple[str, dict[str, str]]]
"""What onnxruntime runs a network on, with options, the first that can."""

ON_CPU = "CPUExecutionProvider"


class Accelerator(NamedTuple):
    """How onnxruntime calls a kind of device, and where it comes from."""

    provider: str
    options: Mapping[str, str]
    package: str
    """What brings it, as an advice."""


ACCELERATORS: Mapping[str, Accelerator] = {
    "cuda": Accelerator(
        "CUDAExecutionProvider",
        # float32 is float32, as on the CPU, as far as this option reaches (not into graphs of cuDNN). And the number of faces
        # in a call changes all the time, for which an exhaustive search of algorithms would be made anew.
        {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
        "pip uninstall onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]' (the two must not be there together)",
    ),
    "mps": Accelerator(
        "CoreMLExecutionProvider",
        {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU"},  # programs compute in float32
        "pip install onnxruntime on macOS, whose wheels have it",
    ),
}
"""Kind of device → what runs networks on it; the better first."""

PROBE = "blazeface.onnx"
"""A small network with convolutions, by which a device is tried."""

PRODUCT = (
    "CAUSADpYChgKAWEKAWISAXkiDU1hdE11bEludGVnZXISAWcqDwgECAEQAyoEf39/f0IBYloTCgFhEg4KDAgCEggKAggBCgIIBGITCgF5Eg4KDAgGEggKAggBCgIIAUIE"
    "CgAQCg=="
)
"""An ONNX network in base64: four unsigned bytes times four signed ones, all of which are 127."""


def providers(device: Device, available: Collection[str]) -> Providers:
    """Return what a network is opened with to run on a device; what that cannot do, the CPU does.

    Args:
        device: not `auto`.
        available: providers that the installed onnxruntime was built with.

    Raises:
        ConfigError: the one that is needed is not among them.
    """
    if device.kind == "cpu":
        return [(ON_CPU, {})]
    provider, options, package = ACCELERATORS[device.kind]
    if provider not in available:
        raise ConfigError(
            f"device {str(device)!r} needs {provider}, and the installed onnxruntime {onnxruntime.__version__} has only "
            f"{', '.join(available)}. Install one that has it: {package}; or take the device cpu"
        )
    number = {"device_id": str(device.index)} if device.kind == "cuda" else {}
    return [(provider, {**number, **options}), (ON_CPU, {})]


@functools.cache
def find_best(available: tuple[str, ...] | None = None) -> tuple[Device, tuple[str, ...]]:
    """Return what `auto` is, and why others that onnxruntime was built for do not start.

    Args:
        available: providers that onnxruntime was built with, by what it says itself.
    """
    refused = []
    for kind, accelerator in ACCELERATORS.items():
        if accelerator.provider in (available or onnxruntime.get_available_providers()):
            try:
                return started(Device(kind), available), tuple(refused)
            except ConfigError as error:
                refused.append(str(error))
    return CPU, tuple(refused)


@functools.cache
def started(device: Device, available: tuple[str, ...] | None = None) -> Device:
    """Return a device once a small network has run on it: that onnxruntime was built for it does not mean that it is there.

    Args:
        device: not `auto`.
        available: as for `find_best`.

    Raises:
        ConfigError: onnxruntime was not built for it, or it does not start, as without its driver or libraries.
    """
    wanted = providers(device, available or onnxruntime.get_available_providers())
    reason = "onnxruntime went on without it: its libraries are missing, or there is no such hardware"
    with _quiet():
        try:
            if device.kind == "cuda" and hasattr(onnxruntime, "preload_dlls"):
                onnxruntime.preload_dlls()  # CUDA and cuDNN out of packages, where they came with pip
            session = _session(bundled_file(PROBE), _options(threads=1), wanted)
            if session.get_providers()[0] == wanted[0][0]:
                session.run(None, {session.get_inputs()[0].name: np.zeros((1, 192, 192, 3), np.float32)})
                return device
        except WeightsError:
            raise
        except Exception as error:  # onnxruntime raises classes of its own that share no public base
            reason = _first_line(error)
    raise ConfigError(
        f"device {str(device)!r} does not start: {reason}. Look at the driver and at what {wanted[0][0]} needs, "
        "or take the device cpu"
    )


def present(device: Device) -> Device:
    """Return a device that is there: the same one, or for `auto` the best; errors as of `started`."""
    if device == AUTO:
        return find_best()[0]
    return device if device == CPU else started(device)


def open_session(model: str | Path | bytes, threads: int = 1) -> tuple[onnxruntime.InferenceSession, Device]:
    """Open an ONNX file (or its bytes) on the device that is chosen (see `mien.runtime.devices`), and say which that is.

    Worker threads do not spin while idle, so several sessions share cores kindly, and the number of threads is what
    was asked for instead of the number of cores.

    Args:
        model: path of the file, or its content.
        threads: threads used inside one call, of the part that the CPU does; 0 lets the runtime choose.

    Raises:
        WeightsError: the file is missing or no valid ONNX model.
        ConfigError: the device is not there.
    """
    name = "the given bytes" if isinstance(model, bytes) else str(model)
    if not isinstance(model, bytes) and not os.path.isfile(model):  # noqa: PTH113 - Path.is_file raises on a name too long
        raise no_weights(name)
    device = present(choice())
    try:
        return _session(model, _options(threads), providers(device, onnxruntime.get_available_providers())), device
    except Exception as error:  # as above
        where = "" if device == CPU else f" on {device}"
        raise WeightsError(
            f"{name} is not an ONNX model that onnxruntime {onnxruntime.__version__} can run{where}: {_first_line(error)}; "
            "get it anew, or export it anew"
        ) from error


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if bytes_overflow():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


@functools.cache
def bytes_overflow() -> bool:
    """Return whether onnxruntime's quick product of 8-bit matrices is wrong on this processor.

    x86 without VNNI adds pairs of products in 16 bits, which overflow: `mien-base` then loses two points. There onnxruntime
    must be told to take a slower way; where it need not, it must not: with VNNI the slower way takes 2.6 times as long.
    """
    session = _session(base64.b64decode(PRODUCT), onnxruntime.SessionOptions(), [(ON_CPU, {})])
    (answer,) = session.run(None, {"a": np.full((1, 4), 255, np.uint8)})
    return np.asarray(answer).item() != 4 * 255 * 127


def _session(model: str | Path | bytes, options: onnxruntime.SessionOptions, wanted: Providers) -> onnxruntime.InferenceSession:
    """Open a session without onnxruntime's own way of falling back, which is told on stdout."""
    return onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=wanted, enable_fallback=0
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let a device be tried without onnxruntime's messages: what comes of it is said by us. Data alone goes to stdout."""
    onnxruntime.set_default_logger_severity(4)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        onnxruntime.set_default_logger_severity(2)  # its own default


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error).strip() else type(error).__name__


TOGETHER = 4
"""Images of 192 pixels and more in one call of a network, where threads or a GPU share them. A single thread takes them one
by one: the maps of more leave the processor's cache, and each takes up to a fifth longer."""


class OnnxRuntime:
    """A classifier file as a function from a batch to its named outputs."""

    def __init__(self, model: str | Path | bytes, threads: int = 1) -> None:
        self.session, self.device = open_session(model, threads)
        self.together = 1 if threads == 1 and self.device.kind == "cpu" else TOGETHER
        inputs = self.session.get_inputs()
        self.inputs = [value.name for value in inputs]
        self.faces: int | str | None = next(iter(inputs[0].shape), None) if inputs else None
        """How many the first input takes: a number, or the name of an open axis."""
        self.outputs = [value.name for value in self.session.get_outputs()]
        try:
            self.metadata: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError as error:
            name = "the given bytes" if isinstance(model, bytes) else str(model)
            raise WeightsError(f"{name} holds metadata that is not UTF-8 ({error.reason}); export it again") from error

    def __call__(self, batch: Batch, /) -> dict[str, np.ndarray]:
        """Return every output by name for a float32 batch, or one for each input by name."""
        fed = dict(batch) if isinstance(batch, Mapping) else {self.inputs[0]: batch}
        values = self.session.run(self.outputs, fed)
        return {name: np.asarray(value) for name, value in zip(self.outputs, values, strict=True)}


def onnx_runtime(card: Card, threads: int = 1) -> OnnxRuntime:
    """Return what runs the `.onnx` file of a card."""
    return OnnxRuntime(card.weights, threads)
