"""Sessions of onnxruntime on the device selected with `mien.runtime.devices`."""

import base64
import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime

from ..cards import WEIGHTS, Card, bundled_file, no_weights
from ..errors import ConfigError, WeightsError, reason
from .devices import AUTO, CPU, Device, choice

Batch = np.ndarray | Mapping[str, np.ndarray]  # (N, C, H, W) float32; or input name → array for networks with several inputs
Providers = list[tuple[str, dict[str, str]]]  # execution providers with options, in order of preference

ON_CPU = "CPUExecutionProvider"

VIEWS = "views"
"""Optional input of networks that average their outputs over an image and its mirror image: (1,) int64, 2 or 1 view."""


class Accelerator(NamedTuple):
    """Execution provider of a kind of device."""

    provider: str
    options: Mapping[str, str]
    package: str  # how to install it, for messages


ACCELERATORS: Mapping[str, Accelerator] = {
    "cuda": Accelerator(
        "CUDAExecutionProvider",
        # Full float32 as on the CPU, except inside cuDNN graphs. The batch size changes between calls, and an exhaustive
        # algorithm search would run again for each size.
        {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
        "pip uninstall onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]' (they cannot be installed together)",
    ),
    "mps": Accelerator(
        "CoreMLExecutionProvider",
        {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU"},  # programs compute in float32
        "pip install onnxruntime on macOS, whose wheels have it",
    ),
}
"""Kind of device → execution provider, in order of preference."""

PROBE = "blazeface.onnx"  # a small convolutional network to test a device with

PRODUCT = (
    "CAUSADpYChgKAWEKAWISAXkiDU1hdE11bEludGVnZXISAWcqDwgECAEQAyoEf39/f0IBYloTCgFhEg4KDAgCEggKAggBCgIIBGITCgF5Eg4KDAgGEggKAggBCgIIAUIE"
    "CgAQCg=="
)
"""An ONNX network in base64: the product of four unsigned bytes with four signed bytes of 127."""


def providers(device: Device, available: Collection[str]) -> Providers:
    """Return the execution providers for a device other than `auto`, with the CPU as fallback for unsupported operators.

    Raises ConfigError: the required provider is not available.
    """
    if device.kind == "cpu":
        return [(ON_CPU, {})]
    provider, options, package = ACCELERATORS[device.kind]
    if provider not in available:
        raise ConfigError(
            f"device {str(device)!r} needs {provider}; the installed onnxruntime {onnxruntime.__version__} has "
            f"{', '.join(available)}. Install it: {package}; or use the device cpu",
            value=str(device),
            expected=tuple(available),
        )
    number = {"device_id": str(device.index)} if device.kind == "cuda" else {}
    return [(provider, {**number, **options}), (ON_CPU, {})]


@functools.cache
def find_best(available: tuple[str, ...] | None = None) -> tuple[Device, tuple[str, ...]]:
    """Return the best device and why better ones failed to start, of `available` providers or those of onnxruntime."""
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
    """Return a device other than `auto` after running a small network on it: its hardware or driver may be missing.

    Raises ConfigError: the provider is missing, or the device does not start, for example without its driver.
    """
    wanted = providers(device, available or onnxruntime.get_available_providers())
    cause = "onnxruntime fell back to the CPU; libraries or hardware are missing"
    with _quiet():
        try:
            if device.kind == "cuda" and hasattr(onnxruntime, "preload_dlls"):
                onnxruntime.preload_dlls()  # CUDA and cuDNN from pip packages
            session = _session(bundled_file(PROBE), _options(threads=1), wanted)
            if session.get_providers()[0] == wanted[0][0]:
                session.run(None, {session.get_inputs()[0].name: np.zeros((1, 192, 192, 3), np.float32)})
                return device
        except WeightsError:
            raise
        except Exception as error:  # The exceptions of onnxruntime share no public base class.
            cause = reason(error)
    raise ConfigError(
        f"device {str(device)!r} does not start: {cause}. Check the driver and the requirements of {wanted[0][0]}, "
        "or use the device cpu",
        value=str(device),
    )


def present(device: Device) -> Device:
    """Return an available device: the given one, or the best for `auto`; raises like `started`."""
    if device == AUTO:
        return find_best()[0]
    return device if device == CPU else started(device)


def _options(threads: int, *, arena: bool = True, exact: str = "session.x64quantprecision") -> onnxruntime.SessionOptions:
    """Return the options of a session; `exact` is the one that is set where products of 8 bits overflow."""
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = arena
    options.enable_mem_pattern = False  # a pattern needs a block of its own beside that of the first call
    if arena and share_arena():
        options.add_session_config_entry("session.use_env_allocators", "1")
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if bytes_overflow():
        options.add_session_config_entry(exact, "1")
    return options


@functools.cache
def share_arena() -> bool:
    """Register one arena for the networks of this process, which run one after the other; False if there is another one."""
    same_as_requested = 1  # by default an arena doubles
    try:
        kind, memory = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
        settings = onnxruntime.OrtArenaCfg(0, same_as_requested, -1, -1)
        onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", kind, 0, memory), settings)
    except Exception:  # The exceptions of onnxruntime share no public base class.
        return False
    return True


@functools.cache
def bytes_overflow() -> bool:
    """Return whether onnxruntime's fast 8-bit matrix product overflows on this processor.

    x86 without VNNI sums pairs of products in 16 bits, which can overflow and costs `mien-base` two points of accuracy. The
    exact kernel is 2.6 times slower on processors with VNNI, so it is used only where needed.
    """
    with contextlib.suppress(OSError):  # Linux lists the instructions; elsewhere a product is computed, which takes longer.
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if "vnni" in flags or " avx2 " in flags:
            return "vnni" not in flags
    session = _session(base64.b64decode(PRODUCT), onnxruntime.SessionOptions(), [(ON_CPU, {})])
    (product,) = session.run(None, {"a": np.full((1, 4), 255, np.uint8)})
    return np.asarray(product).item() != 4 * 255 * 127


def _session(model: str | Path | bytes, options: onnxruntime.SessionOptions, wanted: Providers) -> onnxruntime.InferenceSession:
    """Open a session without the fallback of onnxruntime, which prints to stdout."""
    return onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=wanted, enable_fallback=0
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the messages of onnxruntime while a device is tested; stdout is for results."""
    onnxruntime.set_default_logger_severity(4)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        onnxruntime.set_default_logger_severity(2)  # its own default


_EARLY: dict[str, Future[onnxruntime.InferenceSession]] = {}  # path → session


def open_early(names: Iterable[str]) -> None:
    """Open bundled networks on a thread until `OnnxRuntime` asks for them: onnxruntime leaves the interpreter to others."""
    options, pool = _options(threads=1), ThreadPoolExecutor(1)
    for path in (str(WEIGHTS / name) for name in names):
        _EARLY[path] = pool.submit(_session, path, options, [(ON_CPU, {})])
    pool.shutdown(wait=False)


def give_back() -> None:
    """Return memory to the system that glibc keeps, for each thread, from the opening of networks; others need no such call."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


TOGETHER = 4
"""Batch size for images of 192 pixels and more with several threads or a GPU. A single thread uses batches of one: larger
activations exceed the CPU cache and take up to 20 % longer per image."""


class OnnxRuntime:
    """An ONNX network as a function from a batch to named outputs, on the selected device (see `mien.runtime.devices`).

    It is given by its card, path or content. Idle worker threads do not spin, so several sessions can share cores; 0 threads
    inside one call lets onnxruntime choose. Memory on the CPU is from the arena of all networks; without it, inputs of many
    sizes do not add up. Raises WeightsError: the file is missing or invalid; ConfigError: the device is not available.
    """

    def __init__(self, model: Card | str | Path | bytes, threads: int = 1, *, arena: bool = True) -> None:
        model = model.weights if isinstance(model, Card) else model
        name = "the given bytes" if isinstance(model, bytes) else str(model)
        if not isinstance(model, bytes) and not os.path.isfile(model):  # noqa: PTH113 - Path.is_file raises on a name too long
            raise no_weights(name)
        self.device = present(choice())
        wanted = providers(self.device, onnxruntime.get_available_providers())
        early = _EARLY.pop(str(model), None) if threads == 1 and arena and self.device == CPU else None
        try:
            try:
                self.session = early.result() if early else _session(model, _options(threads, arena=arena), wanted)
            except Exception:
                if not bytes_overflow():
                    raise
                # The exact kernels refuse 8-bit weights that two layers share. Computing in 32 bits takes as long.
                self.session = _session(model, _options(threads, arena=arena, exact="session.disable_quant_qdq"), wanted)
        except Exception as error:  # as above
            where = "" if self.device == CPU else f" on {self.device}"
            message = f"{name} is not an ONNX model that onnxruntime {onnxruntime.__version__} can run{where}: {reason(error)}"
            raise WeightsError(f"{message}; download or export it again", path=name) from error
        self.together = 1 if threads == 1 and self.device.kind == "cpu" else TOGETHER
        inputs = self.session.get_inputs()
        self.inputs = [value.name for value in inputs]
        self.faces: int | str | None = next(iter(inputs[0].shape), None) if inputs else None
        """Batch size of the first input: a number, or the name of a dynamic axis."""
        self.outputs = [value.name for value in self.session.get_outputs()]
        options = [value.name for value in self.session.get_overridable_initializers()]
        self._single = {VIEWS: np.array([1])} if VIEWS in options else {}
        try:
            self.metadata: Mapping[str, str] = self.session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError as error:
            message = f"{name} has metadata that is not UTF-8 ({error.reason}); export it again"
            raise WeightsError(message, path=name) from error

    def __call__(self, batch: Batch, /) -> dict[str, np.ndarray]:
        """Return all outputs by name, for one batch or a mapping from input name to batch."""
        return self._run(batch, {})

    def one_view(self, batch: Batch, /) -> dict[str, np.ndarray]:
        """Return all outputs by name for the images alone, where the network averages over their mirror images."""
        return self._run(batch, self._single)

    def _run(self, batch: Batch, options: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        fed = dict(batch) if isinstance(batch, Mapping) else {self.inputs[0]: batch}
        values = self.session.run(self.outputs, {**fed, **options})
        return {name: np.asarray(value) for name, value in zip(self.outputs, values, strict=True)}
