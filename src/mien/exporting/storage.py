"""Weights stored as float16, arithmetic in float32: half the file, the same speed, answers that differ in the third digit.

`tools/convert` stores the bundled third-party networks in the same way; it keeps a form of its own, since their digests must
stay.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

SMALLEST = 128
"""Values that a constant has at least; below, the Cast costs more than it saves."""
LARGEST = float(np.finfo(np.float16).max)
"""Constants with a larger value stay float32."""


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose large float32 constants are float16, each before a Cast that is folded away when it is loaded."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    stored, casts = [], []
    for tensor in changed.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
            stored.append(tensor)
            continue
        values = numpy_helper.to_array(tensor)
        if not np.abs(values).max() <= LARGEST:
            stored.append(tensor)
            continue
        name = f"{tensor.name}/half"
        stored.append(numpy_helper.from_array(values.astype(np.float16), name))
        casts.append(helper.make_node("Cast", [name], [tensor.name], f"{name}/float", to=onnx.TensorProto.FLOAT))
    nodes, graph = [*casts, *changed.graph.node], changed.graph
    del graph.initializer[:]
    graph.initializer.extend(stored)
    del graph.node[:]
    graph.node.extend(nodes)
    return changed
