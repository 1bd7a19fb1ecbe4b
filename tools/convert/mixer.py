"""TFLite → ONNX for networks over vectors (MediaPipe's blendshapes, an MLP-mixer); tensors keep their layout.

The source processes one face. Its first axis, always 1, becomes the batch axis: operators that select or drop it are converted
to keep all of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import tflite

from .flatbuffer import Network, Operator
from .graph import Graph
from .optimize import name_norms


def convert(network: Network, source: str = "points", target: str = "blendshapes") -> onnx.ModelProto:
    """Return the network as ONNX with its one input and one output named `source` and `target`.

    Raises:
        KeyError: the file holds an operator that is not in `OPERATORS`.
        NotImplementedError: a fused activation other than ReLU.
    """
    conversion = _Conversion(network, source)
    for operator in network.operators:
        value, activation = OPERATORS[operator.kind](conversion, operator)
        if activation == tflite.ActivationFunctionType.RELU:
            value = conversion.graph.node("Relu", [value])
        elif activation != tflite.ActivationFunctionType.NONE:
            raise NotImplementedError(f"fused activation {activation} of {operator.kind}")
        conversion.values[operator.output] = conversion.graph.node("Identity", [value], f"t{operator.output}")
    conversion.graph.node("Identity", [conversion.values[network.outputs[0]]], target)
    outputs = [size for size in network.shape(network.outputs[0]) if size != 1]
    return name_norms(conversion.graph).model({source: ["N", *network.shape(network.inputs[0])[1:]]}, {target: ["N", *outputs]})


class _Conversion:
    def __init__(self, network: Network, source: str) -> None:
        self.network, self.graph, self.source = network, Graph(), source
        self.values: dict[int, str] = {network.inputs[0]: source}

    def get(self, tensor: int) -> str:
        """Return the name of an activation, or of a constant that is stored on first use."""
        if tensor not in self.values:
            self.values[tensor] = self.graph.constant(self.network.constants[tensor].astype(np.float32))
        return self.values[tensor]

    def batch(self, tensor: int) -> str:
        """Return the name of an activation, or of a constant repeated for every face."""
        name = self.get(tensor)
        if tensor not in self.network.constants:
            return name
        faces = self.graph.node("Shape", [self.source], start=0, end=1)
        rest = self.graph.constant(np.array(self.network.shape(tensor)[1:], np.int64))
        return self.graph.node("Expand", [name, self.graph.node("Concat", [faces, rest], axis=0)])

    def integers(self, tensor: int) -> np.ndarray:
        """Return a constant that holds axes or positions."""
        return np.atleast_1d(self.network.constants[tensor]).astype(np.int64)


def _arithmetic(kind: str, options: type) -> Callable[[_Conversion, Operator], tuple[str, int]]:
    def convert_one(conversion: _Conversion, operator: Operator) -> tuple[str, int]:
        given = operator.options(options)
        value = conversion.graph.node(kind, [conversion.get(tensor) for tensor in operator.inputs])
        return value, given.FusedActivationFunction() if given else 0

    return convert_one


def _unary(*kinds: str) -> Callable[[_Conversion, Operator], tuple[str, int]]:
    def convert_one(conversion: _Conversion, operator: Operator) -> tuple[str, int]:
        value = conversion.get(operator.inputs[0])
        for kind in kinds:
            value = conversion.graph.node(kind, [value])
        return value, 0

    return convert_one


def _squared_difference(conversion: _Conversion, operator: Operator) -> tuple[str, int]:
    difference = conversion.graph.node("Sub", [conversion.get(tensor) for tensor in operator.inputs])
    return conversion.graph.node("Mul", [difference, difference]), 0


def _reduce(conversion: _Conversion, operator: Operator) -> tuple[str, int]:
    options = operator.options(tflite.ReducerOptions)
    keep = int(options.KeepDims()) if options else 0
    value, axes = conversion.get(operator.inputs[0]), conversion.integers(operator.inputs[1])
    if operator.kind == "MEAN":  # takes its axes as an attribute until opset 18
        return conversion.graph.node("ReduceMean", [value], axes=axes.tolist(), keepdims=keep), 0
    return conversion.graph.node("ReduceSum", [value, conversion.graph.constant(axes)], keepdims=keep), 0


def _transpose(conversion: _Conversion, operator: Operator) -> tuple[str, int]:
    order = conversion.integers(operator.inputs[1]).tolist()
    return conversion.graph.node("Transpose", [conversion.get(operator.inputs[0])], perm=order), 0


def _reshape(conversion: _Conversion, operator: Operator) -> tuple[str, int]:
    value = conversion.get(operator.inputs[0])
    shape = np.array([-1, *conversion.network.shape(operator.output)[1:]], np.int64)
    return conversion.graph.node("Reshape", [value, conversion.graph.constant(shape)]), 0


def _concatenation(conversion: _Conversion, operator: Operator) -> tuple[str, int]:
    axis = operator.options(tflite.ConcatenationOptions).Axis()
    return conversion.graph.node("Concat", [conversion.batch(tensor) for tensor in operator.inputs], axis=axis), 0


def _strided_slice(conversion: _Conversion, operator: Operator) -> tuple[str, int]:
    options = operator.options(tflite.StridedSliceOptions)
    begin, end, step = (conversion.integers(tensor).copy() for tensor in operator.inputs[1:4])
    axes = np.arange(len(begin))
    begin[(options.BeginMask() >> axes & 1) == 1] = 0
    for axis, size in enumerate(conversion.network.shape(operator.inputs[0])[: len(axes)]):
        if options.EndMask() >> axis & 1:
            end[axis] = size
    dropped = [axis for axis in axes.tolist() if options.ShrinkAxisMask() >> axis & 1]
    for axis in dropped:
        end[axis] = begin[axis] + 1 if begin[axis] != -1 else conversion.network.shape(operator.inputs[0])[axis]
    graph = conversion.graph
    bounds = [graph.constant(values[1:]) for values in (begin, end, axes, step)]
    value = graph.node("Slice", [conversion.get(operator.inputs[0]), *bounds])
    dropped = [axis for axis in dropped if axis]
    return (graph.node("Squeeze", [value, graph.constant(np.array(dropped, np.int64))]) if dropped else value), 0


def _convolution(conversion: _Conversion, operator: Operator) -> tuple[str, int]:
    options, graph = operator.options(tflite.Conv2DOptions), conversion.graph
    kernels = conversion.network.constants[operator.inputs[1]].astype(np.float32)
    inputs = [graph.node("Transpose", [conversion.get(operator.inputs[0])], perm=[0, 3, 1, 2])]
    inputs.append(graph.constant(kernels.transpose(0, 3, 1, 2)))
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        inputs.append(graph.constant(conversion.network.constants[operator.inputs[2]].astype(np.float32)))
    strides = [options.StrideH(), options.StrideW()]
    value = graph.node("Conv", inputs, kernel_shape=list(kernels.shape[1:3]), strides=strides)
    return graph.node("Transpose", [value], perm=[0, 2, 3, 1]), options.FusedActivationFunction()


OPERATORS: dict[str, Callable[[_Conversion, Operator], tuple[str, int]]] = {
    "ADD": _arithmetic("Add", tflite.AddOptions),
    "SUB": _arithmetic("Sub", tflite.SubOptions),
    "MUL": _arithmetic("Mul", tflite.MulOptions),
    "DIV": _arithmetic("Div", tflite.DivOptions),
    "NEG": _unary("Neg"),
    "SQRT": _unary("Sqrt"),
    "RSQRT": _unary("Sqrt", "Reciprocal"),
    "LOGISTIC": _unary("Sigmoid"),
    "SQUARED_DIFFERENCE": _squared_difference,
    "MEAN": _reduce,
    "SUM": _reduce,
    "TRANSPOSE": _transpose,
    "RESHAPE": _reshape,
    "CONCATENATION": _concatenation,
    "STRIDED_SLICE": _strided_slice,
    "CONV_2D": _convolution,
}
