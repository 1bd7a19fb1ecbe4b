"""PReLU in other words: onnxruntime has no fast kernel for it, and its quantizer does not know it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


def with_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with each PReLU of maps written as relu((1 − a)·x) + a·x, or as LeakyReLU where one slope serves all.

    The products are depthwise convolutions of 1 × 1, which stay in onnxruntime's blocked layout and take in the activation and
    the sum; DDAMFN takes three quarters of the time. Slopes above 1 take one pass more.
    """
    changed, slopes = _copy(model), _constants(model)

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
    """Return a copy with each PReLU written as ReLU(x) − slope · ReLU(−x), for the quantizer."""

    def rewrite(node: onnx.NodeProto, name: str) -> list[onnx.NodeProto]:
        (x, slope), (y,) = node.input, node.output
        part = {key: f"{name}/{key}" for key in ("positive", "opposite", "negative", "scaled")}
        return [
            helper.make_node("Relu", [x], [part["positive"]], part["positive"]),
            helper.make_node("Neg", [x], [part["opposite"]], part["opposite"]),
            helper.make_node("Relu", [part["opposite"]], [part["negative"]], part["negative"]),
            helper.make_node("Mul", [part["negative"], slope], [part["scaled"]], part["scaled"]),
            helper.make_node("Sub", [part["positive"], part["scaled"]], [y], f"{name}/sum"),
        ]

    return _rewritten(_copy(model), rewrite)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _rewritten(model: onnx.ModelProto, rewrite: Callable[[onnx.NodeProto, str], list[onnx.NodeProto]]) -> onnx.ModelProto:
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        nodes += rewrite(node, node.name or node.output[0]) if node.op_type == "PRelu" else [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return model


def _constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the stored arrays by name, also by the names that Identity gives them: equal slopes are stored once."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found
