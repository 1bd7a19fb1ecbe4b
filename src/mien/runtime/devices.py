"""Device selection.

    with use("cuda:1"):
        card, runtime = open_model("dan-fp16.onnx")     # all networks opened here run on the second GPU

The device is a context variable, read where a network is opened (`mien.runtime.onnx`, `mien.models.torch_runtime`,
`mien.runtime.openvino`), so that detectors, meshes and runtimes, some of them user-defined, need no device argument. An open
network keeps its device. New threads start with the default: call `use` in each thread that opens networks.

The CPU is the default, also on machines with a GPU: metrics are measured on it, results are the same on every machine, and the
bundled 8-bit networks do not gain from a GPU.
"""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from ..errors import ConfigError

KINDS = ("auto", "cpu", "cuda", "mps")
"""`auto` is the best available device, `cuda` an NVIDIA GPU (`cuda:1` the second), `mps` an Apple GPU."""

SYNONYMS = {"gpu": "cuda", "nvidia": "cuda", "metal": "mps", "coreml": "mps"}
"""Common other names → our name, for messages."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device, or `auto` before it is resolved.

    Example:
        >>> str(Device.parse("cuda")), str(Device.parse("cuda:1")), str(Device.parse("cpu"))
        ('cuda:0', 'cuda:1', 'cpu')
    """

    kind: str
    """One of `KINDS`."""
    index: int = 0
    """Index of the GPU, from 0; `cuda` only."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.kind == "cuda" else self.kind

    @classmethod
    def parse(cls, word: "str | Device") -> "Device":
        """Return the device of a name. Raises ConfigError: unknown device."""
        if isinstance(word, Device):
            return word
        kind, colon, number = str(word).partition(":")
        if kind not in KINDS:
            meant = SYNONYMS.get(kind.lower(), kind.lower())
            hint = f"; did you mean {meant!r}?" if meant in KINDS else "."
            message = f"unknown device {word!r}{hint} Known: auto, cpu, cuda, cuda:1 …, mps"
            raise ConfigError(message, value=word, expected=KINDS)
        if not colon:
            return cls(kind)
        if kind != "cuda":
            raise ConfigError(f"invalid device {word!r}: only cuda has an index; use {kind}", value=word, expected=kind)
        if not (number.isascii() and number.isdigit()):
            raise ConfigError(f"invalid device {word!r}: the index must be a number from 0, as in cuda:1", value=word)
        return cls(kind, int(number))


CPU, AUTO = Device("cpu"), Device("auto")

_CHOICE: ContextVar[Device] = ContextVar("device", default=CPU)


def choice() -> Device:
    """Return the selected device of this context; `auto` is not resolved."""
    return _CHOICE.get()


@contextlib.contextmanager
def use(device: str | Device | None) -> Iterator[None]:
    """Select the device of all networks opened inside the block; None keeps the current one.

    Raises ConfigError: unknown device. Availability is checked when a network is opened.
    """
    before = _CHOICE.set(choice() if device is None else Device.parse(device))
    try:
        yield
    finally:
        _CHOICE.reset(before)


def cores() -> int:
    """Return the number of CPU cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
