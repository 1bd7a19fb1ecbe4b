"""Graphs rewritten for onnxruntime compute the same function."""

import numpy as np
import onnxruntime
import pytest

from convert.graph import Graph
from convert.optimize import block, name_norms

rng = np.random.default_rng(3)


def network(narrow: int, steepest: float, activation: str) -> Graph:
    """A residual block as in BlazeFace and the meshes: 16 channels, `narrow` of them within."""
    graph = Graph()

    def convolve(value: str, out: int, into: int, size: int, group: int = 1) -> str:
        weights = graph.constant(rng.normal(size=(out, into, size, size)).astype(np.float32))
        bias = graph.constant(rng.normal(size=out).astype(np.float32))
        return graph.node("Conv", [value, weights, bias], kernel_shape=[size, size], pads=[size // 2] * 4, group=group)

    def activate(value: str, channels: int) -> str:
        slope = rng.uniform(-0.5, steepest, (channels, 1, 1)).astype(np.float32)
        return graph.node(activation, [value, graph.constant(slope)] if activation == "PRelu" else [value])

    first = activate(convolve("image", 16, 3, 3), 16)
    inner = activate(convolve(first, narrow, 16, 1), narrow)
    inner = convolve(convolve(inner, narrow, 1, 3, narrow), 16, narrow, 1)
    total = activate(graph.node("Add", [first, inner]), 16)
    graph.node("GlobalAveragePool", [convolve(total, 5, 16, 1)], "output")
    return graph


def output_of(graph: Graph, image: np.ndarray) -> np.ndarray:
    model = graph.model({"image": ["N", 3, 9, 9]}, {"output": ["N", 5, 1, 1]})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


@pytest.mark.parametrize("activation", ["Relu", "PRelu"])
@pytest.mark.parametrize("steepest", [0.9, 1.6])
@pytest.mark.parametrize("narrow", [8, 12, 16])
def test_blocked_graphs_compute_the_same(narrow: int, steepest: float, activation: str) -> None:
    graph, image = network(narrow, steepest, activation), rng.normal(size=(2, 3, 9, 9)).astype(np.float32)
    before = output_of(graph, image)
    after = output_of(block(graph, ["output"]), image)
    assert np.allclose(before, after, rtol=1e-4, atol=1e-5)
    assert not any(node.op_type == "PRelu" for node in graph.nodes)
    groups = [
        attribute.i for node in graph.nodes for attribute in node.attribute if attribute.name == "group" and attribute.i > 1
    ]
    if activation == "Relu" or narrow == 8:
        assert set(groups) == {16}


def test_unused_nodes_are_dropped() -> None:
    graph = block(network(8, 0.9, "PRelu"), ["output"])
    graph.node("Relu", [graph.constant(np.zeros(3, np.float32))], "unused")
    output_of(graph, np.zeros((1, 3, 9, 9), np.float32))
    assert "unused" not in {node.output[0] for node in graph.nodes}
    used = {name for node in graph.nodes for name in node.input}
    assert {tensor.name for tensor in graph.constants} <= used


@pytest.mark.parametrize("changed", ["", "mean", "gain", "square"])
def test_layer_normalization_is_fused(changed: str) -> None:
    """The pattern of TFLite is replaced; similar patterns are not."""
    graph = Graph()
    mean = graph.node("Identity", [graph.node("ReduceMean", ["image"], axes=[3], keepdims=1)], "mean")
    minus = graph.node("Neg", [mean])
    difference = graph.node("Sub", ["image", minus if changed == "mean" else mean])
    square = graph.node("Mul", [difference, "image" if changed == "square" else difference])
    variance = graph.node("ReduceMean", [square], axes=[3], keepdims=1)
    root = graph.node("Sqrt", [graph.node("Add", [variance, graph.constant(np.array([1e-3], np.float32))])])
    gain = graph.constant(rng.normal(size=9).astype(np.float32))
    scale = graph.node("Mul", [graph.node("Reciprocal", [root]), gain])
    other = graph.node("Mul", [scale, gain]) if changed == "gain" else scale
    total = graph.node("Add", [graph.node("Mul", ["image", scale]), graph.node("Mul", [minus, other])])
    weights = graph.constant(rng.normal(size=(5, 3, 1, 1)).astype(np.float32))
    graph.node("GlobalAveragePool", [graph.node("Conv", [total, weights])], "output")
    image = rng.normal(size=(2, 3, 9, 9)).astype(np.float32)
    before = output_of(graph, image)
    after = output_of(name_norms(graph), image)
    assert np.allclose(before, after, atol=1e-5)
    kinds = [node.op_type for node in graph.nodes]
    assert ("LayerNormalization" in kinds) == (not changed) and (bool(changed) or len(kinds) == 3)
