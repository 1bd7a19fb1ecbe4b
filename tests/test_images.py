"""`read_image`: every kind of source, every refusal."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from mien.errors import SourceError
from mien.io.images import ColorOrderWarning, DecodedImage, name_of, printable, read_image
from mien.io.images import sample as bundled


@pytest.fixture(scope="module")
def pixels(sample: Path) -> np.ndarray:
    with Image.open(sample) as image:
        return np.asarray(image)


def test_bundled_sample(sample: Path) -> None:
    image = read_image(bundled())
    assert bundled() == sample
    assert (image.width, image.height, image.source, image.notes) == (512, 512, str(sample), ())


def test_every_kind_of_source_gives_the_same_pixels(sample: Path, pixels: np.ndarray) -> None:
    data = sample.read_bytes()
    with Image.open(sample) as file:
        sources = [sample, str(sample), data, bytearray(data), memoryview(data), file, pixels]
        images = [read_image(source) for source in sources]
    assert all((image.pixels == pixels).all() for image in images)
    names = [str(sample), str(sample), "<bytes>", "<bytes>", "<bytes>", str(sample), "<array>"]
    assert [image.source for image in images] == names == [name_of(source) for source in sources]


def test_image_is_contiguous_read_only_and_returned_as_it_is(sample: Path) -> None:
    image = read_image(sample)
    assert image.pixels.flags.c_contiguous
    assert not image.pixels.flags.writeable
    assert read_image(image) is image
    assert name_of(image) == image.source


@pytest.mark.parametrize("source", [3, None, 2.5, object(), ["a.jpg"], {"a"}])
def test_other_types_are_a_mistake_of_the_programmer(source: Any) -> None:
    with pytest.raises(TypeError):
        read_image(source)


# ── arrays ──


def test_array_shapes(pixels: np.ndarray) -> None:
    gray = pixels[..., 1]
    for array in (gray, gray[..., None]):
        assert (read_image(array).pixels == gray[..., None]).all()
    rgba = np.dstack([pixels, np.full_like(gray, 255)])
    assert (read_image(rgba).pixels == pixels).all()
    rgba[:8, :, 3] = 0
    assert (read_image(rgba).pixels[:8] == 255).all()
    assert (read_image(pixels[::-2, ::3]).pixels == pixels[::-2, ::3]).all()
    assert read_image(pixels[::-2, ::3]).pixels.flags.c_contiguous


def test_array_types(pixels: np.ndarray) -> None:
    same = [
        pixels.astype(np.uint16) * 257,
        pixels.astype(">u2") * 257,
        pixels / 255.0,
        (pixels / 255.0).astype(np.float32),
        (pixels / 255.0).astype(">f4"),
    ]
    for array in same:
        assert (read_image(array).pixels == pixels).all()
    half = read_image((pixels / 255.0).astype(np.float16)).pixels
    assert np.abs(half.astype(int) - pixels).max() <= 1
    assert (read_image(pixels > 99).pixels == (pixels > 99) * 255).all()


def test_contiguous_uint8_shares_memory_and_stays_writeable(pixels: np.ndarray) -> None:
    array = pixels.copy()
    image = read_image(array)
    assert np.shares_memory(image.pixels, array)
    assert array.flags.writeable
    assert not image.pixels.flags.writeable


def test_floats_are_rounded_and_may_overshoot_by_rounding() -> None:
    assert read_image(np.array([[-1e-7, 0.5, 0.999, 1 + 1e-7]])).pixels[0, :, 0].tolist() == [0, 128, 255, 255]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(5),
        np.zeros((2, 3, 2)),
        np.zeros((2, 4, 4, 3)),
        np.zeros((3, 40, 50)),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0)),
        np.full((2, 2), np.nan),
        np.array([[0.5, np.nan]]),
        np.array([[0.5, np.inf]]),
        np.array([[0.0, 255.0]]),
        np.array([[-1.0, 1.0]]),
        np.zeros((2, 2), np.int64),
        np.zeros((2, 2), np.uint32),
        np.zeros((2, 2), np.int8),
        np.zeros((2, 2), complex),
        np.array([["a"]]),
        np.array([[None]]),
    ],
)
def test_arrays_that_are_refused(array: np.ndarray) -> None:
    with pytest.raises(SourceError):
        read_image(array)


@settings(max_examples=60)
@given(
    arrays.arrays(
        dtype=st.one_of(arrays.scalar_dtypes()),
        shape=arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5),
    )
)
def test_any_array_gives_an_image_or_a_source_error(array: np.ndarray) -> None:
    try:
        image = read_image(array)
    except SourceError:
        return
    assert image.pixels.shape == (*array.shape[:2], 3)
    assert image.pixels.dtype == np.uint8


# ── red and blue swapped ──


def test_bgr_array_is_warned_about_and_noted(pixels: np.ndarray) -> None:
    with pytest.warns(ColorOrderWarning) as caught:
        image = read_image(pixels[..., ::-1])
    assert caught[0].filename == __file__
    assert len(image.notes) == 1
    assert "looks like BGR" in image.notes[0]
    assert (image.pixels == pixels[..., ::-1]).all()


def test_only_color_arrays_are_suspected(pixels: np.ndarray) -> None:
    swapped = Image.fromarray(np.ascontiguousarray(pixels[..., ::-1]))
    file = io.BytesIO()
    swapped.save(file, "PNG")
    assert read_image(pixels).notes == ()
    assert read_image(pixels[..., 0]).notes == ()
    assert read_image(swapped).notes == ()
    assert read_image(file.getvalue()).notes == ()


# ── Pillow images ──


def test_pillow_image_is_read_upright_where_it_stands_and_left_alone(pixels: np.ndarray) -> None:
    small = Image.fromarray(pixels[:40, :60])
    exif = Image.Exif()
    exif[0x0112] = 3
    file = io.BytesIO()
    small.rotate(180).save(file, "WEBP", lossless=True, save_all=True, append_images=[small.transpose(1)], exif=exif)
    with Image.open(file) as image:
        assert (read_image(image).pixels == pixels[:40, :60]).all()
        image.seek(1)
        assert (read_image(image).pixels == pixels[:40, :60][:, ::-1]).all()
        assert image.tell() == 1
        assert image.getexif()[0x0112] == 3


def test_pillow_image_of_any_mode(pixels: np.ndarray) -> None:
    image = Image.fromarray(pixels[:40, :60])
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LA", "PA", "RGBa", "La", "RGBX"):
        via = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, mode)
        converted = image.convert(via).convert(mode)
        expected = image.convert("1" if mode == "1" else "L" if mode in ("L", "LA", "La") else "RGB").convert("RGB")
        tolerance = 25 if mode in ("P", "PA") else 4
        assert np.abs(read_image(converted).pixels.astype(int) - np.asarray(expected)).mean() < tolerance, mode


def test_closed_pillow_image(sample: Path) -> None:
    with Image.open(sample) as image:
        pass
    with pytest.raises(SourceError):
        read_image(image)


# ── files ──


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "IMG_2041.JPG").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SourceError):
        read_image(tmp_path / "img_2014.jpg")
    with pytest.raises(SourceError):
        read_image(tmp_path / "zzz")
    with pytest.raises(SourceError):
        read_image(tmp_path / "nowhere" / "a.jpg")
    with pytest.raises(SourceError):
        read_image(tmp_path / "notes.txt" / "a.jpg")
    (tmp_path / "link.jpg").symlink_to("gone.jpg")
    with pytest.raises(SourceError, match=r"links to gone\.jpg"):
        read_image(tmp_path / "link.jpg")


def test_what_is_no_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.jpg"
    os.mkfifo(fifo)
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    for source in (tmp_path, fifo, "/dev/zero", loop, "a\0b", "x" * 5000, "\ud800", ""):
        with pytest.raises(SourceError) as refusal:
            read_image(source)
        assert len(str(refusal.value)) < 400


def test_empty_and_wrong_files(tmp_path: Path) -> None:
    for content in (b"", b"\0" * 99, b"hello"):
        path = tmp_path / "holiday.jpg"
        path.write_bytes(content)
        with pytest.raises(SourceError) as refusal:
            read_image(path)
        assert str(refusal.value).startswith(str(path))


@contextmanager
def without_privileges() -> Iterator[None]:
    """Give up the root user's right to read everything, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_forbidden_file(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.png"
    path.write_bytes(sample.read_bytes())
    path.chmod(0)
    for folder in [tmp_path, *tmp_path.parents][:3]:  # pytest closes its folders to other users
        folder.chmod(0o755)
    with without_privileges(), pytest.raises(SourceError):
        read_image(path)


