"""Weights of a network that was exported as ONNX, put back where a network in training has them.

An exported network has its BatchNorm folded into the convolutions before it and may hold its kernels in 8 or 16 bits. The
names of its nodes still say which layer each came from, so that `mien-base` and `mien-nano`, which ship only so, can be trained
on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx.numpy_helper import to_array
from torch import Tensor, nn

from ..errors import WeightsError


def exported_state(model: nn.Module, path: str | Path) -> dict[str, Tensor]:
    """Return the entries of a network's state dict that follow from an ONNX file of it.

    BatchNorm gets mean 0, variance 1, and the bias of the convolution it was folded into; `starts.settle` gives it the
    statistics that training needs.

    Args:
        model: the network that was exported, or one with other classes.
        path: the ONNX file.

    Raises:
        WeightsError: the file is no ONNX network, or has none of this network's layers.
    """
    try:
        graph = onnx.load(path).graph
    except Exception as error:  # protobuf raises classes of its own
        raise WeightsError(f"{path} cannot be read as an ONNX network: {error}; check the file") from error
    constants = {entry.name: to_array(entry) for entry in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and all(name in constants for name in node.input):
            constants[node.output[0]] = _dequantised(*(constants[name] for name in node.input))
        elif node.op_type in ("Cast", "Identity") and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    layers = dict(model.named_modules())
    norms = _norms(layers)
    found: dict[str, Tensor] = {}
    for node in graph.node:
        name = _layer(node.name, layers)
        if node.op_type not in ("Conv", "Gemm") or name is None or node.input[1] not in constants:
            continue
        found[f"{name}.weight"] = _tensor(constants[node.input[1]])
        offset = _tensor(constants[node.input[2]]) if len(node.input) > 2 else torch.zeros(len(found[f"{name}.weight"]))
        if getattr(layers[name], "bias", None) is not None:
            found[f"{name}.bias"] = offset
        elif norm := norms.get(name):
            found[f"{norm}.weight"] = torch.full_like(offset, (1 + layers[norm].eps) ** 0.5)  # pyrefly: ignore
            found[f"{norm}.bias"] = offset
            found[f"{norm}.running_mean"], found[f"{norm}.running_var"] = torch.zeros_like(offset), torch.ones_like(offset)
    if not found:
        raise WeightsError(
            f"{path} has no layer of {type(model).__name__}; start from a file that was exported from that network"
        )
    return found


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, np.float32))


def _dequantised(value: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """Return the float values of an array in 8 or 32 bits, scaled as a whole or along its first axis."""
    along = (-1, *(1,) * (value.ndim - 1)) if scale.ndim else ()
    return (value.astype(np.float32) - zero.astype(np.float32).reshape(along)) * scale.reshape(along)


def _layer(node: str, layers: Mapping[str, nn.Module]) -> str | None:
    """Return the layer whose operation a node is: `/model/blocks/blocks.0/conv1/Conv` → `blocks.0.conv1`."""
    parts = node.strip("/").split("/")[:-1]
    short: list[str] = []
    for part in parts:
        if short and part.startswith(f"{short[-1]}."):
            short[-1] = part
        else:
            short.append(part)
    return next((name for first in range(len(short)) if (name := ".".join(short[first:])) in layers), None)


def _norms(layers: Mapping[str, nn.Module]) -> dict[str, str]:
    """Return the BatchNorm that follows each convolution in the order of registration."""
    names = list(layers)
    pairs = itertools.pairwise(names)
    return {a: b for a, b in pairs if isinstance(layers[a], nn.Conv2d) and isinstance(layers[b], nn.BatchNorm2d)}
