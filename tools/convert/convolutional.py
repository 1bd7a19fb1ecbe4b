"""TFLite → ONNX for plain convolutional networks: channels first inside, channels last and any batch size outside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import tflite

from .flatbuffer import Network, Operator
from .graph import Graph
from .optimize import block

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def convert(network: Network) -> onnx.ModelProto:
    """Return the network as ONNX: inputs and outputs keep their names and layout, four-axis outputs are flattened.

    Raises:
        KeyError: the file holds an operator that is not in `OPERATORS`.
        NotImplementedError: an option of an operator that none of the files converted here use.
    """
    return _Conversion(network).run()


class _Conversion:
    def __init__(self, network: Network) -> None:
        self.network, self.graph = network, Graph()
        self.values: dict[int, str] = {}  # tensor of the source → name in the ONNX graph, images channels first

    def run(self) -> onnx.ModelProto:
        inputs: dict[str, list[int | str]] = {}
        for tensor in self.network.inputs:
            name, shape = self.network.name(tensor), self.network.shape(tensor)
            inputs[name] = ["N", *shape[1:]]
            self.values[tensor] = self.graph.node("Transpose", [name], perm=TO_CHANNELS_FIRST) if len(shape) == 4 else name
        for operator in self.network.operators:
            self.values[operator.output] = OPERATORS[operator.kind](self, operator)
        outputs: dict[str, list[int | str]] = {}
        for tensor in self.network.outputs:
            name, shape = self.network.name(tensor), self.network.shape(tensor)
            if len(shape) == 4:
                last = self.graph.node("Transpose", [self.values[tensor]], perm=TO_CHANNELS_LAST)
                self.graph.node("Flatten", [last], name, axis=1)
                shape = [1, int(np.prod(shape))]
            else:
                self.graph.node("Identity", [self.values[tensor]], name)
            outputs[name] = ["N", *shape[1:]]
        return block(self.graph, outputs).model(inputs, outputs)

    def get(self, tensor: int) -> str:
        """Return the name of an activation, or of a constant that is stored on first use."""
        if tensor not in self.values:
            values = self.network.constants[tensor].astype(np.float32)
            self.values[tensor] = self.graph.constant(values.transpose(TO_CHANNELS_FIRST) if values.ndim == 4 else values)
        return self.values[tensor]

    def activate(self, value: str, activation: int, operator: Operator) -> str:
        """Close an operator with the activation fused into it, under the name that stands for its output."""
        output = _name(operator)
        if activation == tflite.ActivationFunctionType.RELU:
            return self.graph.node("Relu", [value], output)
        if activation == tflite.ActivationFunctionType.RELU6:
            bounds = [self.graph.constant(np.float32(bound)) for bound in (0, 6)]
            return self.graph.node("Clip", [value, *bounds], output)
        if activation != tflite.ActivationFunctionType.NONE:
            raise NotImplementedError(f"fused activation {activation} of {operator.kind}")
        self.graph.nodes[-1].output[0] = output
        return output

    def pads(
        self, operator: Operator, options: object, kernel: tuple[int, int], dilation: tuple[int, int] = (1, 1)
    ) -> list[int]:
        """Return the zeros that TFLite's SAME padding adds, in ONNX order: those before every axis, then those after."""
        if options.Padding() != tflite.Padding.SAME:  # type: ignore[attr-defined]
            return [0] * 4
        sizes = self.network.shape(operator.inputs[0])[1:3]
        strides = options.StrideH(), options.StrideW()  # type: ignore[attr-defined]
        totals = [
            max((-(-size // stride) - 1) * stride + (k - 1) * d + 1 - size, 0)
            for size, stride, k, d in zip(sizes, strides, kernel, dilation, strict=True)
        ]
        return [total // 2 for total in totals] + [total - total // 2 for total in totals]


def _name(operator: Operator) -> str:
    return f"t{operator.output}"


def _convolution(conversion: _Conversion, operator: Operator) -> str:
    depthwise = operator.kind == "DEPTHWISE_CONV_2D"
    options = operator.options(tflite.DepthwiseConv2DOptions if depthwise else tflite.Conv2DOptions)
    image, weight, bias = operator.inputs
    kernels = (
        conversion.network.constants[weight].astype(np.float32).transpose((3, 0, 1, 2) if depthwise else TO_CHANNELS_FIRST)
    )
    size, dilation = kernels.shape[2:], (options.DilationHFactor(), options.DilationWFactor())
    inputs = [conversion.get(image), conversion.graph.constant(kernels)]
    inputs.append(conversion.graph.constant(conversion.network.constants[bias].astype(np.float32)))
    value = conversion.graph.node(
        "Conv",
        inputs,
        kernel_shape=list(size),
        strides=[options.StrideH(), options.StrideW()],
        dilations=list(dilation),
        pads=conversion.pads(operator, options, size, dilation),
        group=conversion.network.shape(image)[3] if depthwise else 1,
    )
    return conversion.activate(value, options.FusedActivationFunction(), operator)


def _max_pool(conversion: _Conversion, operator: Operator) -> str:
    options = operator.options(tflite.Pool2DOptions)
    size = options.FilterHeight(), options.FilterWidth()
    value = conversion.graph.node(
        "MaxPool",
        [conversion.get(operator.inputs[0])],
        kernel_shape=list(size),
        strides=[options.StrideH(), options.StrideW()],
        pads=conversion.pads(operator, options, size),
    )
    return conversion.activate(value, options.FusedActivationFunction(), operator)


def _add(conversion: _Conversion, operator: Operator) -> str:
    value = conversion.graph.node("Add", [conversion.get(tensor) for tensor in operator.inputs])
    return conversion.activate(value, operator.options(tflite.AddOptions).FusedActivationFunction(), operator)


def _relu(conversion: _Conversion, operator: Operator) -> str:
    return conversion.graph.node("Relu", [conversion.get(operator.inputs[0])], _name(operator))


def _logistic(conversion: _Conversion, operator: Operator) -> str:
    return conversion.graph.node("Sigmoid", [conversion.get(operator.inputs[0])], _name(operator))


def _prelu(conversion: _Conversion, operator: Operator) -> str:
    slope = conversion.network.constants[operator.inputs[1]].astype(np.float32).reshape(-1, 1, 1)
    return conversion.graph.node(
        "PRelu", [conversion.get(operator.inputs[0]), conversion.graph.constant(slope)], _name(operator)
    )


def _pad(conversion: _Conversion, operator: Operator) -> str:
    amounts = conversion.network.constants[operator.inputs[1]].reshape(-1, 2)[TO_CHANNELS_FIRST]
    graph, value = conversion.graph, conversion.get(operator.inputs[0])
    if amounts.sum() != amounts[1, 1]:
        return graph.node("Pad", [value, graph.constant(amounts.T.reshape(-1).astype(np.int64))], _name(operator))
    # Channels of zeros, by a convolution with ones on its diagonal: it keeps onnxruntime's blocked layout, which Pad leaves.
    channels = conversion.network.shape(operator.inputs[0])[3]
    shape = graph.constant(np.array([channels + amounts[1, 1], channels], np.int64))
    diagonal = graph.node("EyeLike", [graph.node("ConstantOfShape", [shape])])
    weights = graph.node("Unsqueeze", [diagonal, graph.constant(np.array([2, 3], np.int64))])
    return graph.node("Conv", [value, weights], _name(operator), kernel_shape=[1, 1])


def _resize_bilinear(conversion: _Conversion, operator: Operator) -> str:
    options = operator.options(tflite.ResizeBilinearOptions)
    mode = "half_pixel" if options.HalfPixelCenters() else "asymmetric"
    (_, height, width, _), (_, new_height, new_width, _) = map(conversion.network.shape, (operator.inputs[0], operator.output))
    scales = np.array([1, 1, new_height / height, new_width / width], np.float32)
    return conversion.graph.node(
        "Resize",
        [conversion.get(operator.inputs[0]), "", conversion.graph.constant(scales)],
        _name(operator),
        mode="linear",
        coordinate_transformation_mode="align_corners" if options.AlignCorners() else mode,
    )


def _concatenation(conversion: _Conversion, operator: Operator) -> str:
    rank = len(conversion.network.shape(operator.output))
    axis = operator.options(tflite.ConcatenationOptions).Axis() % rank
    inputs = [conversion.get(tensor) for tensor in operator.inputs]
    return conversion.graph.node("Concat", inputs, _name(operator), axis=TO_CHANNELS_FIRST.index(axis) if rank == 4 else axis)


def _reshape(conversion: _Conversion, operator: Operator) -> str:
    value, shape = conversion.get(operator.inputs[0]), conversion.network.shape(operator.output)
    if len(shape) == 4:
        raise NotImplementedError("RESHAPE to four axes")
    if len(conversion.network.shape(operator.inputs[0])) == 4:
        value = conversion.graph.node("Transpose", [value], perm=TO_CHANNELS_LAST)
    return conversion.graph.node(
        "Reshape", [value, conversion.graph.constant(np.array([-1, *shape[1:]], np.int64))], _name(operator)
    )


OPERATORS: dict[str, Callable[[_Conversion, Operator], str]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "MAX_POOL_2D": _max_pool,
    "ADD": _add,
    "RELU": _relu,
    "LOGISTIC": _logistic,
    "PRELU": _prelu,
    "PAD": _pad,
    "RESIZE_BILINEAR": _resize_bilinear,
    "CONCATENATION": _concatenation,
    "RESHAPE": _reshape,
}
