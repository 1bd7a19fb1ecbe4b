"""Store the float32 weights of an ONNX model as float16: half the file, arithmetic still in float32.

Every large constant becomes float16 followed by a Cast, which onnxruntime folds away while loading. Weights that the source
kept as float16 itself (MediaPipe's newer files) lose nothing; others are rounded to 11 bits, or left alone on request.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

SMALLEST = 128  # values; below, the Cast costs more than it saves
LARGEST = 6e4  # float16 ends at 65504


def halve(model: onnx.ModelProto, *, exact: bool = False) -> onnx.ModelProto:
    """Change the model in place and return it; with `exact`, constants that float16 cannot hold as they are stay float32."""
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
