"""Read weights files: their formats, and the place of the state dict in their contents.

Contents are described first; values are read on request.

| container | file begins with | written by |
|---|---|---|
| torch zip | `PK` and an entry `*/data.pkl` | `torch.save` since 1.6 |
| torch legacy | a pickle of torch's magic number | `torch.save` before 1.6 |
| npz | `PK` and entries `*.npy` | `numpy.savez`, `numpy.savez_compressed` |
| safetensors | the length of its header, then `{` | `safetensors` |

Declared sizes are accepted only if the file is large enough.
"""

import math
import mmap
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import safetensors
import torch
from torch import Tensor

from ...errors import WeightsError, reason
from .pickled import ITEM_BYTES, Record, Storage, TensorRef, describe, refuse, unpickle

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


MAGIC = 0x1950A86A20F9469CFC6C
MAX_PICKLE_BYTES = 2**28
MAX_GROWTH, FREE_BYTES = 20, 2**26  # unpacked, a file may be this many times its size, or this many bytes


@dataclass(slots=True)
class Container:
    """An open file of weights; it reads the bytes of a torch storage by `block`."""

    kind: str
    content: Any
    block: Callable[[Storage], bytearray] = field(default=lambda storage: refuse(f"it has no block {describe(storage.key)}"))
    _blocks: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def tensor(self, ref: TensorRef | Tensor) -> Tensor:
        """Return the tensor; those that share a storage in the file share their memory."""
        if isinstance(ref, Tensor):
            return ref
        dtype = getattr(torch, ref.storage.dtype)
        if ref.nbytes == 0:
            return torch.empty(ref.size, dtype=dtype)
        which = (ref.storage.key, ref.storage.dtype)
        if which not in self._blocks:
            self._blocks[which] = torch.frombuffer(self.block(ref.storage), dtype=dtype)
        return self._blocks[which].as_strided(ref.size, ref.stride, ref.storage.offset + ref.offset).contiguous()