@pytest.mark.parametrize("name", [b"caf\xe9.png", "naïve 日本 😀.png".encode(), b"line\nbreak.png", b"-n.png", b"[a]*.png"])
def test_any_file_name_is_read_and_printable(sample: Path, tmp_path: Path, name: bytes) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_bytes(sample.read_bytes())
    image = read_image(path)
    assert image.width == 512
    image.source.encode("utf-8")
    assert image.source.isprintable()
    assert printable(name) == image.source.rpartition("/")[2]


@settings(max_examples=40)
@given(st.text("aé日😀\ud800\udce9\n\x1b*[]:%~ ", min_size=1, max_size=40))
def test_any_text_as_a_path(name: str) -> None:
    with pytest.raises(SourceError):
        read_image(f"/nowhere/{name}")


# ── limits ──


def test_limits(sample: Path, pixels: np.ndarray) -> None:
    size = sample.stat().st_size
    data = sample.read_bytes()
    for source in (sample, data):
        assert read_image(source, max_bytes=size, max_pixels=512 * 512).width == 512
        with pytest.raises(SourceError):
            read_image(source, max_bytes=size - 1)
    with Image.open(sample) as image:
        for source in (sample, data, pixels, image):
            with pytest.raises(SourceError):
                read_image(source, max_pixels=512 * 512 - 1)


def test_a_whole_bomb_is_refused_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    body = zlib.compress(bytes(20_000 * (1 + 20_000 // 8)), 1)
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    png = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png))
    assert path.stat().st_size < 300_000
    with warnings.catch_warnings(record=True) as caught, pytest.raises(SourceError):
        warnings.simplefilter("always")
        read_image(path)
    assert not caught


def test_image_compares_by_identity(sample: Path) -> None:
    one, two = read_image(sample), read_image(sample)
    assert one == one
    assert one != two
    assert isinstance(one, DecodedImage)
