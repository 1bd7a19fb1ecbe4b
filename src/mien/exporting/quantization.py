"""Static 8-bit quantization: weights by channel, activations by ranges that real faces take.

What is quantized: convolutions and products with constant weights, and what lies between them (additions of maps, ReLU,
pooling). What stays float: gates and heads, where a map has shrunk to one place or to a vector. They cost next to nothing and
lose most.

Weights are signed. On x86 without VNNI onnxruntime multiplies unsigned by signed bytes with sums that overflow, unless a
session is opened with `session.x64quantprecision` = "1"; `mien.runtime.onnx` does that where it is needed.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from ..errors import ExportError
from .prelu import with_relu

TYPES = ("Conv", "MatMul", "Add", "Relu", "MaxPool")
"""Operators that are quantized where they work on maps or on tokens."""


class Batches(CalibrationDataReader):
    """Batches of prepared images, one after the other, for the ranges of activations."""

    def __init__(self, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Mapping[str, np.ndarray] | None:  # pyrefly: ignore
        """Return the next batch by input name, or None at the end."""
        return next(self._batches, None)


def quantize(
    model: onnx.ModelProto, batches: Sequence[Mapping[str, np.ndarray]], keep: Sequence[str] = (), *, rewrite: bool = True
) -> onnx.ModelProto:
    """Return the int8 form of a float model.

    Args:
        model: float32.
        batches: input → (N, C, H, W) float32 of training images.
        keep: patterns (`*gate*`, `Add`) of node names and operator types that stay float.
        rewrite: whether PReLU becomes two ReLU, which can be quantized.

    Raises:
        ExportError: nothing in it can be quantized.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the quantizer, about itself
        source, prepared, target = (Path(folder) / name for name in ("float.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save(with_relu(model) if rewrite else model, source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        ready = onnx.load(prepared)
        chosen = [node.name for node in quantizable(ready) if not _matches(node, keep)]
        if not chosen:
            raise ExportError("nothing in the network can be stored in 8 bits; export it as fp32 or fp16")
        quantize_static(
            prepared,
            target,
            Batches(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(TYPES),
            nodes_to_quantize=chosen,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(target)


def quantizable(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes that are quantized: those of `TYPES` on maps (N, C, H, W) of several places, or on tokens (N, L, C)."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {value.name: _shape(value) for value in [*inferred.value_info, *inferred.input, *inferred.output]}
    constants = {tensor.name for tensor in inferred.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type not in TYPES:
            continue
        variable = [name for name in node.input if name and name not in constants]
        shape = shapes.get(variable[0]) if variable else None
        if shape is None or len(shape) not in (3, 4):
            continue
        if len(shape) == 4 and shape[2:] == (1, 1):
            continue
        if node.op_type == "MatMul" and len(variable) != 1:
            continue  # attention between tokens: both sides vary
        if node.op_type == "Add" and (len(variable) != 2 or len(shape) != 4 or shape != shapes.get(variable[1])):
            continue
        found.append(node)
    return found


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(each.dim_value for each in value.type.tensor_type.shape.dim)


def _matches(node: onnx.NodeProto, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(node.name, pattern) or node.op_type == pattern for pattern in patterns)


def is_quantized(model: onnx.ModelProto) -> bool:
    """Return whether a model has 8-bit weights already."""
    return any(node.op_type in ("DequantizeLinear", "QLinearConv", "ConvInteger") for node in model.graph.node)
