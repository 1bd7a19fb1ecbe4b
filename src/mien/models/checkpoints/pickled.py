"""Names that the pickle of a checkpoint may contain, and the inert descriptions that represent them.

Besides plain values a state dict needs ordered dicts, sets, tensors and their storages; pickled modules, training arguments and
records of metrics need their classes, which are kept as names. No object is created from them. Every other name is refused.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch

from ...errors import WeightsError

# Packages of authors' classes, torch modules and training arguments, whose objects are kept as records.
INERT_PACKAGES = ("package", "networks", "models", "model", "__main__", "argparse", "timm", "torchvision", "torch.nn")

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip
ITEM_BYTES = {dtype: getattr(torch, dtype).itemsize for dtype in _STORAGES.values()}


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function named in the file."""

    module: str
    name: str

    @property
    def inert(self) -> bool:
        """Whether objects of this class are kept as records."""
        return self.module in INERT_PACKAGES or self.module.startswith(tuple(f"{package}." for package in INERT_PACKAGES))

    @property
    def dtype(self) -> str | None:
        """The number type of a storage class; None for other names."""
        return _STORAGES.get(self.name) if self.module in ("torch", "torch.cuda") else None

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Record:
    """Description of an object that is never created: its class, constructor arguments and state (`__dict__`)."""

    kind: Name
    arguments: tuple[Any, ...] = field(repr=False)
    state: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Storage:
    """A range of numbers in the file: `count` of type `dtype`, `offset` numbers after the start of block `key`."""

    key: str
    dtype: str
    count: int
    offset: int = 0

    @property
    def end(self) -> int:
        """Bytes from the start of the block to the end of the range."""
        return (self.offset + self.count) * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, eq=False)
class TensorRef:
    """A tensor that has not been read yet: a view of a storage. `offset` and `stride` count numbers, not bytes."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the tensor in bytes."""
        return math.prod(self.size) * ITEM_BYTES[self.storage.dtype]


def refuse(reason: str) -> NoReturn:
    """Raise `WeightsError`."""
    raise WeightsError(reason)


def describe(value: Any) -> str:
    """Return a short description for messages: the type of a hostile value, or its first characters."""
    if type(value) in (Name, int, float, bool, str):
        return repr(str(value)[:60])
    return str(value.kind)[:60] if type(value) is Record else type(value).__name__


def allowed(module: Any, name: Any) -> Name:
    """Return a name in a pickle if checkpoints may contain it."""
    if type(module) is not str or type(name) is not str:
        refuse("its pickle names a class with a value that is not text")
    named = Name(module, name)
    if not (named.inert or named.dtype or str(named) in _CONSTRUCTORS or str(named) in _VALUES):
        refuse(
            f"its pickle contains {str(named)[:100]!r}, which is not allowed in checkpoints and was not executed; if you trust "
            "the file, load it with its own code and save only the state dict: torch.save(model.state_dict(), …)"
        )
    return named


def call(function: Any, arguments: Any) -> Any:
    """Return the description of `function(*arguments)`; only the constructors below are ever called."""
    if type(function) is not Name or type(arguments) is not tuple:
        refuse(f"its pickle calls a {describe(function)}")
    if str(function) in _CONSTRUCTORS:
        return _CONSTRUCTORS[str(function)](*arguments)
    if not function.inert:
        refuse(f"its pickle calls {function}, which is not allowed in checkpoints")
    return record(function, arguments)


def record(kind: Any, arguments: Any) -> Record:
    """Return the description of an object of class `kind`."""
    if type(kind) is not Name or not kind.inert or type(arguments) is not tuple:
        refuse(f"its pickle makes an object of {describe(kind)}")
    return Record(kind, arguments)


def build(target: Any, state: Any) -> None:
    """Set the state of a record; `__setstate__` is never called."""
    if type(target) is Record and target.state is None:
        target.state = state
    elif type(target) is not dict:  # Attributes of an OrderedDict, such as version numbers, are ignored.
        refuse(f"its pickle sets the state of a {describe(target)}")


def put(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    """Return `target` with the items key, value, key, value … in it."""
    target.update(zip(map(key, items[::2]), items[1::2], strict=True))
    return target


def key(value: Any) -> Any:
    """Return `value` if it is safe to hash; a tuple nested a million times would overflow the stack of the interpreter."""
    if value is None or type(value) in (str, bytes, bool) or (type(value) is int and abs(value) < 2**63):
        return value
    refuse(f"its pickle has a {describe(value)} as key")


def natural(number: Any) -> int:
    """Return `number` if it is a valid count or offset."""
    if type(number) is not int or not 0 <= number < 2**63:
        refuse(f"its pickle contains {describe(number)}, expected a size")
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


def _set(items: Any = ()) -> set[Any]:
    return set(map(key, items))


def _bytes(text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding != "latin1":
        refuse("its pickle holds bytes in an unknown encoding")
    return text.encode("latin-1")


def _array(kind: Any, *_: Any) -> Record:
    if kind != Name("numpy", "ndarray"):
        refuse("its pickle contains an unknown kind of array")
    return Record(Name("numpy", "ndarray"), ())


def _numpy_number(kind: Any, data: Any) -> float | int | bool:
    code = _NUMPY_CODES.get(kind.arguments[0]) if type(kind) is Record and kind.kind == Name("numpy", "dtype") else None
    if not code or type(data) is not bytes:
        refuse("its pickle holds an unknown kind of number")
    return struct.unpack(code, data)[0]


_NUMPY_CODES = {"f8": "<d", "f4": "<f", "f2": "<e", "i8": "<q", "i4": "<i", "b1": "?"}


_CONSTRUCTORS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": lambda pairs=(): put({}, [item for pair in pairs for item in pair]),
    "__builtin__.set": _set,
    "builtins.set": _set,
    "torch.Size": lambda numbers=(): tuple(map(natural, numbers)),
    "torch.device": lambda *where: ":".join(map(describe, where)),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.nn.parameter.Parameter": _parameter,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    # Accuracies beside the weights are often numpy scalars, records of metrics contain numpy arrays.
    "numpy.dtype": lambda code, *_: Record(Name("numpy", "dtype"), (code,)),
    "numpy.core.multiarray.scalar": _numpy_number,
    "numpy._core.multiarray.scalar": _numpy_number,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy._core.multiarray._reconstruct": _array,
    "_codecs.encode": _bytes,
}
_VALUES = {"numpy.ndarray", *(f"torch.{dtype}" for dtype in ITEM_BYTES)}
