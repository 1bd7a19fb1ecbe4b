"""ONNX graphs written node by node with deterministic names, and float16 storage of weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET, IR_VERSION = 17, 8
SMALLEST = 128  # values; for fewer the Cast costs more than it saves
LARGEST = 6e4  # the largest float16 is 65504


class Graph:
    """Nodes and constants in the order they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._count = 0

    def _fresh(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def node(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """Append an operator and return the name of its output."""
        output = output or self._fresh("x")
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, values: np.ndarray | np.generic) -> str:
        """Store an array in the file and return its name."""
        name = self._fresh("c")
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _prune(self, outputs: Iterable[str]) -> None:
        """Drop the nodes and constants that no output needs."""
        needed = set(outputs)
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
        self.nodes = [node for node in self.nodes if needed.intersection(node.output)]
        self.constants = [tensor for tensor in self.constants if tensor.name in needed]

    def model(self, inputs: dict[str, list[int | str]], outputs: dict[str, list[int | str]]) -> onnx.ModelProto:
        """Return the checked model; `inputs` and `outputs` give the shape of every float32 value by name."""
        values = [
            [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in table.items()]
            for table in (inputs, outputs)
        ]
        self._prune(outputs)
        graph = helper.make_graph(self.nodes, "g", *values, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return model


def halve(model: onnx.ModelProto, *, exact: bool = False) -> onnx.ModelProto:
    """Store float32 constants of a model as float16 with a Cast, in place: half the file, arithmetic still in float32.

    onnxruntime folds the Cast while loading. With `exact`, constants that float16 cannot represent exactly stay float32.
    """
    stored, casts = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        large = values.dtype == np.float32 and values.size >= SMALLEST and np.abs(values).max() < LARGEST
        if large and not (exact and (values.astype(np.float16) != values).any()):
            stored.append(numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}_h"))
            casts.append(helper.make_node("Cast", [f"{tensor.name}_h"], [tensor.name], to=onnx.TensorProto.FLOAT))
        else:
            stored.append(tensor)
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:]
    model.graph.initializer.extend(stored)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model
