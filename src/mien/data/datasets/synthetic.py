"""Drawn faces, generated when needed, for tests and demonstrations. They teach nothing about people."""

import numpy as np
from PIL import Image, ImageDraw

from ...errors import DatasetError
from ...labels import FER2013 as LABELS
from .dataset import Dataset, Pixels
from .layout import Place
from .listing import texts

SIDE = 48
SCALE = 4  # drawn four times as large and reduced, for soft edges
SUBJECTS = 20
PARTS = ("train",) * 14 + ("validation",) * 3 + ("test",) * 3  # part of each subject

# Per class: mouth curve (1 smile, −1 frown), mouth opening, eye opening, lift and slope of the brows (1: inner ends down).
FEATURES = {
    "anger": (-0.6, 0.0, 0.7, -0.4, 1.0),
    "disgust": (-0.8, 0.25, 0.5, -0.2, 0.6),
    "fear": (-0.3, 0.6, 1.3, 0.6, -0.7),
    "happiness": (1.0, 0.3, 0.8, 0.1, 0.0),
    "sadness": (-1.0, 0.0, 0.7, 0.0, -1.0),
    "surprise": (0.0, 1.0, 1.4, 1.0, 0.0),
    "neutral": (0.0, 0.0, 1.0, 0.0, 0.0),
}


def draw_face(label: str, seed: int, side: int = SIDE) -> np.ndarray:
    """Return a (side, side) uint8 face that wears an expression of `mien.labels.FER2013`; each seed is another face.

    Example:
        >>> draw_face("surprise", 3).shape
        (48, 48)
    """
    random = np.random.default_rng(seed)
    curve, mouth, eye, lift, slope = np.array(FEATURES[label]) + random.normal(0, 0.08, 5)
    n = side * SCALE
    skin, ground, ink = (int(value) for value in (random.integers(150, 230), random.integers(20, 120), random.integers(0, 60)))
    image = Image.new("L", (n, n), ground)
    pen = ImageDraw.Draw(image)
    x, y = n / 2 + random.normal(0, n / 60), n / 2 + random.normal(0, n / 60)
    width, height = n * random.uniform(0.36, 0.42), n * random.uniform(0.44, 0.49)
    pen.ellipse((x - width, y - height, x + width, y + height), fill=skin)
    for sign in (-1, 1):
        ex, ey = x + sign * 0.45 * width, y - 0.22 * height
        rx, ry = 0.17 * width, 0.10 * height * max(eye, 0.2)
        pen.ellipse((ex - rx, ey - ry, ex + rx, ey + ry), fill=245)
        pen.ellipse((ex - ry * 0.7, ey - ry * 0.7, ex + ry * 0.7, ey + ry * 0.7), fill=ink)
        by = ey - height * (0.2 + 0.08 * lift)
        inner, outer = by + 0.06 * height * slope, by - 0.06 * height * slope
        pen.line((ex - sign * 0.22 * width, inner, ex + sign * 0.22 * width, outer), fill=ink, width=n // 32)
    pen.line(
        (x, y - 0.1 * height, x - 0.08 * width, y + 0.15 * height, x + 0.06 * width, y + 0.15 * height),
        fill=skin - 50,
        width=n // 64,
    )
    t = np.linspace(-1, 1, 17)
    upper = y + height * (0.45 + 0.12 * curve * (1 - 2 * t**2) / 2 - 0.12 * max(mouth, 0) * (1 - t**2))
    lower = y + height * (0.45 + 0.12 * curve * (1 - 2 * t**2) / 2 + 0.20 * max(mouth, 0) * (1 - t**2))
    across = x + 0.42 * width * t
    lips = [*zip(across, upper, strict=True), *zip(across[::-1], lower[::-1], strict=True)]
    pen.polygon(lips, fill=ink)
    pen.line(lips, fill=ink, width=n // 48)
    gray = np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float64)
    return np.clip(gray + random.normal(0, 4, gray.shape), 0, 255).astype(np.uint8)


def read(place: Place) -> Dataset:
    """Draw `number` faces, from 1 to 100,000, otherwise DatasetError."""
    text = place.options["number"] or "280"
    if not text.isdigit() or not 0 < int(text) <= 100_000:
        raise DatasetError(f"number must be from 1 to 100000, got {text}", value=text)
    number = int(text)
    rows = [(index % len(LABELS), index // len(LABELS) % SUBJECTS) for index in range(number)]
    images = np.stack([draw_face(LABELS[label], index) for index, (label, _) in enumerate(rows)])
    return Dataset(
        name="",
        labels=LABELS,
        images=Pixels(images, np.arange(number)),
        names=texts(f"{index:05d}" for index in range(number)),
        label=np.array([label for label, _ in rows]),
        part=texts(PARTS[subject] for _, subject in rows),
        subject=texts(f"drawing {subject:02d}" for _, subject in rows),
    )