@contextmanager
def open_container(path: Path) -> Iterator[Container]:
    """Open a weights file and describe its contents; WeightsError for an unsupported format, others for a corrupt file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(0)
        if start.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(file) as archive:
                yield _zip(archive, size)
        elif start.startswith(b"\x80"):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
                yield _legacy(cast(BinaryIO, pages), size)
        elif start[8:9] == b"{":
            try:
                with safetensors.safe_open(path, "pt") as opened:
                    tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                    metadata = opened.metadata() or {}
            except safetensors.SafetensorError as error:
                refuse(f"it is not a valid safetensors file: {error}")
            yield Container("safetensors", metadata | tensors)
        else:
            refuse(_unknown(start))


def growth_is_plausible(unpacked: int, packed: int) -> bool:
    """Return whether a file of `packed` bytes may hold `unpacked` bytes of numbers."""
    return unpacked <= max(MAX_GROWTH * packed, FREE_BYTES)


def _unknown(start: bytes) -> str:
    if not start:
        return "it is empty"
    if start.startswith(b"\x89HDF"):
        return "it is an HDF5 file (Keras); only PyTorch, safetensors and npz weights are read"
    if start[257:262] == b"ustar":
        return "it is in the tar format that PyTorch wrote before 0.1.10; load and save it with a newer version"
    if start.lstrip()[:1] in (b"<", b"{"):
        return "it is text, perhaps the error page of a failed download; download it again"
    return f"it begins with {start[:8]!r}, expected a PyTorch, safetensors or npz file"


def _zip(archive: zipfile.ZipFile, size: int) -> Container:
    entries = {entry.filename: entry for entry in archive.infolist()}
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if any(entry.flag_bits & 1 for entry in entries.values()):
        refuse("it is encrypted")
    if not growth_is_plausible(sum(entry.file_size for entry in entries.values()), size):
        refuse(f"unpacked it would be more than {MAX_GROWTH} times its {size:,} bytes")
    if not pickles:
        if entries and all(name.endswith(".npy") for name in entries):
            return Container("npz", {name.removesuffix(".npy"): _npy(archive, entry) for name, entry in entries.items()})
        refuse("it is a zip file without a checkpoint (no data.pkl) and without arrays (no .npy)")
    folder = pickles[0].removesuffix("data.pkl")
    if len(pickles) > 1 or f"{folder}constants.pkl" in entries:
        refuse("it is a TorchScript program, not a checkpoint; save the state dict of the module instead")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
        refuse("its blocks are compressed, which PyTorch never does")
    if f"{folder}byteorder" in entries and archive.read(f"{folder}byteorder") != b"little":
        refuse("it was written on a big-endian machine, which is not supported")
    if entries[pickles[0]].file_size > MAX_PICKLE_BYTES:
        refuse(f"its pickle has {entries[pickles[0]].file_size:,} bytes")
    root, _ = unpickle(BytesIO(archive.read(pickles[0])))

    def block(storage: Storage) -> bytearray:
        entry = entries.get(f"{folder}data/{storage.key}")
        if entry is None or entry.file_size != storage.count * ITEM_BYTES[storage.dtype] or storage.offset:
            held = "is missing" if entry is None else f"has {entry.file_size:,} bytes"
            wanted = f"{storage.count:,} numbers of {storage.dtype}"
            refuse(f"its block {describe(storage.key)} {held}, not the {wanted} it should hold")
        with archive.open(entry) as stream:
            return _read(cast(BinaryIO, stream), entry.file_size)

    return Container("torch zip", root, block)


def _legacy(stream: BinaryIO, size: int) -> Container:
    magic, _ = unpickle(stream)
    if magic != MAGIC:
        refuse("it is a pickle, but not one that torch.save wrote; save the state dict with torch.save")
    version, _ = unpickle(stream)
    system, _ = unpickle(stream)
    if version != 1001 or not isinstance(system, dict) or system.get("little_endian") is not True:
        found = f"version {describe(version)} of PyTorch's old format or from a big-endian machine"
        refuse(f"it is in {found}; version 1001 is read")
    root, storages = unpickle(stream)
    keys, _ = unpickle(stream)
    dtypes = {storage.key: storage.dtype for storage in storages}
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        starts[key] = stream.tell()
        ends[key] = starts[key] + count * ITEM_BYTES[dtypes[key]]
        if count < 0 or ends[key] > size:
            refuse(f"its block {describe(key)} should hold {count:,} numbers, for which the file is too short")
        stream.seek(ends[key])

    def block(storage: Storage) -> bytearray:
        start = starts[storage.key]
        if start + storage.end > ends[storage.key] or dtypes[storage.key] != storage.dtype:
            wanted = f"{storage.count:,} numbers of {storage.dtype}"
            refuse(f"its block {describe(storage.key)} does not hold the {wanted} it should")
        stream.seek(start)
        return _read(stream, ends[storage.key] - start)

    return Container("torch legacy", root, block)


def _read(stream: BinaryIO, count: int) -> bytearray:
    data = bytearray(stream.read(count))
    return data if len(data) == count else refuse("it ends in the middle of a block")


def _npy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Tensor:
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in header:
            refuse(f"its array {describe(entry.filename)} is in version {version} of the npy format")
        shape, fortran, dtype = header[version](stream)
        if dtype.kind not in "biuf" or dtype.hasobject:
            refuse(f"its array {describe(entry.filename)} holds {str(dtype)[:60]}, not numbers")
        count = math.prod(shape) * dtype.itemsize
        if count != entry.file_size - stream.tell():
            refuse(f"its array {describe(entry.filename)} has no room for the shape {shape[:8]}")
        array = np.frombuffer(_read(cast(BinaryIO, stream), count), dtype).reshape(shape, order="F" if fortran else "C")
    return torch.from_numpy(np.ascontiguousarray(array, dtype.newbyteorder("=")).reshape(shape))
