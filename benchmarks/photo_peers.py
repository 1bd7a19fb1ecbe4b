"""Expressions by the package fer with its own detector, default settings, one JSON line an image; see `photo_peers.js`.

python photo_peers.py images.bin out.jsonl
"""

import importlib.util
import json
import os
import sys
import time
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
try:
    import pkg_resources  # noqa: F401
except ImportError:  # fer uses one function of a module that newer setuptools lack
    shim = types.ModuleType("pkg_resources")
    shim.resource_filename = lambda package, path: os.path.join(  # noqa: PTH118
        os.path.dirname(importlib.util.find_spec(package).origin),  # noqa: PTH120
        path,
    )
    sys.modules["pkg_resources"] = shim

import numpy as np
from fer.fer import FER

data = open(sys.argv[1], "rb").read()  # noqa: PTH123, SIM115
folder = os.path.dirname(sys.modules["fer.fer"].__file__)  # noqa: PTH120
# OpenCV 5 has no cascade files, the package has a copy.
detector = FER(cascade_file=os.path.join(folder, "data", "haarcascade_frontalface_default.xml"), mtcnn=False)  # noqa: PTH118
lines, start, at = [], time.process_time(), 0
while at < len(data):
    height, width = np.frombuffer(data, "<u4", 2, at).tolist()
    pixels = np.frombuffer(data, np.uint8, height * width * 3, at + 8).reshape(height, width, 3)
    at += 8 + height * width * 3
    faces = detector.detect_emotions(np.ascontiguousarray(pixels[..., ::-1]))
    best = max(faces, key=lambda face: face["box"][2] * face["box"][3], default=None)
    lines.append(None if best is None else {name: float(score) for name, score in best["emotions"].items()})
lines.append({"ms": 1000 * (time.process_time() - start) / max(len(lines), 1)})
with open(sys.argv[2], "w") as file:  # noqa: PTH123
    file.writelines(json.dumps(line) + "\n" for line in lines)
