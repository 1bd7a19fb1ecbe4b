"""Read a pickle as data: its names are not imported and its calls are not made.

A pickle is a program for a small stack machine. This machine knows the instructions of state dicts and modules; a class is only
a name, an object a record of its description, a tensor the place of its numbers; `pickled.py` lists the allowed names. Numbers
of instructions, integers, memory slots, nesting and dictionary keys are bounded, so that nothing hostile is hashed or compared.
"""

import pickletools
from typing import Any, BinaryIO

from .pickled import Name, Record, Storage, allowed, build, call, describe, key, natural, put, record, refuse

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
