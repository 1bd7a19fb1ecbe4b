"""What a checkpoint's pickle may name, and what each of these becomes here: a description, never the thing itself.

The list is short on purpose. Besides plain values a state dict needs ordered dicts, sets, tensors and the storages they lie in;
a pickled module needs its classes as well, which are kept as names. Every other name is refused.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ...errors import WeightsError

INERT_PACKAGES = ("package", "networks", "torchvision", "torch.nn")
"""The authors' own classes and those of torch's modules: kept as records, whatever they are."""

ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function as the file names it."""

    module: str
    name: str

    @property
    def inert(self) -> bool:
        """Return whether objects of this class are kept as records."""
        return self.module in INERT_PACKAGES or self.module.startswith(tuple(f"{package}." for package in INERT_PACKAGES))

    @property
    def dtype(self) -> str | None:
        """Return the type of number that a storage class of this name holds; None if it is no storage."""
        return _STORAGES.get(self.name) if self.module in ("torch", "torch.cuda") else None

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Record:
    """An object of some class, never made: its class, the arguments it was to be made of, and its state (`__dict__`)."""

    kind: Name
    arguments: tuple[Any, ...] = field(repr=False)
    state: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in the file: `count` of type `dtype`, `offset` numbers after the start of the block called `key`."""

    key: str
    dtype: str
    count: int
    offset: int = 0

    @property
    def end(self) -> int:
        """Return the bytes from the start of the block to the end of this run."""
        return (self.offset + self.count) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, eq=False)
class TensorRef:
    """A tensor that has not been read: a window of a storage. `offset` and `stride` count numbers, not bytes."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Return the bytes that the tensor's numbers take."""
        return math.prod(self.size) * ITEM_BYTES[self.storage.dtype]


def refuse(reason: str) -> NoReturn:
    """Raise `WeightsError`."""
    raise WeightsError(reason)


def describe(value: Any) -> str:
    """Return a few words for a message: never more of a hostile value than its type or its first characters."""
    if type(value) in (Name, int, float, bool, str):
        return repr(str(value)[:60])
    return str(value.kind)[:60] if type(value) is Record else type(value).__name__


def allowed(module: Any, name: Any) -> Name:
    """Return the name a pickle asks for if a checkpoint may ask for it."""
    if type(module) is not str or type(name) is not str:
        refuse("its pickle names a class by something that is no text")
    named = Name(module, name)
    if not (named.inert or named.dtype or str(named) in _CONSTRUCTORS or str(named) in _VALUES):
        refuse(f"its pickle names {str(named)[:100]!r}, which no checkpoint needs; nothing of it was run")
    return named


def call(function: Any, arguments: Any) -> Any:
    """Return what stands for `function(*arguments)`; only the constructors below are ever called."""
    if type(function) is not Name or type(arguments) is not tuple:
        refuse(f"its pickle calls a {describe(function)}")
    if str(function) in _CONSTRUCTORS:
        return _CONSTRUCTORS[str(function)](*arguments)
    if not function.inert:
        refuse(f"its pickle calls {function}, which is no function of a checkpoint")
    return record(function, arguments)


def record(kind: Any, arguments: Any) -> Record:
    """Return what stands for an object of class `kind`."""
    if type(kind) is not Name or not kind.inert or type(arguments) is not tuple:
        refuse(f"its pickle makes an object of {describe(kind)}")
    return Record(kind, arguments)


def build(target: Any, state: Any) -> None:
    """Keep `state` as that of a record; a class's own `__setstate__` has no say."""
    if type(target) is Record and target.state is None:
        target.state = state
    elif type(target) is not dict:  # an OrderedDict's attributes, such as a state dict's version numbers, are of no use here
        refuse(f"its pickle sets the state of a {describe(target)}")


def put(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    """Return `target` with the items key, value, key, value … in it."""
    target.update(zip(map(key, items[::2]), items[1::2], strict=True))
    return target


def key(value: Any) -> Any:
    """Return `value` if it may be hashed: a tuple nested a million deep, say, would overflow the interpreter's stack."""
    if value is None or type(value) in (str, bytes, bool) or (type(value) is int and abs(value) < 2**63):
        return value
    refuse(f"its pickle has a {describe(value)} as key")


def natural(number: Any) -> int:
    """Return `number` if it is a count or an offset."""
    if type(number) is not int or not 0 <= number < 2**63:
        refuse(f"its pickle holds {describe(number)} where a size belongs")
    return number


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorRef:
    if type(storage) is not Storage or type(size) is not tuple or type(stride) is not tuple or len(size) != len(stride):
        refuse("its pickle describes a tensor in an unknown way")
    offset, size, stride = natural(offset), tuple(map(natural, size)), tuple(map(natural, stride))
    numbers = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if len(size) > 16 or numbers > storage.count or (numbers and last >= storage.count):
        refuse(f"its pickle lays a tensor of size {size[:16]} over a block of {storage.count:,} numbers")
    return TensorRef(storage, offset, size, stride)


def _parameter(tensor: Any, *_: Any) -> TensorRef:
    return tensor if type(tensor) is TensorRef else refuse(f"its pickle makes a parameter of a {describe(tensor)}")


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    return put({}, [item for pair in pairs for item in pair])


def _set(items: Any = ()) -> set[Any]:
    return set(map(key, items))


def _size(numbers: Any = ()) -> tuple[int, ...]:
    return tuple(map(natural, numbers))


def _bytes(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding != "latin1":
        refuse("its pickle holds bytes in an unknown encoding")
    return text.encode("latin-1")


def _numpy_type(code: Any, *_: Any) -> Record:
    return Record(Name("numpy", "dtype"), (code,))


def _numpy_number(kind: Any, data: Any) -> float | int | bool:
    code = _NUMPY_CODES.get(kind.arguments[0]) if type(kind) is Record and kind.kind == Name("numpy", "dtype") else None
    return (
        struct.unpack(code, data)[0] if code and type(data) is bytes else refuse("its pickle holds an unknown kind of number")
    )


_NUMPY_CODES = {"f8": "<d", "f4": "<f", "f2": "<e", "i8": "<q", "i4": "<i", "b1": "?"}


def _device(*where: Any) -> str:
    return ":".join(map(describe, where))


_CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "__builtin__.set": _set,
    "builtins.set": _set,
    "torch.Size": _size,
    "torch.device": _device,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.nn.parameter.Parameter": _parameter,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    # An accuracy that stands beside the weights is often a number of numpy's.
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _numpy_number,
    "numpy._core.multiarray.scalar": _numpy_number,
    "_codecs.encode": _bytes,
}
_VALUES = {f"torch.{dtype}" for dtype in ITEM_BYTES}
