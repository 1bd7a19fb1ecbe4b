"""Small checkpoints in every container, made by torch itself; the classes of pickled modules exist only while a file is
written."""

from __future__ import annotations

import functools
import importlib
import io
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

SOURCE = """
import torch
from torch import nn

class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.PReLU(4)
        self.register_buffer("grid", torch.arange(6.0).reshape(2, 3))
        self.register_buffer("scratch", torch.zeros(3), persistent=False)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.gate = Gate()
        self.blocks = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Dropout(0.4))
        self.fc = nn.Linear(4, 7)
        self.sizes = torch.Size([1, 2])
        self.place = torch.device("cuda", 0)
        self.kind = torch.float16
        self.register_parameter("absent", None)
"""


@contextmanager
def author_classes(module: str) -> Iterator[type[nn.Module]]:
    """Import the classes above from a file that stands for the authors' code, and forget file and modules on leaving."""
    parts = module.split(".")
    names = [".".join(parts[: i + 1]) for i in range(len(parts))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, *parts).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(SOURCE)
        sys.path.insert(0, folder)
        importlib.invalidate_caches()
        try:
            yield importlib.import_module(module).Net
        finally:
            sys.path.remove(folder)
            for name in names:
                sys.modules.pop(name, None)


def author_net(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = kind()
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape) if tensor.is_floating_point() else torch.tensor(5))
    return net


def state(seed: int = 0) -> dict[str, Tensor]:
    """Return the state dict that every sample holds."""
    return dict(_state(seed))


@functools.cache
def _state(seed: int) -> dict[str, Tensor]:
    with author_classes("package.model1") as kind:
        return {name: tensor.clone() for name, tensor in author_net(kind, seed).state_dict().items()}


def saved(content: Any, path: Path, *, legacy: bool = False, protocol: int = 2) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
    return path


def whole_module(path: Path, *, module: str = "package.model1", parallel: bool = False, legacy: bool = False) -> Path:
    with author_classes(module) as kind:
        net = author_net(kind)
        if parallel:  # what DataParallel holds, without needing two accelerators to make one
            wrapper = nn.DataParallel.__new__(nn.DataParallel)
            nn.Module.__init__(wrapper)
            wrapper.module, wrapper.device_ids, wrapper.src_device_obj = net, [0, 1], torch.device("cuda:0")
            net = wrapper
        return saved(net, path, legacy=legacy)


def optimizer_state() -> dict[str, Any]:
    """Return what SGD with momentum keeps; its tensors are as long as the network's and must not be taken for it."""
    floats = [tensor for tensor in state().values() if tensor.is_floating_point()]
    groups = [{"lr": 0.1, "momentum": 0.9, "nesterov": False, "params": list(range(len(floats)))}]
    return {"state": {i: {"momentum_buffer": torch.zeros_like(t)} for i, t in enumerate(floats)}, "param_groups": groups}


def npz(path: Path, *, packed: bool = False) -> Path:
    arrays = {name: tensor.numpy() for name, tensor in state().items()}
    (np.savez_compressed if packed else np.savez)(path, **arrays)
    return path


def safe(path: Path) -> Path:
    safetensors.torch.save_file(state(), path, {"epoch": "7"})
    return path


def zipped(pickle: bytes, path: Path, blocks: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a torch zip around a hand-made pickle."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/byteorder", "little")
        for key, data in (blocks or {}).items():
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
    return path


NOTHING = b"\x80\x02N.\x80\x02]q\x00."  # what None and an empty list of blocks are pickled as


def legacy_stream(pickle: bytes, tail: bytes = b"\x80\x02].") -> bytes:
    """Return a torch legacy file around a hand-made pickle."""
    whole = io.BytesIO()
    torch.save(None, whole, _use_new_zipfile_serialization=False)
    head = whole.getvalue()
    assert head.endswith(NOTHING)
    return head.removesuffix(NOTHING) + pickle + tail


Maker = Callable[[Path], Path]

SAMPLES: dict[str, tuple[Maker, str]] = {
    "plain": (lambda p: saved(state(), p), "torch zip, state dict"),
    "plain, protocol 4": (lambda p: saved(state(), p, protocol=4), "torch zip, state dict"),
    "plain legacy": (lambda p: saved(state(), p, legacy=True), "torch legacy, state dict"),
    "parallel": (lambda p: saved({f"module.{k}": v for k, v in state().items()}, p), "torch zip, state dict"),
    "net": (
        lambda p: saved({"lr": 1e-4, "model_name": "DDA", "net": state(), "best_val_acc": 89.96, "val_acc": [1.5, 2.5]}, p),
        "torch zip, entry 'net'",
    ),
    "model_state_dict": (
        lambda p: saved({"iter": 21, "model_state_dict": state(), "optimizer_state_dict": optimizer_state()}, p),
        "torch zip, entry 'model_state_dict'",
    ),
    "state_dict legacy": (
        lambda p: saved({"epoch": 3, "state_dict": state()}, p, legacy=True),
        "torch legacy, entry 'state_dict'",
    ),
    "tensor beside": (lambda p: saved({"best": torch.tensor(0.9), "state_dict": state()}, p), "torch zip, entry 'state_dict'"),
    "unusual key": (lambda p: saved({"backbone_ema": state(), "epoch": 3}, p), "torch zip, entry 'backbone_ema'"),
    "nested": (lambda p: saved({"model": {"state_dict": state()}}, p), "torch zip, entry 'model', entry 'state_dict'"),
    "module": (whole_module, "torch zip, module package.model1.Net"),
    "module legacy": (
        lambda p: whole_module(p, module="networks.MixedFeatureNet", legacy=True),
        "torch legacy, module networks.MixedFeatureNet.Net",
    ),
    "parallel module": (
        lambda p: whole_module(p, parallel=True),
        "torch zip, module torch.nn.parallel.data_parallel.DataParallel",
    ),
    "safetensors": (safe, "safetensors, state dict"),
    "npz": (npz, "npz, state dict"),
    "npz compressed": (lambda p: npz(p, packed=True), "npz, state dict"),
}
