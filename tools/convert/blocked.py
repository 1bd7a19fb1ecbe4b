"""Give an ONNX network channels in multiples of 16, so that onnxruntime computes all of it in its blocked layout.

That layout holds 8 or 16 channels side by side. A depthwise convolution of 24 channels does not fit: onnxruntime then unpacks,
convolves slowly and packs again. The channels added here have weights of zero, so that every output keeps its value.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

BLOCK = 16


def block(model: onnx.ModelProto) -> onnx.ModelProto:
    """Change the model in place and return it. Widened is what lies between two convolutions and holds only ReLU and
    depthwise convolutions; all else stays as it is."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Conv" or _groups(node) > 1 or node.input[1] not in constants:
            continue
        missing = -constants[node.input[1]].dims[0] % BLOCK
        within, after = _reach(model.graph, node.output[0]) if missing else ([], [])
        if all(each.input[1] in constants for each in after) and after:
            for each in (node, *within):
                for name in each.input[1:]:
                    _pad(constants[name], 0, missing)
                for attribute in each.attribute:
                    if attribute.name == "group" and attribute.i > 1:
                        attribute.i += missing
            for each in after:
                _pad(constants[each.input[1]], 1, missing)
    return model


def _reach(graph: onnx.GraphProto, value: str) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """Return the depthwise convolutions that a value passes and the convolutions where it ends; none where it goes elsewhere."""
    within: list[onnx.NodeProto] = []
    after: list[onnx.NodeProto] = []
    front = [value]
    while front:
        value = front.pop()
        if any(value == output.name for output in graph.output):
            return [], []
        for node in graph.node:
            if value not in node.input:
                continue
            if node.op_type == "Conv" and _groups(node) == 1:
                after.append(node)
            elif node.op_type == "Relu" or node.op_type == "Conv":
                within += [node] * (node.op_type == "Conv")
                front.append(node.output[0])
            else:
                return [], []
    return within, after


def _groups(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def _pad(tensor: onnx.TensorProto, axis: int, missing: int) -> None:
    values = numpy_helper.to_array(tensor)
    widths = [(0, missing if i == axis else 0) for i in range(values.ndim)]
    tensor.CopyFrom(numpy_helper.from_array(np.pad(values, widths), tensor.name))
