"""Read the pickle of a checkpoint as data: its names are not imported and its calls are not made.

A pickle is a program for a small stack machine. This machine knows the instructions of state dicts and modules. Besides plain
values a state dict needs ordered dicts, sets, tensors and their storages; pickled modules, training arguments and records of
metrics need their classes. A class is only a `Name`, an object a `Record` of its description, a tensor the place of its
numbers; every other name is refused. Numbers of instructions, integers, memory slots, nesting and dictionary keys are bounded,
so that nothing hostile is hashed or compared.
"""

import math
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

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
    "__builtin__.set": lambda items=(): set(map(key, items)),
    "builtins.set": lambda items=(): set(map(key, items)),
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


MAX_INSTRUCTIONS = 2_000_000  # the largest published checkpoint, optimizer state included, needs about a twentieth of this
MAX_NESTING = 100
MAX_INTEGER = 2**80  # torch's magic number has 77 bits


def unpickle(stream: BinaryIO) -> tuple[Any, list[Storage]]:
    """Read one pickle, leave the stream behind it, and return its content and every storage it refers to.

    The content is made of None, bool, int, float, str, bytes, tuple, list, dict, set, `Name`, `Record`, `Storage`, `TensorRef`.
    Raises WeightsError for names, operations or sizes that no checkpoint needs, ValueError and others for a corrupt stream.
    """
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count >= MAX_INSTRUCTIONS:
            refuse(f"its pickle has more than {MAX_INSTRUCTIONS:,} instructions")
        if opcode.name != "STOP":
            machine.step(opcode.name, argument, count)
    (root,) = machine.stack
    _limit_nesting(root)
    return root, machine.storages


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: list[Storage] = []

    def step(self, opcode: str, argument: Any, count: int) -> None:
        """Carry out one instruction, the file's `count`-th."""
        push = self.stack.append
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4":
                if abs(argument) >= MAX_INTEGER:
                    refuse(f"its pickle holds a {argument.bit_length():,}-bit integer")
                push(argument)
            case "FLOAT" | "BINFLOAT" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8":
                push(argument)
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING" | "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                push(argument)
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_SET":
                push({"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}[opcode]())
            case "MARK":
                self.marks.append(len(self.stack))
            case "TUPLE":
                push(tuple(self._since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(self._pop(int(opcode[-1]))))
            case "LIST":
                push(self._since_mark())
            case "DICT":
                push(put({}, self._since_mark()))
            case "APPEND" | "APPENDS":
                items = self._pop(1) if opcode == "APPEND" else self._since_mark()
                self._top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._pop(2) if opcode == "SETITEM" else self._since_mark()
                put(self._top(dict), items)
            case "ADDITEMS":
                items = self._since_mark()
                self._top(set).update(map(key, items))
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                slot = len(self.memo) if argument is None else argument
                if slot > count:
                    refuse(f"its pickle remembers a value in slot {slot:,} after {count:,} instructions")
                self.memo[slot] = self.stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                push(self.memo[argument])
            case "GLOBAL":
                push(allowed(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                push(allowed(*self._pop(2)))
            case "REDUCE":
                push(call(*self._pop(2)))
            case "NEWOBJ":
                push(record(*self._pop(2)))
            case "BUILD":
                (state,) = self._pop(1)
                build(self.stack[-1], state)
            case "BINPERSID":
                push(self._persistent(*self._pop(1)))
            case _:
                refuse(f"its pickle uses the instruction {opcode}, which no checkpoint needs")

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise IndexError("pop from an empty stack")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _since_mark(self) -> list[Any]:
        return self._pop(len(self.stack) - self.marks.pop())

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            refuse(f"its pickle adds items to a {describe(self.stack[-1])}")
        return self.stack[-1]

    def _persistent(self, identifier: Any) -> Any:
        match identifier:
            case ("storage", Name(dtype=str(dtype)), str(block), str(), int(count), *view):
                # In the oldest files a view (key, offset, count) is a part of the block.
                offset, count = (0, count) if view in ([], [None]) else view[0][1:]
                self.storages.append(Storage(block, dtype, natural(count), natural(offset)))
                return self.storages[-1]
            case ("module", Name() as kind, *_):  # a class beside its source code, in the oldest files
                return kind
        refuse(f"its pickle refers to a block of data in an unknown way: {describe(identifier)}")


def _limit_nesting(root: Any) -> None:
    """Raise if the nesting is too deep for recursive readers; iterative itself."""
    level, seen = [root], set[int]()
    for _ in range(MAX_NESTING):
        inner: list[Any] = []
        for value in level:
            if id(value) in seen:
                continue
            seen.add(id(value))
            if type(value) is dict:
                inner.extend(value.values())
            elif type(value) in (tuple, list):
                inner.extend(value)
            elif type(value) is Record:
                inner.extend((value.arguments, value.state))
        if not inner:
            return
        level = inner
    refuse(f"its pickle is nested more than {MAX_NESTING} levels deep")
