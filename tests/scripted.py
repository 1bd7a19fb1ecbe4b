"""Scenes whose truth is known: cut-out faces of the London set move over a backdrop, cross, and pass behind a pillar.

The specification of trackers measured such a scene of 500 frames; its script was not kept, so this one is written anew: four
faces on curves that cross some thirty times, the nearer hiding the farther, and a pillar in front of all. For tests and
benchmarks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from mien.io.images import DecodedImage
from mien.io.sources import Frame
from mien.types import Result

SUBJECTS = ("003", "013", "026", "066")
RATE = 25


@dataclass(frozen=True)
class Truth:
    """Where one face is in one frame."""

    person: int
    box: tuple[float, float, float, float]
    visible: float
    """Share of the face that nothing hides."""


@dataclass(frozen=True)
class Scene:
    """One frame of a script."""

    pixels: np.ndarray
    faces: list[Truth]


class Cutout:
    """A head with soft edges, `height` pixels from brow to chin."""

    def __init__(self, path: Path, box: Sequence[float], height: int) -> None:
        left, top, right, bottom = box
        scale = height / (bottom - top)
        middle, reach = (left + right) / 2, 0.62 * (bottom - top)
        around = (middle - reach, top - 0.12 * (bottom - top), middle + reach, bottom + 0.12 * (bottom - top))
        size = round(2 * reach * scale), round(1.24 * (bottom - top) * scale)
        self.image = Image.open(path).convert("RGB").resize(size, Image.Resampling.LANCZOS, box=around)
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).ellipse((0.09 * size[0], 2, 0.91 * size[0], size[1] - 3), fill=255)
        self.mask = mask.filter(ImageFilter.GaussianBlur(3))
        self.core = np.asarray(mask) > 127
        inner = 0.12 / 1.24 * size[1]
        self.box = (size[0] * 0.16, inner, size[0] * 0.84, size[1] - inner)


def cutouts(shared: Path, height: int, subjects: Sequence[str] = SUBJECTS, expression: str = "03") -> list[Cutout]:
    """Return the heads of some people, neutral (03) or smiling (08)."""
    import csv

    root = shared / "data" / "london"
    with (root / "labels.csv").open() as file:
        rows = {Path(row["image"]).stem: row for row in csv.DictReader(file)}
    made = []
    for subject in subjects:
        row = rows[f"{subject}_{expression}"]
        box = [float(row[f"box_{side}"]) for side in ("x1", "y1", "x2", "y2")]
        made.append(Cutout(root / row["image"], box, height))
    return made


def crossing(
    shared: Path, frames: int = 500, size: tuple[int, int] = (1280, 720), *, pillar: bool = True, variant: int = 0
) -> Iterator[Scene]:
    """Four people go back and forth across the image at different paces; variant 1 has others and another beginning."""
    width, height = size
    people = cutouts(shared, round(0.25 * height), (SUBJECTS, ("005", "022", "041", "090"))[variant])
    paces, phases, rows = (5.2, 7.1, 6.1, 8.3), (0.0, 1.9, 3.6, 5.1), (0.36, 0.46, 0.54, 0.62)
    for number in range(frames):
        time = number / RATE
        places = [
            (
                width * (0.5 + 0.38 * np.sin(2 * np.pi * time / pace + phase + 2.3 * variant * phase)),
                height * (row + 0.07 * np.sin(2 * np.pi * time / (0.6 * pace) + 2 * phase)),
            )
            for pace, phase, row in zip(paces, phases, rows, strict=True)
        ]
        yield paint(people, places, size, pillar=pillar, seed=number)


def cuts(shared: Path, size: tuple[int, int] = (640, 360), length: int = 20) -> Iterator[Scene]:
    """Two people, then two others elsewhere, then the first two again with their places changed."""
    width, height = size
    people = cutouts(shared, round(0.4 * height))
    script = [((0, 0.3), (1, 0.7)), ((2, 0.35), (3, 0.75)), ((1, 0.28), (0, 0.68))]
    for part, shown in enumerate(script):
        for number in range(length):
            chosen = [people[person] for person, _ in shown]
            places = [(width * (x + 0.001 * number), height * (0.45 + 0.02 * part)) for _, x in shown]
            scene = paint(chosen, places, size, seed=part * length + number, tone=part % 2)
            yield Scene(scene.pixels, [Truth(shown[face.person][0], face.box, face.visible) for face in scene.faces])


def paint(
    people: Sequence[Cutout],
    places: Sequence[tuple[float, float]],
    size: tuple[int, int],
    *,
    pillar: bool = False,
    seed: int = 0,
    tone: int = 0,
) -> Scene:
    """Paste heads on a backdrop, each over those before it, with the noise of a camera."""
    width, height = size
    canvas = backdrop(size, tone).copy()
    owner = np.full((height, width), -1)
    spots = []
    for person, (head, (x, y)) in enumerate(zip(people, places, strict=True)):
        left, top = round(x - head.image.width / 2), round(y - head.image.height / 2)
        canvas.paste(head.image, (left, top), head.mask)
        region, core = _clip(head.core, left, top, size)
        owner[region][core] = person
        spots.append((left, top, int(core.sum())))
    if pillar:
        edges = round(0.47 * width), round(0.53 * width)
        canvas.paste((74, 70, 68), (edges[0], 0, edges[1], height))
        owner[:, edges[0] : edges[1]] = -1
    noise = np.random.default_rng(seed).normal(0, 2.5, (height, width, 1))
    pixels = np.clip(np.asarray(canvas) + noise, 0, 255).astype(np.uint8)
    faces = []
    for person, (head, (left, top, area)) in enumerate(zip(people, spots, strict=True)):
        x0, y0, x1, y1 = head.box
        visible = float((owner == person).sum()) / max(area, 1)
        faces.append(Truth(person, (left + x0, top + y0, left + x1, top + y1), visible))
    return Scene(pixels, faces)


def backdrop(size: tuple[int, int], tone: int = 0) -> Image.Image:
    """A wall with uneven light and some shapes, so that it is not empty; `tone` 1 is another wall."""
    width, height = size
    small = np.random.default_rng(7 + tone).integers(60, 190, (6, 10, 3)).astype(np.uint8)
    if tone:
        small = (small // 2)[::-1]
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def _clip(core: np.ndarray, left: int, top: int, size: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + core.shape[1], size[0]), min(top + core.shape[0], size[1])
    return (slice(y0, y1), slice(x0, x1)), core[y0 - top : y1 - top, x0 - left : x1 - left]


def as_frames(scenes: Iterator[Scene], truths: list[list[Truth]]) -> Iterator[Frame]:
    """Turn scenes into frames of a video, and keep their truth."""
    for number, scene in enumerate(scenes):
        truths.append(scene.faces)
        yield Frame(number, "scene", DecodedImage(scene.pixels, "scene"), time=number / RATE)


@dataclass
class Score:
    """What became of the visible faces."""

    switches: int = 0
    """How often a face had another number than when it was last seen."""
    visible: int = 0
    """Faces in all frames of which at least half could be seen."""
    found: int = 0
    numbers: int = 0
    """Different numbers given."""

    @property
    def coverage(self) -> float:
        """Share of the visible faces that were found."""
        return self.found / max(self.visible, 1)


def score(
    truths: Sequence[Sequence[Truth]], found: Sequence[Sequence[tuple[int, Sequence[float]]]], least: float = 0.5
) -> Score:
    """Compare (number, box) of every frame with the truth; a face is found where the overlap (IoU) is 0.3 or more."""
    last: dict[int, int] = {}
    total, given = Score(), set()
    for truth, answers in zip(truths, found, strict=True):
        given |= {number for number, _ in answers}
        shown = [face for face in truth if face.visible >= least]
        total.visible += len(shown)
        pairs = sorted(((-_iou(face.box, box), face.person, number) for face in shown for number, box in answers))
        people: set[int] = set()
        numbers: set[int] = set()
        for overlap, person, number in pairs:
            if -overlap < 0.3 or person in people or number in numbers:
                continue
            people.add(person)
            numbers.add(number)
            total.found += 1
            total.switches += last.get(person, number) != number
            last[person] = number
    total.numbers = len(given)
    return total


def numbered(result: Result) -> list[tuple[int, tuple[float, float, float, float]]]:
    """Return number and box of each face."""
    return [(face.track or 0, (face.box.left, face.box.top, face.box.right, face.box.bottom)) for face in result.faces]


def _iou(a: Sequence[float], b: Sequence[float]) -> float:
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(across, 0) * max(down, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
