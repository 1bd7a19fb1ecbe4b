"""Rewrite ONNX graphs: faster PReLU, float16 weights, static 8-bit quantization.

**PReLU** has no fast kernel in onnxruntime, and its quantizer does not know the operator.

**float16** is a storage format only: half the file, float32 arithmetic, the same speed.

**int8**: per-channel signed weights, activation ranges measured on faces. Convolutions, products with constant weights and the
operators between them (additions of maps, ReLU, pooling) are quantized. Gates and heads, where a map is reduced to one location
or a vector, compute in float: they cost little time and lose most accuracy. Their weights are stored as float16. On x86 without
VNNI, onnxruntime's products of unsigned and signed bytes overflow unless the session has `session.x64quantprecision` = "1",
which `mien.runtime.onnx` sets.
"""

import copy
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from ..errors import ExportError

SMALLEST = 128  # minimum number of values of a constant that is stored as float16
LARGEST = float(np.finfo(np.float16).max)  # constants with a larger value stay float32
QUANTIZED = ("Conv", "MatMul", "Add", "Relu", "LeakyRelu", "MaxPool")  # quantized on maps or tokens


def with_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which each PReLU of maps is relu((1 − a)·x) + a·x, or LeakyReLU where one slope serves all channels.

    The products are depthwise 1 × 1 convolutions, which stay in onnxruntime's blocked layout and are fused with activation and
    sum; DDAMFN takes three quarters of the time. Slopes above 1 need a separate ReLU.
    """
    changed, slopes = copy.deepcopy(model), _constants(model)

    def rewrite(node: onnx.NodeProto, name: str) -> list[onnx.NodeProto]:
        (x, source), (y,) = node.input, node.output
        slope = slopes.get(source, np.empty(0))
        if slope.size == 1:
            return [helper.make_node("LeakyRelu", [x], [y], name, alpha=float(slope.reshape(())))]
        if slope.shape != (slope.size, 1, 1):
            return [node]
        weights = slope.reshape(-1, 1, 1, 1).astype(np.float32)
        for key, values in (("rest", 1 - weights), ("slope", weights)):
            changed.graph.initializer.append(numpy_helper.from_array(values, f"{name}/{key}"))
        nodes: list[onnx.NodeProto] = []

        def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
            nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
            return output

        def scaled(value: str, key: str) -> str:
            return add("Conv", [value, f"{name}/{key}"], f"{name}/{key}/scaled", kernel_shape=[1, 1], group=len(weights))

        if weights.max() <= 1:
            positive = add("Relu", [scaled(x, "rest")], f"{name}/positive")
        else:
            positive = scaled(add("Relu", [x], f"{name}/positive"), "rest")
        add("Add", [positive, scaled(x, "slope")], y)
        return nodes

    return _rewritten(changed, rewrite)


def with_relu(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which each PReLU is ReLU(x) − slope · ReLU(−x), for the quantizer."""

    def rewrite(node: onnx.NodeProto, name: str) -> list[onnx.NodeProto]:
        (x, slope), (y,) = node.input, node.output
        positive, opposite, negative, scaled = (f"{name}/{key}" for key in ("positive", "opposite", "negative", "scaled"))
        return [
            helper.make_node("Relu", [x], [positive], positive),
            helper.make_node("Neg", [x], [opposite], opposite),
            helper.make_node("Relu", [opposite], [negative], negative),
            helper.make_node("Mul", [negative, slope], [scaled], scaled),
            helper.make_node("Sub", [positive, scaled], [y], f"{name}/sum"),
        ]

    return _rewritten(copy.deepcopy(model), rewrite)


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose large float32 constants, except for scales of 8-bit weights, are float16, each followed by a Cast."""
    changed = copy.deepcopy(model)
    linear = ("QuantizeLinear", "DequantizeLinear")
    scales = {name for node in model.graph.node if node.op_type in linear for name in node.input[1:]}
    stored, casts = [], []
    for tensor in changed.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name in scales or values.dtype != np.float32 or values.size < SMALLEST or not np.abs(values).max() <= LARGEST:
            stored.append(tensor)
            continue
        name = f"{tensor.name}/half"
        stored.append(numpy_helper.from_array(values.astype(np.float16), name))
        casts.append(helper.make_node("Cast", [name], [tensor.name], f"{name}/float", to=onnx.TensorProto.FLOAT))
    _replace(changed.graph.initializer, stored)
    _replace(changed.graph.node, [*casts, *changed.graph.node])
    return changed


def quantize(model: onnx.ModelProto, batches: Sequence[Mapping[str, np.ndarray]], keep: Sequence[str] = ()) -> onnx.ModelProto:
    """Return the int8 form of a float32 model with ranges from `batches`, input → (N, C, H, W) float32 of training images.

    Nodes whose name or operator type matches a pattern of `keep` stay float. Raises ExportError if no node can be quantized.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source, prepared, target = (Path(folder) / name for name in ("float.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save(with_relu(model), source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        nodes = _quantizable(onnx.load(prepared))
        chosen = [each.name for each in nodes if not any(fnmatchcase(each.name, p) or each.op_type == p for p in keep)]
        if not chosen:
            raise ExportError("no layer of the network can be quantized; export it as fp32 or fp16")
        quantize_static(
            prepared,
            target,
            _Batches(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            nodes_to_quantize=chosen,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(target)


def is_quantized(model: onnx.ModelProto) -> bool:
    """Return whether a model has 8-bit weights."""
    return any(node.op_type in ("DequantizeLinear", "QLinearConv", "ConvInteger") for node in model.graph.node)


class _Batches(CalibrationDataReader):
    def __init__(self, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Mapping[str, np.ndarray] | None:  # pyrefly: ignore
        return next(self._batches, None)


def _quantizable(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes of `QUANTIZED` on maps (N, C, H, W) of several locations or on tokens (N, L, C)."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: tuple(each.dim_value for each in value.type.tensor_type.shape.dim)
        for value in [*inferred.value_info, *inferred.input, *inferred.output]
    }
    constants = {tensor.name for tensor in inferred.initializer}
    found = []
    for node in model.graph.node:
        variable = [name for name in node.input if name and name not in constants]
        shape = shapes.get(variable[0], ()) if variable else ()
        if node.op_type not in QUANTIZED or len(shape) not in (3, 4) or shape[2:] == (1, 1):
            continue
        if node.op_type == "MatMul" and len(variable) != 1:  # Both sides vary in attention between tokens.
            continue
        if node.op_type == "Add" and (len(variable) != 2 or len(shape) != 4 or shape != shapes.get(variable[1])):
            continue
        found.append(node)
    return found


def _replace(field: Any, values: Sequence[Any]) -> None:
    """Replace the entries of a repeated protobuf field."""
    del field[:]
    field.extend(values)


def _rewritten(model: onnx.ModelProto, rewrite: Callable[[onnx.NodeProto, str], list[onnx.NodeProto]]) -> onnx.ModelProto:
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes += rewrite(node, node.name or node.output[0]) if node.op_type == "PRelu" else [node]
    _replace(model.graph.node, nodes)
    used = {name for node in nodes for name in node.input}
    _replace(model.graph.initializer, [tensor for tensor in model.graph.initializer if tensor.name in used])
    return model


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return stored arrays by name, including the names that Identity nodes give them: equal slopes are stored once."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found
