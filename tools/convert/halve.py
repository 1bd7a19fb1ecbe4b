"""Store the float32 weights of an ONNX model as float16: half the file, arithmetic still in float32.

Every large constant becomes float16 followed by a Cast, which onnxruntime folds away while loading. Nothing is lost where the
source kept float16 itself (MediaPipe's files); elsewhere weights are rounded to 11 bits.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

SMALLEST = 128  # values; below, the Cast costs more than it saves
LARGEST = 6e4  # float16 ends at 65504


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Change the model in place and return it."""
    stored, casts = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= SMALLEST and np.abs(values).max() < LARGEST:
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
