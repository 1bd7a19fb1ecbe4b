"""Run a network as its authors' runtime does, to measure what conversion and rounding change.

Needs `ai-edge-litert` (TFLite files) and `onnxruntime`, in an environment of their own.
"""

from __future__ import annotations

import numpy as np


def run_tflite(data: bytes, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return every output of a TFLite file by name, for one batch."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    (source,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(source["index"], inputs.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source["index"], inputs)
    interpreter.invoke()
    return {output["name"]: interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()}


def run_onnx(data: bytes, inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Return every output of an ONNX file by name, for one batch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: inputs}), strict=True))


def largest_differences(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the largest absolute difference of every output."""
    return {name: float(np.abs(values.reshape(-1) - other[name].reshape(-1)).max()) for name, values in one.items()}
