"""Accuracy and cost of head pose and gaze; writes `docs/benchmarks/<date>-<commit>-measures.md`.

    python -m benchmarks.measures

Poses and gazes are known for the canonical face, turned and projected; the portraits of the London set look into the camera, so
that the mean of their gaze is a bias and its spread a noise. The gaze was calibrated on the subjects with even numbers; those
with odd numbers are measured. The cost is that of one run, with and without the measures in turns, one thread, in processor
time.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import mien
from mien.faces import gaze as model
from mien.faces.gaze import gazes
from mien.faces.pose import canonical_face, metric_faces
from mien.inference import recognizer
from mien.inference.recognizer import Recognizer
from mien.io.images import read_image
from mien.types import Face, Pose

from .run import ROOT, SHARED, machine, table

CARD = ROOT / "src" / "mien" / "assets" / "cards" / "mesh478.toml"
"""Card of the mesh, which gets the figures of the gaze."""
SIZE = (640, 480)
NOISE = 0.009
"""Noise of the landmarks of the eyes in distances of the eyes: the error of the pupils measured on the London set."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file to write instead of docs/benchmarks/<date>-<commit>-measures.md")
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    today = datetime.date.today().isoformat()
    read = mien.load()
    head = f"# {today}, {commit}: head pose and gaze\n\n{machine()}\n"
    path = args.out or ROOT / "docs" / "benchmarks" / f"{today}-{commit}-measures.md"
    synthetic, (portraits, figures) = eyes(), london(read)
    path.write_text("\n".join([head, turns(), rotations(read), synthetic, portraits, cost(read)]), encoding="utf-8")
    lines = [line for line in CARD.read_text(encoding="utf-8").splitlines() if not line.startswith("gaze_")]
    lines += [f"{name} = {value:.2f}" for name, value in figures.items()]  # [figures] is the last table of the card
    CARD.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(path)


def projected(pose: Pose, points: np.ndarray) -> np.ndarray:
    """Return (478, 3) mesh points of a face in an image, with the orthographic depth of the mesh network."""
    camera = points @ pose.rotation.T
    depth = -(camera[:, 2:] - camera[:468, 2].mean()) * (SIZE[1] / 2 / np.tan(np.radians(pose.fov) / 2)) / -pose.z
    return np.concatenate([pose.project(points, *SIZE) - 0.5, depth], 1)


def turns() -> str:
    """Errors of the head pose of the canonical face."""
    points, rows, worst = canonical_face()[0], [], np.zeros(3)
    for pitch in (-30, -15, 0, 15, 30):
        for yaw in (-60, -40, -20, 0, 20, 40, 60):
            for roll in (-45, 0, 45):
                (pose,) = metric_faces(projected(Pose(pitch, yaw, roll, 0, 0, -60), points)[None], np.array([SIZE])).poses
                worst = np.maximum(worst, np.abs(np.array([pose.pitch, pose.yaw, pose.roll]) - [pitch, yaw, roll]))
    rows = [[name, f"{error:.2f}°"] for name, error in zip(("pitch", "yaw", "roll"), worst, strict=True)]
    note = "Canonical face at 60 cm, pitch to ±30°, yaw to ±60°, roll to ±45°, no noise: largest errors."
    return table("Head pose of synthetic faces", ["angle", "error"], rows, note)


def rotations(read: Recognizer) -> str:
    """Change of roll where the photo is rotated in the plane."""
    with Image.open(mien.sample()) as image:
        upright = image.convert("RGB")
    rolls = {}
    for angle in (0, -40, -20, 20, 40):
        (face,) = read(np.asarray(upright.rotate(angle, Image.Resampling.BICUBIC, center=(220, 120)))).faces
        assert face.pose is not None
        rolls[angle] = face.pose.roll
    rows = [[f"{angle}°", f"{rolls[angle] - rolls[0]:.2f}°"] for angle in rolls if angle]
    return table("Rotated photo", ["rotation", "change of roll"], rows)


