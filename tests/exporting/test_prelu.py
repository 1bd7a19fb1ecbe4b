"""Rewritten PReLU computes the same values; LeakyReLU is quantized."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from mien.exporting.graphs import trace
from mien.exporting.precision import quantize, with_convolutions, with_relu
from mien.runtime.onnx import OnnxRuntime

random = np.random.default_rng(5)


def network(slope: np.ndarray, shape: tuple[int, ...], *, shared: bool = False) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    nodes = [helper.make_node("PRelu", ["x", "again" if shared else "slope"], ["y"])]
    if shared:  # the tracer stores equal slopes once
        nodes.insert(0, helper.make_node("Identity", ["slope"], ["again"]))
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [numpy_helper.from_array(slope.astype(np.float32), "slope")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def output(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model)
    return next(iter(OnnxRuntime(model.SerializeToString())(x).values()))


@pytest.mark.parametrize("rewrite", [with_convolutions, with_relu])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("slope", [[0.25] * 6, [-0.5, 0, 0.2, 0.9, 1, 1], [0.1, 0.2, 0.3, 1.5, 2, -1], [0.3]])
def test_maps(slope: list[float], shared: bool, rewrite: Callable[[onnx.ModelProto], onnx.ModelProto]) -> None:
    x = random.normal(size=(2, 6, 5, 4)).astype(np.float32)
    model = network(np.array(slope).reshape(-1, 1, 1), x.shape, shared=shared)
    changed = rewrite(model)
    assert [node.op_type for node in model.graph.node][-1] == "PRelu"  # the input is not modified
    assert "PRelu" not in {node.op_type for node in changed.graph.node}
    assert output(changed, x) == pytest.approx(output(model, x), abs=1e-6)


def test_prelu_of_vectors_is_kept() -> None:
    x = random.normal(size=(2, 6)).astype(np.float32)
    model = network(np.linspace(0, 1, 6), x.shape)
    changed = with_convolutions(model)
    assert [node.op_type for node in changed.graph.node] == ["PRelu"]
    assert (output(changed, x) == output(model, x)).all()


def test_leaky_relu_in_8_bits() -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.LeakyReLU(0.3), nn.Conv2d(8, 4, 3), nn.ReLU()).eval()
    x = torch.rand(4, 1, 12, 12)
    model = quantize(trace(network, {"x": x}, ["y"]), [{"x": x.numpy()}])
    (leaky,) = (node for node in model.graph.node if node.op_type == "LeakyRelu")
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    read = {name: node.op_type for node in model.graph.node for name in node.input}
    assert made[leaky.input[0]] == "DequantizeLinear" and read[leaky.output[0]] == "QuantizeLinear"
    expected = network(x).detach().numpy()
    assert np.abs(output(model, x.numpy()) - expected).max() < 0.03 * expected.max()
