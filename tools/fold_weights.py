"""Fold what is constant in the bundled networks of the face pipeline, which then open in two thirds of the time.

    python tools/fold_weights.py        # after a network was converted again; the digests on the cards are updated

onnxruntime computes constants, among them the 32-bit form of 16-bit weights, whenever it opens a file. The passes applied here
are those that depend on no processor and that it would run first; the outputs of each network are compared to the bit.
"""

import re
import tempfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

ASSETS = Path(__file__).parents[1] / "src/mien/assets"
NAMES = ("blazeface", "blendshapes", "mesh468", "mesh478")  # mien-base would gain 3 of 25 ms and 6 MB


def opened(path: Path, folded: Path | None = None) -> onnxruntime.InferenceSession:
    """Open a network; with `folded`, write what onnxruntime makes of it on every processor."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if folded:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def outputs(path: Path) -> list[np.ndarray]:
    """Return the outputs for the same random input each time."""
    session, random = opened(path), np.random.default_rng(0)
    shapes = {each.name: [side if isinstance(side, int) else 2 for side in each.shape] for each in session.get_inputs()}
    return session.run(None, {name: random.random(shape, np.float32) for name, shape in shapes.items()})


def main() -> None:
    """Fold each file, and write its digest to its card."""
    for name in NAMES:
        path, card = ASSETS / f"weights/{name}.onnx", ASSETS / f"cards/{name}.toml"
        with tempfile.TemporaryDirectory() as folder:
            folded = Path(folder, "folded.onnx")
            opened(path, folded)
            model, domains = onnx.load(folded), onnx.load(path).opset_import
            del model.opset_import[:]
            model.opset_import.extend(domains)
            onnx.save(model, folded)
            onnx.checker.check_model(folded)
            for before, after in zip(outputs(path), outputs(folded), strict=True):
                np.testing.assert_array_equal(before, after)
            path.write_bytes(folded.read_bytes())
        line = f'sha256 = "{sha256(path.read_bytes()).hexdigest()}"'
        card.write_text(re.sub(r'(?m)^sha256 = ".*"', line, card.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