def eyes() -> str:
    """Errors of the gaze for irises turned by known angles, with noise on the landmarks of the eyes."""
    rng, base, rows = np.random.default_rng(0), canonical_face()[0], []
    pupils = np.linalg.norm(base[model.LEFT[4]] - base[model.RIGHT[4]])
    marks = sorted({*model.LEFT, *model.RIGHT})
    for yaw in (0, 10, 20, 30):
        for head in (0, 20):
            points = base.copy()
            to = np.array([np.sin(np.radians(yaw)), 0, np.cos(np.radians(yaw))])
            for eye, side in ((model.LEFT, 1), (model.RIGHT, -1)):
                rest = base[eye[4]] + [side * model.OUTWARD + model.SHIFT, model.UP, 0]
                points[eye[4]] = rest + model.RADIUS * (to - [0, 0, 1])
            mesh = np.repeat(projected(Pose(0, head, 0, 0, 0, -60), points)[None], 400, 0)
            pixels = NOISE * pupils * SIZE[1] / 2 / np.tan(np.radians(31.5)) / 60
            mesh[:, marks, :2] += rng.normal(0, pixels / np.sqrt(2), (400, len(marks), 2))
            found = [each for each in gazes(metric_faces(mesh, np.repeat([SIZE], 400, 0))) if each is not None]
            error = np.array([(each.head_yaw - yaw, each.head_pitch) for each in found])
            rows.append([f"{yaw}°", f"{head}°", f"{error[:, 0].mean():.1f}°", *(f"{each:.1f}°" for each in error.std(0))])
    note = f"Noise of {NOISE} of the distance of the eyes on corners, lids and irises; mean of both eyes."
    head = ["gaze to the left", "head yaw", "bias of yaw", "sd of yaw", "sd of pitch"]
    return table("Gaze of synthetic eyes", head, rows, note)


def london(read: Recognizer) -> tuple[str, dict[str, float]]:
    """Bias, noise and symmetry on portraits that look into the camera: a table, and the figures of the card in degrees."""
    pairs: list[tuple[Face, Face]] = []
    for path in sorted((SHARED / "data" / "london" / "images").glob("*.jpg")):
        if int(path.name[:3]) % 2:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
            pairs.append((read(pixels).faces[0], read(np.ascontiguousarray(pixels[:, ::-1])).faces[0]))
    gaze = np.array([[(f.gaze.yaw, f.gaze.pitch) for f in pair if f.gaze] for pair in pairs])
    pose = np.array([[(f.pose.yaw, f.pose.pitch, f.pose.roll) for f in pair if f.pose] for pair in pairs])
    off = np.array([f.gaze.camera_angle for f, _ in pairs if f.gaze])
    rows, figures = [], {}
    for name, values, mirror in (
        *((f"gaze {name}", gaze[..., i], sign) for i, (name, sign) in enumerate((("yaw", -1), ("pitch", 1)))),
        *((f"head {name}", pose[..., i], sign) for i, (name, sign) in enumerate((("yaw", -1), ("pitch", 1), ("roll", -1)))),
    ):
        difference = np.median(np.abs(values[:, 0] - mirror * values[:, 1]))
        rows.append([name, f"{values[:, 0].mean():.2f}°", f"{values[:, 0].std():.2f}°", f"{difference:.2f}°"])
        if name.startswith("gaze"):
            key = name.replace(" ", "_")
            figures |= {f"{key}_bias_london": values[:, 0].mean(), f"{key}_noise_london": values[:, 0].std()}
            figures[f"{key}_mirrored_london"] = float(difference)
    note = f"Looking at the camera (`Gaze.at_camera`): {np.mean(off <= model.CONTACT):.0%} of {len(pairs)} portraits."
    head = ["", "mean", "sd", "difference to the mirrored photo, median"]
    return table("London set, subjects with odd numbers", head, rows, note), figures


def cost(read: Recognizer) -> str:
    """Milliseconds of the measures, and the pipeline with and without them in turns."""
    image = read_image(mien.sample())
    (face,) = read(image).faces
    assert face.points is not None
    points, sizes = face.points[None], np.array([image.pixels.shape[1::-1]])
    fitted = metric_faces(points, sizes)
    rows = [
        ["head pose", f"{fastest(lambda: metric_faces(points, sizes).poses):.2f}"],
        ["gaze", f"{fastest(lambda: gazes(fitted)):.2f}"],
        ["action units", f"{fastest(lambda: recognizer.estimate(face.blendshapes or {}, points[0])):.2f}"],
    ]
    times: dict[bool, list[float]] = {True: [], False: []}
    measure, estimate = Recognizer._measure, recognizer.estimate
    try:
        for turn in range(400):
            on = turn % 2 == 0
            Recognizer._measure = measure if on else (lambda self, images, points: ([None], [None]))  # pyrefly: ignore
            recognizer.estimate = estimate if on else (lambda blendshapes, points: None)  # pyrefly: ignore
            started = time.process_time()
            read(image)
            times[on].append(time.process_time() - started)
    finally:
        Recognizer._measure, recognizer.estimate = measure, estimate  # pyrefly: ignore
    ratio = np.median(times[True]) / np.median(times[False])
    note = f"The whole pipeline on one photo, one face: {ratio:.3f} times the processor time without the measures."
    return table("Cost", ["", "ms per face"], rows, note)


def fastest(call: Callable[[], object]) -> float:
    """Return the shortest of 500 calls in milliseconds."""
    times = []
    for _ in range(500):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1000 * min(times)


if __name__ == "__main__":
    main()
