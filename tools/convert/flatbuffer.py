"""A TFLite file as plain Python: tensor shapes, constants, and the operators in the order they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite

KINDS = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64, 9: np.int8}


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of the graph. Tensors are named by their index."""

    kind: str
    inputs: list[int]
    output: int
    table: Any

    def options(self, kind: type) -> Any:
        """Return the operator's options read as a `tflite.*Options`, or None where it has none."""
        if self.table is None:
            return None
        options = kind()
        options.Init(self.table.Bytes, self.table.Pos)
        return options


class Network:
    """The first graph of a TFLite file. Weights stored as float16 appear among the constants as float32.

    Raises:
        NotImplementedError: the weights are stored sparsely; take the dense file of the model.
    """

    def __init__(self, data: bytes) -> None:
        model = tflite.Model.GetRootAsModel(data, 0)
        graph = model.Subgraphs(0)
        self._tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
        self.inputs = [graph.Inputs(i) for i in range(graph.InputsLength())]
        self.outputs = [graph.Outputs(i) for i in range(graph.OutputsLength())]
        self.constants: dict[int, np.ndarray] = {}
        for i, tensor in enumerate(self._tensors):
            if tensor.Sparsity() is not None:
                raise NotImplementedError("the weights are stored sparsely: convert the dense file of this model instead")
            buffer = model.Buffers(tensor.Buffer())
            if buffer.DataLength():
                values = np.frombuffer(buffer.DataAsNumpy().tobytes(), DTYPES[tensor.Type()])
                self.constants[i] = values.reshape(self.shape(i))
        self.operators: list[Operator] = []
        for i in range(graph.OperatorsLength()):
            self._append(model, graph.Operators(i))

    def _append(self, model: Any, entry: Any) -> None:
        code = model.OperatorCodes(entry.OpcodeIndex())
        kind = KINDS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        inputs = [entry.Inputs(i) for i in range(entry.InputsLength())]
        output = entry.Outputs(0)
        if kind == "DEQUANTIZE":
            self.constants[output] = self.constants[inputs[0]].astype(np.float32)
        else:
            self.operators.append(Operator(kind, inputs, output, entry.BuiltinOptions()))

    def shape(self, tensor: int) -> list[int]:
        """Return the sizes of a tensor's axes, channels last; [] for a scalar."""
        entry = self._tensors[tensor]
        return [int(size) for size in entry.ShapeAsNumpy()] if entry.ShapeLength() else []

    def name(self, tensor: int) -> str:
        """Return the name that the file gives a tensor."""
        return self._tensors[tensor].Name().decode()
