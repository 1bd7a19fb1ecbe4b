"""Location of the state dict in the contents of a checkpoint file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import WeightsError, reason
from .containers import growth_is_plausible, open_container
from .pickled import Record, TensorRef, describe, refuse

# Keys of the state dict, or of the whole network, in the files of training scripts.
WRAPPERS = ("state_dict", "model_state_dict", "net", "model", "network", "weights", "params", "model_state", "module")

MAX_MODULES = 10_000


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Contents of a weights file, whose format `container` describes: `"torch zip, entry 'net'"`.

    `state` is name → tensor, in the order of the file, without the prefix `module.` of DataParallel; tied weights share memory.
    `metadata` are the plain values beside the state dict: epoch, accuracy, configuration.
    """

    state: dict[str, Tensor]
    container: str
    metadata: dict[str, Any] = field(default_factory=dict)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read the weights of a file in any supported format without executing code from it.

    Plain and wrapped state dicts and whole pickled modules, whose code is not needed, in torch's zip or legacy format;
    safetensors; npz. Raises WeightsError: missing, corrupt or hostile file, or no weights in it. The message names the
    contents.

    Example:
        >>> read_checkpoint("rafdb_epoch21_acc0.897.pth").container  # doctest: +SKIP
        "torch zip, entry 'model_state_dict'"
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"checkpoint {path} not found", path=path)
    try:
        with open_container(path) as container:
            found, where, beside = _find(container.content)
            needed = sum(tensor.nbytes for tensor in found.values())
            if not growth_is_plausible(needed, path.stat().st_size):
                refuse(f"its tensors would take {needed:,} bytes, far more than the size of the file")
            state = {name: container.tensor(tensor) for name, tensor in found.items()}
            if all(name.startswith("module.") for name in state):
                state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
            return Checkpoint(state, f"{container.kind}, {where}", beside)
    except WeightsError as error:
        raise WeightsError(f"{path} was not read: {error}", path=path) from error
    except Exception as error:  # Each of a dozen readers has its own exceptions.
        raise WeightsError(f"{path} is corrupt: {reason(error)}; download it again", path=path) from error


_Found = tuple[dict[str, Any], str, dict[str, Any]]


def _find(content: Any, depth: int = 0) -> _Found:
    """Return tensors by name, their location, and the plain values beside them."""
    if isinstance(content, Record):
        if not (tensors := _module_state(content)):
            refuse(f"its {describe(content)} is not a module with weights")
        return tensors, f"module {describe(content)}", {}
    if not isinstance(content, dict):
        refuse(f"it contains a {type(content).__name__}, expected a state dict")
    if {"state", "param_groups"} <= content.keys():  # for example the "best" file that the code of POSTER++ writes
        refuse("it contains only the state of an optimizer, not the weights of a network; use another file of that run")
    inside = [key for key in WRAPPERS if isinstance(content.get(key), (dict, Record))]
    named = {name: value for name, value in content.items() if isinstance(name, str)}
    tensors = {name: value for name, value in named.items() if isinstance(value, (TensorRef, Tensor))}
    if not inside and not tensors:
        nested = [key for key, value in content.items() if isinstance(value, (dict, Record))]
        inside = [key for key in nested if "optim" not in str(key).lower()]
    for key in inside if depth < 3 else ():
        try:
            tensors, where, beside = _find(content[key], depth + 1)
        except WeightsError:
            continue
        kind = "" if where == "state dict" else f", {where}"
        return tensors, f"entry {describe(key)}{kind}", _plain(content) | beside
    if not tensors:
        names = ", ".join(describe(key) for key in list(content)[:8])
        refuse(f"it contains no state dict, only {names or 'an empty dict'}")
    return tensors, "state dict", _plain(content)


def _module_state(module: Record) -> dict[str, TensorRef]:
    """Return the state dict of a pickled module: its parameters and persistent buffers, then those of its children."""
    state: dict[str, TensorRef] = {}
    waiting: list[tuple[str, Any]] = [("", module)]
    visited = 0
    while waiting:
        prefix, record = waiting.pop()
        visited += 1
        if visited > MAX_MODULES:
            refuse("its modules contain themselves, or are too many")
        own = record.state if isinstance(record, Record) else None
        if not isinstance(own, dict):
            continue
        hidden = own.get("_non_persistent_buffers_set") or ()
        tensors = _table(own, "_parameters") | {k: v for k, v in _table(own, "_buffers").items() if k not in hidden}
        state |= {f"{prefix}{name}": tensor for name, tensor in tensors.items() if isinstance(tensor, TensorRef)}
        children = _table(own, "_modules")
        waiting.extend((f"{prefix}{name}.", child) for name, child in reversed(children.items()))
    return state


def _table(state: Mapping[str, Any], name: str) -> dict[Any, Any]:
    table = state.get(name)
    return table if isinstance(table, dict) else {}


def _plain(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the entries that are numbers, text or lists of them."""
    plain = (str, int, float, bool)
    return {
        name: value
        for name, value in content.items()
        if isinstance(name, str)
        and (isinstance(value, plain) or (isinstance(value, (list, tuple)) and all(isinstance(item, plain) for item in value)))
    }
