"""`mien doctor`: is this installation whole, and does it read a face?

What is looked at is imported by the check that looks at it, so that a broken part is reported and not the end of the doctor.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from rich.table import Table
from rich.text import Text

from ..errors import MienError
from ..io.provenance import VERSION
from ..runtime.devices import cores
from .terminal import for_programs, side_console, table_console, write_json

CORE = ("numpy", "pillow", "onnxruntime", "cyclopts")

EXTRAS: dict[str, tuple[str, ...]] = {
    "eval": ("sklearn", "matplotlib", "jinja2"),
    "train": ("torch", "torchvision", "timm", "accelerate", "safetensors", "captum", "onnx", "onnxscript", "tomli_w"),
    "video": ("av",),
    "serve": ("fastapi", "uvicorn", "websockets", "python_multipart"),
    "parquet": ("pyarrow",),
    "scale": ("pyarrow", "fsspec", "ray"),
    "openvino": ("openvino",),
    "dlib": ("dlib", "face_recognition_models"),
    "docs": ("material",),
}
"""Optional dependency group → the modules that it brings."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "broken", "absent"]
    """`"absent"` is an extra that nobody asked for."""
    detail: str


def doctor(*, json: bool = False) -> int:
    """Check this installation, down to one real reading.

    Looks at versions, onnxruntime, every bundled weight file against the digest in its card, the optional extras, and reads
    the bundled photograph. The exit status is 1 if anything is broken.

    Examples:
        mien doctor
        mien doctor --json | jq 'select(.state == "broken")'

    Args:
        json: Write JSON Lines, also on a terminal.
    """
    broken = 0
    table = Table.grid(padding=(0, 2))
    programs = for_programs(json)
    for check in checks():
        broken += check.state == "broken"
        if programs:
            write_json(dataclasses.asdict(check))
            continue
        mark, style = {"ok": ("ok", "green"), "broken": ("✗", "bold red"), "absent": ("–", "dim")}[check.state]
        table.add_row(Text(mark, style), Text(check.name), Text(check.detail, "dim" if check.state == "absent" else ""))
    if not programs:
        table_console().print(table)
    side_console().print("everything works" if not broken else f"{broken} broken", style="green" if not broken else "red")
    return 1 if broken else 0


def checks() -> Iterator[Check]:
    """Yield what is found, one thing after the other."""
    yield Check("mien", "ok", VERSION)
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Check("Python", "ok" if sys.version_info >= (3, 11) else "broken", python)
    for package in CORE:
        yield _guarded(package, lambda package=package: importlib.metadata.version(package))
    yield _guarded("onnxruntime runs on", _providers)
    yield _guarded("device auto", _device)
    yield _guarded("CPU threads", lambda: str(cores()))
    yield from _weights()
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        told = f"without {', '.join(missing)}: pip install 'mien[{extra}]'" if missing else ", ".join(modules)
        yield Check(f"extra {extra}", "absent" if missing else "ok", told)
    yield _guarded("reading the sample", _reading)


def _weights() -> Iterator[Check]:
    try:
        from .. import cards

        bundled = cards.bundled()
    except Exception as error:
        yield Check("cards", "broken", _told(error))
        return
    if not bundled:
        yield Check("cards", "broken", "none found; reinstall the package")
    for name, card in bundled.items():
        yield _guarded(
            f"weights {name}", lambda card=card: f"{card.weights.stat().st_size / 1e6:.1f} MB, digest as in its card"
        )


def _reading() -> str:
    from ..inference.recognizer import load
    from ..io.images import sample

    read = load()
    read(sample())  # the first reading is slower: memory is laid out
    result, seconds = read.timed(sample())
    if [face.label for face in result.faces] != ["happiness"]:
        found = ", ".join(f"{face.label} {face.confidence:.0%}" for face in result.faces) or "no face"
        raise MienError(f"the bundled photograph shows one happy face, this installation reads {found}; reinstall the package")
    stages = ", ".join(f"{stage} {1000 * time:.1f}" for stage, time in seconds.items())
    face = result.faces[0]
    return f"{face.label} {face.confidence:.0%} in {1000 * sum(seconds.values()):.0f} ms with one thread ({stages})"


def _providers() -> str:
    import onnxruntime

    return ", ".join(onnxruntime.get_available_providers())


def _device() -> str:
    """Say what the device `auto` comes to, and why nothing better: that a GPU does not start breaks nothing else."""
    from ..runtime.devices import AUTO
    from ..runtime.onnx import find_best

    best, refused = find_best()
    found = f"{best} (onnxruntime)"
    if importlib.util.find_spec("torch") is not None:
        from ..models.torch_devices import named, torch_device

        found += f", {named(torch_device(AUTO))} (torch)"
    return "; ".join([found, *refused])


def _guarded(name: str, look: Callable[[], str]) -> Check:
    """Return what `look` says, or why it failed: whatever is wrong, the other checks must go on."""
    try:
        return Check(name, "ok", look())
    except Exception as error:
        return Check(name, "broken", _told(error))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, MienError) else f"{type(error).__name__}: {error}"
