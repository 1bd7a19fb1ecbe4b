"""Files that want more than to be read: each is refused in one line, without a side effect and without the memory it asks
for."""

import builtins
import functools
import importlib
import operator
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_samples import SAMPLES, legacy_stream, saved, state, zipped

from mien.errors import WeightsError
from mien.models.checkpoints import pickled, read_checkpoint

Write = Callable[[Path, bytes], Path]


def as_zip(path: Path, pickle: bytes) -> Path:
    return zipped(pickle, path)


def as_legacy(path: Path, pickle: bytes) -> Path:
    path.write_bytes(legacy_stream(pickle))
    return path


both = pytest.mark.parametrize("write", [as_zip, as_legacy])


@contextmanager
def refused(reason: str, megabytes: float = 32) -> Iterator[None]:
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=reason) as caught:
            yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    assert peak < megabytes * 2**20


class Evil:
    """Pickles as a call: unpickled the usual way it runs."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def deeds(marker: Path) -> dict[str, tuple[Evil, str]]:
    """Return ways of making `marker`, and the name each is caught by."""
    touch = f"touch {marker}"
    python = f"__import__('os').system({touch!r})"
    return {
        "os.system": (Evil(os.system, touch), f"{os.system.__module__}.system"),
        "eval": (Evil(eval, python), "__builtin__.eval"),
        "exec": (Evil(exec, python), "__builtin__.exec"),
        "getattr": (Evil(getattr, str, "join"), "__builtin__.getattr"),
        "open": (Evil(open, str(marker), "w"), "io.open|__builtin__.open|_io.open"),
        "subprocess": (Evil(subprocess.Popen, ["touch", str(marker)]), "(subprocess|commands).Popen"),
        "import": (Evil(importlib.import_module, "this"), "importlib.import_module"),
        "compile": (Evil(compile, python, "x", "exec"), "__builtin__.compile"),
        "map": (Evil(map, os.system, [touch]), "__builtin__.map|itertools.imap"),
        "partial": (Evil(functools.partial, os.system, touch), "functools.partial"),
        "attrgetter": (Evil(operator.attrgetter, "system"), "operator.attrgetter"),
        "pickle in pickle": (Evil(pickle.loads, pickle.dumps(Evil(os.system, touch))), "_?pickle.loads"),
        "torch.load": (Evil(torch.load, str(marker)), "torch.serialization.load"),
        "storage from bytes": (Evil(torch.storage._load_from_bytes, b"x"), "torch.storage._load_from_bytes"),
        "numpy": (Evil(np.load, str(marker)), "numpy.load"),
        "class": (Evil(type, "X", (), {}), "__builtin__.type"),
        "object": (Evil(builtins.object), "__builtin__.object"),
        "function as argument": (Evil(OrderedDict, [("a", os.system)]), f"{os.system.__module__}.system"),
    }


WAYS = sorted(deeds(Path("x")))
PLACES: dict[str, Callable[[Any], Any]] = {
    "root": lambda evil: evil,
    "value": lambda evil: {"state_dict": state(), "extra": evil},
    "deep": lambda evil: {"state_dict": OrderedDict(a=torch.ones(1), b=[(1, OrderedDict(c=evil))])},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", WAYS)
def test_calls_are_refused_by_name(way: str, place: str, legacy: bool, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    evil, name = deeds(marker)[way]
    path = saved(PLACES[place](evil), tmp_path / "weights.pth", legacy=legacy)
    with refused(f"contains '({name})', which is not allowed in checkpoints and was not executed"):
        read_checkpoint(path)
    assert not marker.exists()


def test_the_same_files_do_run_elsewhere(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = saved(deeds(marker)["os.system"][0], tmp_path / "weights.pth")
    torch.load(path, weights_only=False)  # the reason for all this
    assert marker.exists()


def test_authors_classes_are_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "package").mkdir()
    (tmp_path / "package/model1.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\n"
        "class Net:\n    def __setstate__(self, state):\n        raise SystemExit('set')\n"
        "    def __new__(cls):\n        raise SystemExit('new')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = SAMPLES["module"][0](tmp_path / "weights.path")
    assert sorted(read_checkpoint(path).state) == sorted(state())
    assert not marker.exists()
    assert "package.model1" not in sys.modules


# Hand-made pickles: "." stops, "c" names, ")" and "(…t" make tuples, "R" calls, "Q" asks for a block, "b" sets a state.

NAMES = {
    "a module never imported": (b"cantigravity\nfly\n)R.", "contains 'antigravity.fly'"),
    "protocol 4": (b"\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.", "contains 'posix.system'"),
    "look-alike package": (b"cpackages.model1\nNet\n.", "contains 'packages.model1.Net'"),
    "look-alike torch": (b"ctorch.nnx\nNet\n.", "contains 'torch.nnx.Net'"),
    "torch itself": (b"ctorch\nhub\n.", "contains 'torch.hub'"),
    "rebuilding with code": (
        b"ctorch._utils\n_rebuild_wrapper_subclass\n.",
        "_rebuild_wrapper_subclass'",
    ),
    "text that breaks lines": (b"\x8c\x04a\nb\n\x8c\x01c\x93.", r"contains 'a\\nb\\n.c'"),
    "endless name": (b"c" + b"a" * 100_000 + b"\nx\n.", "contains 'a{100}'"),
    "a name that is no text": (b"K\x01K\x02\x93.", "names a class with a value that is not text"),
    "old-style instance": (b"(iposix\nsystem\n.", "uses the instruction INST"),
    "old-style object": (b"(cpackage\nNet\no.", "uses the instruction OBJ"),
    "extension registry": (b"\x82\x01.", "uses the instruction EXT1"),
    "text reference": (b"Pstorage\n.", "uses the instruction PERSID"),
    "keyword object": (b"cpackage\nNet\n)}\x92.", "uses the instruction NEWOBJ_EX"),
    "popped evidence": (b"cpackage\nNet\n0N.", "uses the instruction POP"),
    "out-of-band buffer": (b"\x97.", "uses the instruction NEXT_BUFFER"),
}

CALLS = {
    "calling a text": (b"X\x02\x00\x00\x00os)R.", "calls a 'os'"),
    "calling a value": (b"ctorch\nfloat32\n)R.", "calls torch.float32, which is not allowed"),
    "calling a storage": (b"ctorch\nFloatStorage\nK\x09\x85R.", "calls torch.FloatStorage, which is not allowed"),
    "calling a record": (b"cpackage\nNet\n)\x81)R.", "calls a package.Net"),
    "no arguments": (b"ccollections\nOrderedDict\nNR.", "calls a 'collections.OrderedDict'|calls"),
    "making an object of a function": (b"ccollections\nOrderedDict\n)\x81.", "makes an object of 'collections.OrderedDict'"),
    "making an object of a text": (b"X\x01\x00\x00\x00x)\x81.", "makes an object of 'x'"),
    "state of a list": (b"]}b.", "sets the state of a list"),
    "state of a class": (b"cpackage\nNet\n}b.", "sets the state of a 'package.Net'"),
    "state set twice": (b"cpackage\nNet\n)\x81}b}b.", "sets the state of a package.Net"),
    "items of a record": (b"cpackage\nNet\n)\x81K\x01K\x02s.", "adds items to a package.Net"),
    "appending to a dict": (b"}K\x01a.", "adds items to a dict"),
    "number of an unknown kind": (
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00O8\x85RN\x86R.",
        "unknown kind of number",
    ),
    "number of a record": (b"cnumpy.core.multiarray\nscalar\ncpackage\nNet\n)\x81N\x86R.", "unknown kind of number"),
    "number of too few bytes": (
        b"cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00f8\x85RC\x01a\x86R.",
        "corrupt",
    ),
    "bytes in an odd encoding": (
        b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
        "bytes in an unknown encoding",
    ),
    "state of numpy's arrays": (b"cnumpy.core.multiarray\n_reconstruct\n)R.", "unknown kind of array|corrupt"),
    "parameter of nothing": (b"ctorch._utils\n_rebuild_parameter\nN\x85R.", "makes a parameter of a NoneType"),
    "tensor of nothing": (b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR.", "describes a tensor in an unknown way"),
}

STRUCTURE = {
    "tuple as key": (b"})K\x01s.", "has a tuple as key"),
    "tuple in a set": (b"\x8f()\x90.", "has a tuple as key"),
    "list in a set": (b"c__builtin__\nset\n]]a\x85R.", "has a list as key"),
    "nested lists": (b"]" * 20_000 + b"a" * 19_999 + b".", "nested more than 100 levels"),
    "nested tuples": (b")" + b"\x85" * 20_000 + b".", "nested more than 100 levels"),
    "nested tuples as key": (b"})" + b"\x85" * 20_000 + b"Ns.", "has a tuple as key"),
    "nested dicts": (b"}X\x01\x00\x00\x00a" * 20_000 + b"N" + b"s" * 20_000 + b".", "nested more than 100 levels"),
    "nested records": (b"cpackage\nNet\n" * 5_000 + b")" + b"\x81\x85" * 4_999 + b"\x81.", "nested more than 100 levels"),
    "nested marks": (b"(" * 20_000 + b".", "corrupt"),
    "memory slot far out": (b"}r\xff\xff\xff\x7f.", "remembers a value in slot 2,147,483,647 after 1 instructions"),
    "memory slot in text": (b"}p99999999999999\n.", "remembers a value in slot 99,999,999,999,999"),
    "memory slot never filled": (b"h\x05.", "corrupt"),
    "huge integer": (b"\x8b\x00\x00\x10\x00" + b"\xff" * 0x0FFFFF + b"\x7f.", "holds a .*-bit integer"),
    "huge decimal": (b"I" + b"9" * 100_000 + b"\n.", "corrupt"),
    "text of 4 exabytes": (b"\x8d" + struct.pack("<Q", 2**62) + b"abc.", "corrupt"),
    "bytes of 4 exabytes": (b"\x8e" + struct.pack("<Q", 2**62) + b"abc.", "corrupt"),
    "buffer of 8 gigabytes": (b"\x96" + struct.pack("<Q", 2**33) + b"abc.", "corrupt"),
    "frame of 4 exabytes": (b"\x95" + struct.pack("<Q", 2**62) + b"].", "contains a list"),
    "empty stack": (b".", "corrupt"),
    "too much on the stack": (b"NN.", "corrupt"),
    "no stop": (b"}", "corrupt"),
    "pop across a mark": (b"K\x01(\x85t.", "corrupt"),
    "no mark": (b"K\x01t.", "corrupt"),
    "unknown instruction": (b"\xff.", "corrupt"),
    "odd items": (b"}(K\x01u.", "corrupt"),
}


@both
@pytest.mark.parametrize("case", NAMES | CALLS | STRUCTURE)
def test_hand_made_pickles_are_refused(case: str, write: Write, tmp_path: Path) -> None:
    pickle, reason = (NAMES | CALLS | STRUCTURE)[case]
    path = write(tmp_path / "weights.pth", pickle)
    before = set(sys.modules)
    with refused(reason, megabytes=160 if case.startswith("nested") else 32):
        read_checkpoint(path)
    assert not {name for name in set(sys.modules) - before if not name.startswith("encodings.")}


def reference(block: bytes = b"0", count: int = 4, kind: bytes = b"ctorch\nFloatStorage\n", view: bytes = b"") -> bytes:
    key = b"X" + struct.pack("<I", len(block)) + block
    return b"(X\x07\x00\x00\x00storage" + kind + key + b"X\x03\x00\x00\x00cpu" + number(count) + view + b"tQ"


def number(value: int) -> bytes:
    data = value.to_bytes(10, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, storage: bytes | None = None) -> bytes:
    """Return the pickle of {"w": a tensor}."""
    start = b"}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("
    return start + (storage or reference()) + number(offset) + numbers(size) + numbers(stride) + b"\x89NtRs."


GOOD = tensor((2, 2), (2, 1))

TENSORS = {
    "beyond the block": (tensor((5,), (1,)), r"lays a tensor of size \(5,\) over a block of 4 numbers"),
    "beyond by its stride": (tensor((2,), (4,)), "lays a tensor"),
    "beyond by its offset": (tensor((2,), (1,), 3), "lays a tensor"),
    "a million faces of one number": (tensor((10**12,), (0,)), "lays a tensor"),
    "too many axes": (tensor((1,) * 50, (1,) * 50), "lays a tensor"),
    "product overflows": (tensor((2**32, 2**32), (0, 0)), "lays a tensor"),
    "negative size": (tensor((-1,), (1,)), "contains '-1', expected a size"),
    "negative stride": (tensor((2,), (-1,), 1), "contains '-1', expected a size"),
    "negative offset": (tensor((1,), (1,), -4), "contains '-4', expected a size"),
    "negative count": (tensor((1,), (1,), storage=reference(count=-4)), "contains '-4', expected a size"),
    "astronomic count": (tensor((1,), (1,), storage=reference(count=2**62)), "block '0'|does not hold"),
    "other count": (tensor((2,), (1,), storage=reference(count=2)), "block '0'|not read|4"),
    "other type": (tensor((2,), (1,), storage=reference(kind=b"ctorch\nDoubleStorage\n")), "block '0'|short"),
    "missing block": (tensor((2,), (1,), storage=reference(b"7")), "block '7' is missing|corrupt"),
    "path as block": (
        tensor((2,), (1,), storage=reference(b"../../etc/passwd")),
        "block '../../etc/passwd' is missing|corrupt",
    ),
    "class that is no storage": (tensor((2,), (1,), storage=reference(kind=b"cpackage\nFloatStorage\n")), "in an unknown way"),
    "reference to a number": (b"}X\x01\x00\x00\x00wK\x05Qs.", "refers to a block of data in an unknown way"),
    "reference to a list": (b"}X\x01\x00\x00\x00w]Qs.", "refers to a block of data in an unknown way"),
    "view beyond the block": (
        tensor((2,), (1,), storage=reference(view=b"(X\x01\x00\x00\x00vK\x03K\x03t")),
        "does not hold|has 16",
    ),
    "view of nothing": (tensor((2,), (1,), storage=reference(view=b"K\x01")), "corrupt"),
}


def with_block(write: Write, path: Path, pickle: bytes, block: bytes = struct.pack("<4f", 1, 2, 3, 4)) -> Path:
    if write is as_zip:
        return zipped(pickle, path, {"0": block})
    path.write_bytes(legacy_stream(pickle, b"\x80\x02]X\x01\x00\x00\x000a." + struct.pack("<q", 4) + block))
    return path


@both
def test_the_hand_made_tensor_is_good(write: Write, tmp_path: Path) -> None:
    assert read_checkpoint(with_block(write, tmp_path / "a", GOOD)).state["w"].tolist() == [[1, 2], [3, 4]]
    half = tensor((2,), (1,), storage=reference(count=4, view=b"(X\x01\x00\x00\x00vK\x02K\x02t"))
    if write is as_legacy:
        assert read_checkpoint(with_block(write, tmp_path / "a", half)).state["w"].tolist() == [3, 4]


@both
@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_lie_are_refused(case: str, write: Write, tmp_path: Path) -> None:
    pickle, reason = TENSORS[case]
    path = with_block(write, tmp_path / "weights.pth", pickle)
    if case == "other count" and write is as_legacy:
        assert read_checkpoint(path).state["w"].tolist() == [1, 2]  # the block has its own count there, and it is enough
        return
    with refused(reason):
        read_checkpoint(path)


def test_many_tensors_over_one_block_cannot_grow_without_end(tmp_path: Path) -> None:
    block = bytes(4 * 2**18)
    start = b"}("
    store = reference(count=2**18) + b"q\x01"
    first = b"X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(" + store
    window = number(0) + numbers((512, 512)) + numbers((1, 512)) + b"\x89NtR"
    more = b"".join(
        b"X\x05\x00\x00\x00w%04dctorch._utils\n_rebuild_tensor_v2\n(h\x01" % i
        + number(0)
        + numbers((512, 512))
        + numbers((1, 512))
        + b"\x89NtR"
        for i in range(500)
    )
    path = zipped(start + first + window + more + b"u.", tmp_path / "a", {"0": block})
    with refused("its tensors would take 525,336,576 bytes, far more than the size of the file"):
        read_checkpoint(path)


def module(children: bytes) -> bytes:
    """Return the pickle of a module with `children`, a pickled dict; the module is in memory slot 1."""
    return b"cpackage\nNet\n)\x81q\x01}X\x08\x00\x00\x00_modules" + children + b"sb."


@both
def test_modules_that_contain_themselves_are_refused(write: Write, tmp_path: Path) -> None:
    with refused("modules contain themselves"):
        read_checkpoint(write(tmp_path / "a", module(b"}X\x01\x00\x00\x00ah\x01s")))


@both
def test_modules_that_share_their_children_cannot_multiply(write: Write, tmp_path: Path) -> None:
    inner = b"cpackage\nNet\n)\x81"
    for _ in range(30):  # each holds the one before it twice: 2³⁰ in all, in 30 records
        inner = (
            b"cpackage\nNet\n)\x81}X\x08\x00\x00\x00_modules}(X\x01\x00\x00\x00a" + inner + b"q\x02X\x01\x00\x00\x00bh\x02usb"
        )
    with refused("are too many", megabytes=64):
        read_checkpoint(write(tmp_path / "a", inner + b"."))


@both
def test_lists_that_multiply_are_never_unfolded(write: Write, tmp_path: Path) -> None:
    tenfold = b"".join(b"q%b]%b" % (bytes([slot]), b"h%ba" % bytes([slot]) * 10) for slot in range(60))
    with refused("contains a tuple"):
        read_checkpoint(write(tmp_path / "a", b"(]" + tenfold + b"t."))


@both
def test_too_many_instructions_are_refused(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled, "MAX_INSTRUCTIONS", 5_000)
    with refused("more than 5,000 instructions"):
        read_checkpoint(write(tmp_path / "a", b"]" + b"Na" * 5_000 + b"."))


def test_zip_bombs_are_refused(tmp_path: Path) -> None:
    zeros = bytes(100 * 2**20)
    path = zipped(GOOD, tmp_path / "a", {"0": zeros}, zipfile.ZIP_DEFLATED)
    with refused("more than 20 times its"):
        read_checkpoint(path)
    np.savez_compressed(tmp_path / "b.npz", w=np.frombuffer(zeros, np.float32))
    with refused("more than 20 times its"):
        read_checkpoint(tmp_path / "b.npz")
    with refused("blocks are compressed"):
        read_checkpoint(zipped(GOOD, tmp_path / "c", {"0": bytes(16)}, zipfile.ZIP_DEFLATED))


def test_zip_entries_over_each_other_are_refused(tmp_path: Path) -> None:
    """A few bytes, listed a thousand times: the central directory is believed only as far as the file has bytes."""
    path = zipped(GOOD, tmp_path / "a", {"0": bytes(2**20)})
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    count, length, offset = *struct.unpack("<H", data[end + 10 : end + 12]), *struct.unpack("<II", data[end + 12 : end + 20])
    directory = bytes(data[offset : offset + length])
    entry = directory.index(b"archive/data/0") - 46
    one = directory[entry : entry + 46 + len("archive/data/0")]
    copies = b"".join(one.replace(b"data/0", b"dat%03d" % i) for i in range(1000))
    data[end + 8 : end + 20] = struct.pack("<HHII", count + 1000, count + 1000, length + len(copies), offset)
    data[end:end] = copies
    path.write_bytes(data)
    assert len(zipfile.ZipFile(path).infolist()) == count + 1000
    with refused("more than 20 times its"):
        read_checkpoint(path)


def test_arrays_that_lie_are_refused(tmp_path: Path) -> None:
    def npz(header: str, data: bytes, version: bytes = b"\x01\x00") -> Path:
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("w.npy", b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + data)
        return tmp_path / "a.npz"

    good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}"
    assert read_checkpoint(npz(good, bytes(8))).state["w"].tolist() == [0, 0]
    for header, reason in {
        good.replace("(2,)", "(10000000000000,)"): "has no room for the shape",
        good.replace("(2,)", "(2, -1)"): "has no room|corrupt",
        good.replace("<f4", "|O"): "holds object, not numbers",
        good.replace("<f4", "<U9"): "holds <U9, not numbers",
        good.replace("(2,)", "__import__('os').getpid()"): "corrupt",
        good[:-5]: "corrupt",
    }.items():
        with refused(reason):
            read_checkpoint(npz(header, bytes(8)))
    with refused(r"version \(3, 0\)"):
        read_checkpoint(npz(good, bytes(8), b"\x03\x00"))
    np.savez(tmp_path / "o.npz", w=np.array([Evil(os.system, f"touch {tmp_path / 'ran'}")], dtype=object))
    with refused("holds object, not numbers"):
        read_checkpoint(tmp_path / "o.npz")
    assert not (tmp_path / "ran").exists()


def test_messages_stay_short_whatever_a_file_is_called_inside(tmp_path: Path) -> None:
    long = "\n".join(["x" * 1000] * 50)
    with refused("block 'x{60}' is missing"):
        read_checkpoint(zipped(tensor((2,), (1,), storage=reference(b"x" * 50_000)), tmp_path / "a", {"0": bytes(16)}))
    with refused("contains no state dict, only"):
        read_checkpoint(saved({long + str(i): 1 for i in range(20)}, tmp_path / "b"))
    with refused("is not a module with weights"):
        read_checkpoint(zipped(b"cpackage\n" + b"N" * 50_000 + b"\n)\x81.", tmp_path / "c"))
    np.savez(tmp_path / "d.npz", **{"y" * 5_000: np.array(["text"])})
    with refused("its array 'y{60}' holds <U4, not numbers"):
        read_checkpoint(tmp_path / "d.npz")
