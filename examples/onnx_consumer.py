"""Read one face crop with an exported file alone: onnxruntime, numpy and Pillow, without mien.

python examples/onnx_consumer.py face.onnx crop.png
"""

import json
import sys
import tomllib

import numpy as np
import onnxruntime
from PIL import Image


def predict(model: str, path: str) -> dict[str, float]:
    """Return class → probability for an image of one face, cut as the card says."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # else int8 is inexact on x86 without VNNI
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    card = tomllib.loads(session.get_modelmeta().custom_metadata_map["mien.card"])
    fed, (source, *others) = card["input"], session.get_inputs()
    if others or fed["resize"] != "pil-bilinear":
        raise SystemExit(f"{model} reads several images, or resizes as OpenCV does: export it with --raw-input, or use mien")
    height, width = fed["size"]
    image = Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    values = np.asarray(image)[None]
    if fed.get("dtype") != "uint8":  # the file does not prepare images itself
        values = np.asarray(image.convert("L"))[None, ..., None] if fed["color"] == "gray" else values
        values = values[..., ::-1] if fed["color"] == "bgr" else values
        values = (values * fed["scale"] + fed["offset"]) / fed.get("std", 1)
        values = (values.transpose(0, 3, 1, 2) if fed["layout"] == "NCHW" else values).astype(np.float32)
    (scores,) = session.run([card["outputs"]["scores"]], {source.name: values})
    return dict(zip(card["labels"], scores[0].tolist(), strict=True))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python examples/onnx_consumer.py FILE.onnx CROP.png")
    sys.stdout.write(json.dumps(predict(*sys.argv[1:])) + "\n")
