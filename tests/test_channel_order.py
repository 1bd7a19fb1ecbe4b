"""How often the check for swapped colors speaks up, rightly and wrongly."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.io.images import face_looks_bgr, looks_bgr


def load(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.shared
def test_portraits(shared: Path) -> None:
    paths = sorted((shared / "data/london/images").glob("*.jpg"))
    images = [load(path) for path in paths]
    assert len(images) == 204
    assert sum(looks_bgr(pixels) for pixels in images) == 0
    assert sum(looks_bgr(pixels[..., ::-1]) for pixels in images) >= 200


@pytest.mark.shared
def test_no_alarm_on_other_photographs(shared: Path) -> None:
    for path in sorted((shared / "data/photos").glob("*.*g")):
        assert not looks_bgr(load(path)), path.name


@pytest.mark.shared
def test_faces(shared: Path) -> None:
    """Boxes around the eyes that the dataset gives: brow to chin, about twice as wide as the eyes are apart."""
    right = wrong = 0
    with (shared / "data/london/labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["eye_x1"]]
    for row in rows:
        x1, y1, x2, y2 = (float(row[f"eye_{axis}"]) for axis in ("x1", "y1", "x2", "y2"))
        apart = np.hypot(x2 - x1, y2 - y1)
        left, top = (x1 + x2) / 2 - apart, (y1 + y2) / 2 - 0.6 * apart
        pixels = load(shared / "data/london" / row["image"])
        crop = pixels[int(top) : int(top + 2.2 * apart), int(left) : int(left + 2 * apart)]
        wrong += face_looks_bgr(crop)
        right += face_looks_bgr(crop[..., ::-1])
    assert len(rows) == 102
    assert wrong == 0
    assert right >= 100


def test_sample(sample: Path) -> None:
    pixels = load(sample)
    face = pixels[60:200, 160:280]
    assert [looks_bgr(pixels), looks_bgr(pixels[..., ::-1])] == [False, True]
    assert [face_looks_bgr(face), face_looks_bgr(face[..., ::-1])] == [False, True]


def test_blue_sky_is_no_alarm() -> None:
    """Hazy and deep blue: both have the color of skin when their order is swapped."""
    sky = np.empty((200, 300, 3), np.uint8)
    for blue in [(140, 165, 200), (70, 120, 190)]:
        sky[:140], sky[140:] = blue, (60, 120, 50)
        assert not looks_bgr(sky)
    assert not looks_bgr(np.full((50, 50, 3), (70, 120, 190), np.uint8))


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 400, 3), (400, 1, 3), (3, 2, 3)])
@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (90, 130, 200), (200, 130, 90)])
def test_tiny_and_flat_images_are_no_alarm(shape: tuple[int, int, int], color: tuple[int, int, int]) -> None:
    pixels = np.full(shape, color, np.uint8)
    assert not looks_bgr(pixels)
    assert face_looks_bgr(pixels) in (False, True)


def test_gray_face_is_no_alarm(sample: Path) -> None:
    gray = load(sample).mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
    assert not looks_bgr(gray)
    assert not face_looks_bgr(gray[60:200, 160:280])
    assert not face_looks_bgr(gray[60:60, 160:280])  # a box beyond the edge of the image
