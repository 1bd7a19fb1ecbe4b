"""Compare a freshly converted model with the file that ships, or write it there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from .packages import sha256

WEIGHTS = Path(__file__).resolve().parents[2] / "src" / "mien" / "assets" / "weights"


def settle(name: str, model: onnx.ModelProto, write: bool) -> bool:
    """Write the model as `assets/weights/<name>`, or say how it compares with that file. Return whether they agree.

    Another version of the onnx package may order bytes differently; then tensors and nodes are compared one by one.
    """
    path, data = WEIGHTS / name, model.SerializeToString()
    if write:
        path.write_bytes(data)
    if not path.is_file():
        print(f"{name}: not there yet; run again with --write")
        return False
    if path.read_bytes() == data:
        print(f"{name}: the same bytes ({len(data):,}, sha256 {sha256(data)})")
        return True
    same = _equal(model, onnx.load(str(path)))
    print(f"{name}: {'the same network in other bytes' if same else 'DIFFERS'}")
    return same


def _equal(one: onnx.ModelProto, other: onnx.ModelProto) -> bool:
    (nodes, tensors), (other_nodes, other_tensors) = map(_content, (one, other))
    if nodes != other_nodes or tensors.keys() != other_tensors.keys():
        return False
    return all(a.dtype == (b := other_tensors[key]).dtype and np.array_equal(a, b) for key, a in tensors.items())


def _content(model: onnx.ModelProto) -> tuple[list, dict[str, np.ndarray]]:
    nodes = [(n.op_type, [*n.input], [*n.output], sorted(map(str, n.attribute))) for n in model.graph.node]
    return nodes, {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
