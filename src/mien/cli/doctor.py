"""`mien doctor`: check the installation.

Each check imports what it tests, so that a broken part is reported and does not stop the others.
"""

import dataclasses
import importlib.metadata
import importlib.util
import platform
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from rich.table import Table
from rich.text import Text

from ..errors import MienError
from ..io.provenance import VERSION, package_version
from ..runtime.devices import cores
from .terminal import Json, for_programs, note, table_console, write_json


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check."""

    name: str
    state: Literal["ok", "broken", "absent"]  # `"absent"` is an extra that is not installed
    detail: str


def doctor(*, json: Json = False) -> int:
    """Check the installation.

    Reports versions, onnxruntime, the digest of every bundled weights file and the optional extras, and runs inference on the
    bundled photo. The exit status is 1 if a check fails.

    Examples:
        mien doctor
        mien doctor --json | jq 'select(.state == "broken")'
    """
    table, broken = Table.grid(padding=(0, 2)), 0
    for check in checks():
        broken += check.state == "broken"
        mark, style = {"ok": ("ok", "green"), "broken": ("✗", "bold red"), "absent": ("–", "dim")}[check.state]
        table.add_row(Text(mark, style), Text(check.name), Text(check.detail, "dim" if check.state == "absent" else ""))
        if for_programs(json):
            write_json(dataclasses.asdict(check))
    if not for_programs(json):
        table_console().print(table)
    note(f"{broken} broken" if broken else "everything works", style="red" if broken else "green")
    return int(broken > 0)


def checks() -> Iterator[Check]:
    """Yield the results of all checks."""
    yield Check("mien", "ok", VERSION)
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Check("Python", "ok" if sys.version_info >= (3, 11) else "broken", python)
    required = requirements()
    for package in required.pop(""):
        yield _guarded(package, lambda package=package: importlib.metadata.version(package))
    yield _guarded("onnxruntime runs on", lambda: ", ".join(importlib.import_module("onnxruntime").get_available_providers()))
    yield _guarded("device auto", _device)
    yield _guarded("CPU threads", lambda: str(cores()))
    yield from _weights()
    for extra, packages in required.items():
        missing = [package for package in packages if not package_version(package)]
        detail = f"missing {', '.join(missing)}: pip install 'mien[{extra}]'" if missing else ", ".join(packages)
        yield Check(f"extra {extra}", "absent" if missing else "ok", detail)
    yield _guarded("inference", _inference)


def requirements() -> dict[str, list[str]]:
    """Return the packages of each extra that users install, and those of mien itself under the empty name."""
    found: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("mien") or ():
        package, extra = re.split(r"[^\w.-]", line)[0], re.search(r"extra == ['\"](.+)['\"]", line)
        if package != "mien" and not (extra and extra[1] == "dev"):
            found.setdefault(extra[1] if extra else "", []).append(package)
    return found


def _weights() -> Iterator[Check]:
    try:
        from .. import cards

        bundled = cards.bundled()
    except Exception as error:
        yield Check("cards", "broken", _message(error))
        return
    if not bundled:
        yield Check("cards", "broken", "none found; reinstall the package")
    for name, card in bundled.items():
        size = lambda card=card: f"{card.weights.stat().st_size / 1e6:.1f} MB, digest as in its card"  # noqa: E731
        yield _guarded(f"weights {name}", size)


def _inference() -> str:
    from ..inference.recognizer import load
    from ..io.images import sample

    recognizer = load()
    recognizer(sample())  # the first call allocates memory and is slower
    result, seconds = recognizer.timed(sample())
    if [face.label for face in result.faces] != ["happiness"]:
        found = ", ".join(f"{face.label} {face.confidence:.0%}" for face in result.faces) or "no face"
        raise MienError(f"expected one happy face in the bundled photo, got {found}; reinstall the package", value=found)
    stages = ", ".join(f"{stage} {1000 * time:.1f}" for stage, time in seconds.items())
    face = result.faces[0]
    return f"{face.label} {face.confidence:.0%} in {1000 * sum(seconds.values()):.0f} ms with one thread ({stages})"


def _device() -> str:
    """Return the device selected by `auto` and why better ones were rejected."""
    from ..runtime.devices import AUTO
    from ..runtime.onnx import find_best

    best, refused = find_best()
    found = f"{best} (onnxruntime)"
    if importlib.util.find_spec("torch") is not None:
        from ..models.torch_runtime import named, torch_device

        found += f", {named(torch_device(AUTO))} (torch)"
    return "; ".join([found, *refused])


def _guarded(name: str, check: Callable[[], str]) -> Check:
    """Return the result of `check`, or its error."""
    try:
        return Check(name, "ok", check())
    except Exception as error:
        return Check(name, "broken", _message(error))


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, MienError) else f"{type(error).__name__}: {error}"
