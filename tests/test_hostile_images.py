"""Files that are no image, corrupt, too large or made to do harm: one SourceError, and nothing else."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from image_files import MEGA, encoded, png
from mien.errors import SourceError
from mien.io.decoding import decode


@pytest.fixture(scope="module")
def photo(sample: Path) -> Image.Image:
    """A small part of the sample photo, face and flag, of unequal sides."""
    with Image.open(sample) as image:
        return image.convert("RGB").crop((120, 0, 360, 160)).resize((60, 40))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 5000,
        b"Dear diary,\n",
        b"\n<!DOCTYPE html><title>404</title>",
        b"<?xml version='1.0'?>\n<svg xmlns='x'></svg>",
        b"%PDF-1.7",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        b"\0\0\0\x18ftypisom\0\0\2\0isomiso2",
        b"PK\3\4....",
        b"\xff\xd8\xff\xe0\0\x10JF",
        b"\x89PNG\r\n\x1a\n\0\0",
        b"\x07\xff\x01\x90",
    ],
)
def test_what_is_no_image_is_named(data: bytes) -> None:
    with pytest.raises(SourceError):
        decode(data, "x", MEGA)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"])
def test_cut_short(photo: Image.Image, kind: str) -> None:
    data = encoded(photo, kind)
    with pytest.raises(SourceError):
        decode(data[: len(data) // 2], "x", MEGA)


def bomb(width: int, height: int) -> bytes:
    """The header of a PNG of this size with next to no data: whoever decodes it finds it damaged."""
    return png(width, height, 1, 0, b"\0" * 10)


@pytest.mark.parametrize("side", [10_001, 13_000, 20_000, 2**31 - 1])
def test_bomb_is_refused_by_its_header(side: int) -> None:
    """Below and above the sizes where Pillow warns (89 megapixels) and raises (178) by itself."""
    with pytest.raises(SourceError):
        decode(bomb(side, side), "x", MEGA)


def test_the_limit_may_exceed_that_of_pillow(monkeypatch: pytest.MonkeyPatch, sample: Path) -> None:
    """Some phones take photos of 200 megapixels; Pillow refuses 179."""
    wanted, _ = decode(sample.read_bytes(), "x", MEGA)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    found, _ = decode(sample.read_bytes(), "x", MEGA)
    assert np.array_equal(found, wanted)


def test_limit_is_exact() -> None:
    data = png(4, 3, 8, 0, (b"\0" + b"\7" * 4) * 3)
    assert decode(data, "x", 12)[0].shape == (3, 4, 3)
    with pytest.raises(SourceError):
        decode(data, "x", 11)


def test_nothing_global_changes_whatever_threads_do(photo: Image.Image) -> None:
    data = encoded(photo, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    before = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    results: list[np.ndarray] = []

    def work() -> None:
        for _ in range(20):
            results.append(decode(data, "x", MEGA)[0])
            with pytest.raises(SourceError):
                decode(data[:100], "x", MEGA)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 160
    assert all((result == results[0]).all() for result in results)
    assert (list(warnings.filters), Image.MAX_IMAGE_PIXELS) == before


FUZZED = ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000", "MPO"]


@pytest.fixture(scope="module")
def originals(photo: Image.Image) -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    small = photo.resize((24, 16))
    many = {"save_all": True, "append_images": [small.rotate(180)]}
    options: dict[str, dict[str, Any]] = {
        "GIF": many,
        "MPO": many,
        "TIFF": {"compression": "tiff_lzw"},
        "PNG": {**many, "exif": exif},
    }
    return {
        kind: encoded(small, kind, **options.get(kind, {"exif": exif} if kind in ("JPEG", "WEBP") else {})) for kind in FUZZED
    }


@given(kind=st.sampled_from(FUZZED), draw=st.data())
def test_mutilated_bytes_give_an_image_or_a_source_error(originals: dict[str, bytes], kind: str, draw: st.DataObject) -> None:
    """Nothing else is raised and nothing is warned about (warnings are errors here)."""
    data = bytearray(originals[kind])
    if draw.draw(st.booleans(), "cut"):
        del data[draw.draw(st.integers(0, len(data) - 1), "length") :]
    for _ in range(draw.draw(st.integers(0, 4), "changes") if data else 0):
        data[draw.draw(st.integers(0, len(data) - 1), "place")] = draw.draw(st.integers(0, 255), "byte")
    try:
        result, notes = decode(bytes(data), "x", 1_000_000)
    except SourceError as refusal:
        assert "\n" not in str(refusal)
    else:
        assert result.dtype == np.uint8
        assert result.ndim == 3
        assert result.shape[2] == 3
        assert all(isinstance(note, str) for note in notes)


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\0", b"RIFF\0\0\0\0WEBPVP8 ", b"BM", b"P5 "):
        try:
            decode(start + data, "x", 1_000_000)
        except SourceError as refusal:
            assert str(refusal).startswith("x ")


@pytest.mark.parametrize("where", ["before the pixels", "after the pixels"])
@pytest.mark.parametrize("kind", ["text", "profile"])
def test_large_metadata_is_not_needed(photo: Image.Image, kind: str, where: str) -> None:
    """Pillow raises for more than 1 MB of compressed text or color profile; other decoders ignore it."""
    data = encoded(photo, "PNG")
    name = b"iCCP" if kind == "profile" else b"zTXt"
    content = name + b"note\0\0" + zlib.compress(b"x" * 1_500_000)
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    place = 33 if where == "before the pixels" else len(data) - 12
    pixels, notes = decode(data[:place] + chunk + data[place:], "x", MEGA)
    assert np.array_equal(pixels, np.asarray(photo)) and not notes
