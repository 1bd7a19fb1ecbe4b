"""Graph rewrites for speed in onnxruntime: blocked layout for convolutions, and fused layer normalization.

The blocked layout stores 16 channels contiguously (8 on older processors). Operators that do not fit, such as a depthwise
convolution of 24 channels or PRelu, are unpacked, computed slowly and packed again. Rewritten graphs compute the same function
up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .graph import Graph

BLOCK = 16


def block(graph: Graph, outputs: Collection[str]) -> Graph:
    """Rewrite a graph in place and return it; `outputs` are its output values."""
    _Rewriting(graph, outputs).run()
    return graph


@dataclass(frozen=True, slots=True)
class _Reach:
    """The nodes that a value reaches until its channels are mixed."""

    activations: list[onnx.NodeProto]
    depthwise: list[onnx.NodeProto]
    mixing: list[onnx.NodeProto]
    """The convolutions where it ends; empty if it also goes elsewhere."""


class _Rewriting:
    def __init__(self, graph: Graph, outputs: Collection[str]) -> None:
        self.graph, self.outputs = graph, outputs
        self.constants = {tensor.name: tensor for tensor in graph.constants}

    def run(self) -> None:
        for node in self.graph.nodes:
            if self._mixes(node):
                self._double(node)
        rewritten: list[onnx.NodeProto] = []
        self.graph.nodes, nodes = rewritten, self.graph.nodes
        for node in nodes:
            (self._prelu if node.op_type == "PRelu" else rewritten.append)(node)
        self.constants = {tensor.name: tensor for tensor in self.graph.constants}
        for node in self.graph.nodes:
            if self._mixes(node):
                self._widen(node)

    def _double(self, node: onnx.NodeProto) -> None:
        """Compute x and −x where a block has room for both: PReLU becomes ReLU, and the next convolutions weigh the halves."""
        reach = self._reach(node.output[0], ("PRelu",))
        if not (len(reach.activations) == len(reach.depthwise) == len(reach.mixing) == 1):
            return
        (activation,), (depthwise,), (mixing,) = reach.activations, reach.depthwise, reach.mixing
        slope = self._array(activation.input[1]).reshape(-1, 1, 1, 1)
        if 2 * len(slope) > BLOCK or depthwise.input[0] != activation.output[0] or mixing.input[0] != depthwise.output[0]:
            return
        for name in node.input[1:]:
            self._change(name, lambda values: np.concatenate([values, -values]))
        self._change(depthwise.input[1], lambda values: np.concatenate([values, -slope * values]))
        for name in depthwise.input[2:]:
            self._change(name, lambda values: np.concatenate([values, np.zeros_like(values)]))
        self._change(mixing.input[1], lambda values: np.concatenate([values, values], 1))
        _set_groups(depthwise, 2 * len(slope))
        activation.op_type = "Relu"
        del activation.input[1]

    def _prelu(self, node: onnx.NodeProto) -> None:
        """Write PReLU as relu((1 − a)·x) + a·x: two depthwise convolutions that fuse with activation and sum."""
        value, slope = node.input[0], self._array(node.input[1]).reshape(-1, 1, 1, 1)
        per_channel = {"kernel_shape": [1, 1], "group": len(slope)}
        if slope.max() <= 1:
            scaled = self.graph.node("Conv", [value, self.graph.constant(1 - slope)], **per_channel)
            positive = self.graph.node("Relu", [scaled])
        else:
            positive = self.graph.node(
                "Conv", [self.graph.node("Relu", [value]), self.graph.constant(1 - slope)], **per_channel
            )
        scaled = self.graph.node("Conv", [value, self.graph.constant(slope)], **per_channel)
        self.graph.node("Add", [positive, scaled], node.output[0])

    def _widen(self, node: onnx.NodeProto) -> None:
        """Add channels with weights of zero, to a multiple of the block, where only ReLU and depthwise convolutions follow."""
        channels = self.constants[node.input[1]].dims[0]
        missing = -channels % BLOCK
        reach = self._reach(node.output[0], ("Relu",))
        if not missing or not reach.mixing:
            return
        for each in (node, *reach.depthwise):
            for name in each.input[1:]:
                self._change(name, lambda values: _grown(values, 0, missing))
        for each in reach.depthwise:
            _set_groups(each, channels + missing)
        for each in reach.mixing:
            self._change(each.input[1], lambda values: _grown(values, 1, missing))

    def _reach(self, value: str, activations: tuple[str, ...]) -> _Reach:
        reach, nowhere = _Reach([], [], []), _Reach([], [], [])
        front = [value]
        while front:
            value = front.pop()
            if value in self.outputs:
                return nowhere
            for node in (node for node in self.graph.nodes if value in node.input):
                if self._mixes(node):
                    reach.mixing.append(node)
                elif node.op_type in activations or (node.op_type == "Conv" and _groups(node) > 1):
                    (reach.depthwise if node.op_type == "Conv" else reach.activations).append(node)
                    front.append(node.output[0])
                else:
                    return nowhere
        return reach

    def _mixes(self, node: onnx.NodeProto) -> bool:
        return node.op_type == "Conv" and _groups(node) == 1 and node.input[1] in self.constants

    def _array(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self.constants[name])

    def _change(self, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self.constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(self._array(name))), name))


def _grown(values: np.ndarray, axis: int, missing: int) -> np.ndarray:
    return np.pad(values, [(0, missing if i == axis else 0) for i in range(values.ndim)])


def _groups(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def _set_groups(node: onnx.NodeProto, groups: int) -> None:
    next(attribute for attribute in node.attribute if attribute.name == "group").i = groups


def name_norms(graph: Graph) -> Graph:
    """Replace spelled-out layer normalization by the operator of opset 17, in place; unused nodes stay.

    The pattern is x·s − m·s with s = g / √(v + e), where m and v are mean and variance of x over its last axis.
    """
    search = _Search(graph)
    graph.nodes = [search.norm(node) or node for node in graph.nodes]
    return graph


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.makers = {node.output[0]: node for node in graph.nodes}
        self.constants = {tensor.name: tensor for tensor in graph.constants}

    def norm(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """Return the normalization that ends in this Add node, if any."""
        if node.op_type != "Add":
            return None
        for scaled, shift in (node.input, reversed(node.input)):
            x, s = self.factors(scaled)
            minus, again = self.factors(shift)
            mean = self.only("Neg", minus)
            if x and mean and s == again and self.only("ReduceMean", mean) == x and (found := self.scale(s, x, mean)):
                gain, epsilon = found
                return helper.make_node("LayerNormalization", [x, gain], node.output, axis=-1, epsilon=epsilon)
        return None

    def scale(self, s: str, x: str, mean: str) -> tuple[str, float] | None:
        """Return g and e if s is g / √(v + e) for the variance v of x."""
        inverse, gain = self.factors(s)
        total = self.only("Sqrt", self.only("Reciprocal", inverse))
        maker = self.makers.get(total)
        if gain not in self.constants or maker is None or maker.op_type != "Add" or maker.input[1] not in self.constants:
            return None
        square = self.only("ReduceMean", self.plain(maker.input[0]))
        difference, other = self.factors(square)
        maker_of = self.makers.get(difference)
        if difference != other or maker_of is None or maker_of.op_type != "Sub":
            return None
        if [self.plain(each) for each in maker_of.input] != [x, mean]:
            return None
        return gain, float(numpy_helper.to_array(self.constants[maker.input[1]]).reshape(-1)[0])

    def plain(self, name: str) -> str:
        """Return the name of a value before Identity nodes."""
        while (maker := self.makers.get(name)) is not None and maker.op_type == "Identity":
            name = maker.input[0]
        return name

    def only(self, kind: str, name: str) -> str:
        """Return the input of the node that produces a value if it is of this kind, otherwise an empty string."""
        maker = self.makers.get(name)
        return self.plain(maker.input[0]) if maker is not None and maker.op_type == kind else ""

    def factors(self, name: str) -> tuple[str, str]:
        """Return the factors of a product, or two empty strings."""
        maker = self.makers.get(self.plain(name))
        if maker is None or maker.op_type != "Mul":
            return "", ""
        one, other = (self.plain(each) for each in maker.input)
        return one, other
