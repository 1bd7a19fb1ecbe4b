"""Find layer normalization in a graph that spells it out, and name it: one pass of onnxruntime instead of ten."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from .onnx_graph import Graph


def name_norms(graph: Graph) -> Graph:
    """Change the graph in place and return it; what is no longer needed stays. The operator needs opset 17.

    Looked for is x·s − m·s with s = g / √(v + e), where m and v are the mean and the variance of x over its last axis.
    """
    search = _Search(graph)
    graph.nodes = [search.norm(node) or node for node in graph.nodes]
    return graph


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.makers = {node.output[0]: node for node in graph.nodes}
        self.constants = {tensor.name: tensor for tensor in graph.constants}

    def norm(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """Return the normalization whose last addition a node is, if it is one."""
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
        """Return what a value was called before Identity renamed it."""
        while (maker := self.makers.get(name)) is not None and maker.op_type == "Identity":
            name = maker.input[0]
        return name

    def only(self, kind: str, name: str) -> str:
        """Return the input of the node of a kind that makes a value; nothing if another kind does."""
        maker = self.makers.get(name)
        return self.plain(maker.input[0]) if maker is not None and maker.op_type == kind else ""

    def factors(self, name: str) -> tuple[str, str]:
        """Return the factors of a product; nothing if the value is none."""
        maker = self.makers.get(self.plain(name))
        if maker is None or maker.op_type != "Mul":
            return "", ""
        one, other = (self.plain(each) for each in maker.input)
        return one, other
