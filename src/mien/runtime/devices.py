"""Which device networks run on: the words for it, and the choice that holds where networks are opened.

    with use("cuda:1"):
        card, runtime = open_model("dan-fp16.onnx")     # this one, and whatever else is opened here, runs there

The device is a context variable, read where a network is opened (`mien.runtime.onnx`, `mien.models.torch_runtime`,
`mien.runtime.openvino`), so that detectors, meshes and runtimes, some of them user-defined, need no device argument. An open
network keeps its device. New threads start with the default: call `use` in each thread that opens networks.

The CPU is the default, also where there is a GPU: figures are measured there, answers are the same on every machine, and the
bundled networks are too small and too exact (8 bits) to gain.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from ..errors import ConfigError

KINDS = ("auto", "cpu", "cuda", "mps")
"""`auto` is the best that starts, `cuda` a GPU of NVIDIA (`cuda:1` the second), `mps` that of an Apple computer."""

SYNONYMS = {"gpu": "cuda", "nvidia": "cuda", "metal": "mps", "coreml": "mps"}
"""What people write → the word that is meant, for the message."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device, or `auto` for one that is still to be found.

    Example:
        >>> str(Device.parse("cuda")), str(Device.parse("cuda:1")), str(Device.parse("cpu"))
        ('cuda:0', 'cuda:1', 'cpu')
    """

    kind: str
    """One of `KINDS`."""
    index: int = 0
    """Which GPU, from 0; of `cuda` only."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.index}" if self.kind == "cuda" else self.kind

    @classmethod
    def parse(cls, word: str | Device) -> Device:
        """Return the device that a word names.

        Raises:
            ConfigError: it names none.
        """
        if isinstance(word, Device):
            return word
        kind, colon, number = str(word).partition(":")
        if kind not in KINDS:
            meant = SYNONYMS.get(kind.lower(), kind.lower())
            hint = f"; did you mean {meant!r}?" if meant in KINDS else "."
            raise ConfigError(f"there is no device {word!r}{hint} Known: auto, cpu, cuda, cuda:1 …, mps")
        if not colon:
            return cls(kind)
        if kind != "cuda":
            raise ConfigError(f"there is no device {word!r}: only cuda takes a number; write {kind}")
        if not (number.isascii() and number.isdigit()):
            raise ConfigError(f"there is no device {word!r}: GPUs are counted from 0; write cuda:0, cuda:1 …")
        return cls(kind, int(number))


CPU, AUTO = Device("cpu"), Device("auto")

_CHOICE: ContextVar[Device] = ContextVar("device", default=CPU)


def choice() -> Device:
    """Return the device that networks opened here run on, as it was chosen: `auto` stays `auto`."""
    return _CHOICE.get()


@contextlib.contextmanager
def use(device: str | Device | None) -> Iterator[None]:
    """Choose the device of all networks that are opened inside; None leaves the choice as it is.

    Raises:
        ConfigError: there is no such device. Whether it is there in this machine is said where a network is opened.
    """
    before = _CHOICE.set(choice() if device is None else Device.parse(device))
    try:
        yield
    finally:
        _CHOICE.reset(before)


def cores() -> int:
    """Return how many cores of the CPU this process may use; all of the machine where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
