"""Animations, pages and numbered images as videos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mien.inference.recognizer import load
from mien.io.image_sequences import are_numbered, is_animation
from mien.io.sources import Frame, iter_images
from mien.io.video import Sampling

COUNT = 5


@pytest.fixture
def faces(sample: Path) -> list[Image.Image]:
    photo = Image.open(sample).convert("RGB").resize((256, 256))
    return [photo.rotate(2 * number) for number in range(COUNT)]


def save(path: Path, images: list[Image.Image], **options: Any) -> Path:
    images[0].save(path, save_all=True, append_images=images[1:], **options)
    return path


def read(source: Any, **options: Any) -> list[Frame]:
    found = list(iter_images(source, sampling=Sampling(**options), animations=True))
    assert all(frame.error is None for frame in found), found
    return found


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.avif"])
def test_an_animation_has_times(name: str, faces: list[Image.Image], tmp_path: Path) -> None:
    path = save(tmp_path / name, faces, duration=[100, 200, 100, 100, 100])
    assert is_animation(path) and is_animation(path.read_bytes())
    frames = read(path)
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.3, 0.4, 0.5])
    assert np.abs(frames[3].image.pixels.astype(int) - np.asarray(faces[3])).mean() < 12  # pyrefly: ignore
    assert [frame.time for frame in read(path, fps=5)] == pytest.approx([0, 0.3, 0.4])
    assert [frame.index for frame in read(path, every=2)] == [0, 2, 4]
    (still,) = iter_images(path)
    assert still.time is None and still.image is not None and still.image.notes


def test_a_still_image_is_no_animation(faces: list[Image.Image], tmp_path: Path) -> None:
    for name in ("a.gif", "a.png", "a.webp", "a.tif", "a.jpg"):
        faces[0].save(tmp_path / name)
        assert not is_animation(tmp_path / name)
    assert [frame.time for frame in read(tmp_path)] == [None] * 5
    os.mkfifo(tmp_path / "pipe.gif")
    for other in ("missing.gif", "pipe.gif"):
        assert not is_animation(tmp_path / other)
    assert not is_animation(b"GIF89a")


def test_pages_of_a_tiff(faces: list[Image.Image], tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", faces)
    frames = read(path)
    assert [frame.time for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.image.notes for frame in frames] == [(f"page {number}",) for number in range(1, 6)]  # pyrefly: ignore
    assert [frame.time for frame in read(path, fps=25)] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])


def test_numbered_images_with_a_frame_rate(faces: list[Image.Image], tmp_path: Path) -> None:
    for number, face in enumerate(faces):
        face.save(tmp_path / f"frame_{number + 8}.png")
    files = [str(tmp_path / f"frame_{number + 8}.png") for number in range(COUNT)]
    for source in (tmp_path, str(tmp_path / "*.png"), files):
        frames = read(source, fps=25)
        assert [frame.time for frame in frames] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
        assert len({frame.source for frame in frames}) == 1
        assert frames[2].image is not None and np.array_equal(frames[2].image.pixels, np.asarray(faces[2]))
    assert [frame.time for frame in read(tmp_path)] == [None] * COUNT
    assert [frame.time for frame in read(tmp_path, fps=25, start=0.1)] == pytest.approx([0.12, 0.16])
    (tmp_path / "notes.txt").touch()
    assert len({frame.source for frame in read(tmp_path, fps=25)}) == 1
    faces[0].save(tmp_path / "cover.png")
    assert [frame.time for frame in read(tmp_path, fps=25)] == [None] * (COUNT + 1)


def test_are_numbered() -> None:
    assert are_numbered(["a/7.png", "a/8.png"]) and are_numbered(["f001b.png", "f002b.png"])
    assert not are_numbered(["1.png"]) and not are_numbered(["a/1.png", "b/2.png"]) and not are_numbered(["1.png", "2.mp4"])


def test_faces_of_an_animation_are_tracked(faces: list[Image.Image], tmp_path: Path) -> None:
    path = save(tmp_path / "a.gif", faces, duration=40)
    results = [result for _, result in load().stream(path)]
    assert [result.frame for result in results] == list(range(COUNT))
    assert [[face.track for face in result.faces] for result in results] == [[1]] * COUNT


def test_a_corrupt_frame_ends_an_animation_with_an_error(faces: list[Image.Image], tmp_path: Path) -> None:
    path = save(tmp_path / "a.webp", faces)
    path.write_bytes(path.read_bytes()[:-2000])
    *_, last = iter_images(path, sampling=Sampling(), animations=True)
    assert last.error is not None
