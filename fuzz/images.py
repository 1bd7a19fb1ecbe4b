"""Image files of every format that is read."""

from __future__ import annotations

import io
from collections.abc import Iterator

from PIL import Image

import mien
from mien.io.images import read_image

MAX_PIXELS = 1 << 18


def target(data: bytes) -> None:
    """Decode an image."""
    image = read_image(data, max_pixels=MAX_PIXELS)
    assert image.pixels.ndim == 3 and image.pixels.shape[2] == 3 and image.pixels.dtype == "uint8"
    assert image.width * image.height <= MAX_PIXELS


def seeds() -> Iterator[bytes]:
    """Yield the face of the bundled photo, tiny, in every format and mode."""
    face = Image.open(mien.sample()).convert("RGB").crop((160, 40, 280, 200)).resize((12, 16))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "description"
    gray = face.convert("L")
    kinds = [
        (face, "PNG", {}), (face.convert("P"), "PNG", {"transparency": 0}), (face.convert("RGBA"), "PNG", {"exif": exif}),
        (gray.convert("I;16"), "PNG", {}), (face.convert("1"), "PNG", {}), (gray.convert("LA"), "PNG", {}),
        (face, "PNG", {"save_all": True, "append_images": [gray.convert("RGB")]}), (face, "JPEG", {"quality": 50}),
        (face, "JPEG", {"progressive": True, "quality": 50}), (face, "JPEG", {"exif": exif, "quality": 50}),
        (face.convert("CMYK"), "JPEG", {"quality": 50}), (gray, "JPEG", {}), (face, "GIF", {}),
        (face, "MPO", {"save_all": True, "append_images": [face]}),
        (face, "GIF", {"save_all": True, "append_images": [gray.convert("RGB")], "transparency": 3}),
        (face, "WEBP", {"quality": 40}), (face.convert("RGBA"), "WEBP", {"lossless": True}),
        (face, "TIFF", {}), (face, "TIFF", {"compression": "tiff_lzw"}), (face, "TIFF", {"compression": "jpeg"}),
        (gray.convert("I;16"), "TIFF", {}), (gray.convert("F"), "TIFF", {}), (gray.convert("I"), "TIFF", {}),
        (face.convert("1"), "TIFF", {"compression": "group4"}), (face, "BMP", {}),
        (gray, "BMP", {}), (face, "PPM", {}), (gray, "PPM", {}), (face.convert("1"), "PPM", {}),
        (face, "JPEG2000", {}), (face, "AVIF", {"quality": 30}),
    ]  # fmt: skip
    for image, form, options in kinds:
        file = io.BytesIO()
        try:
            image.save(file, form, **options)
        except (KeyError, OSError):  # a Pillow built without this format
            continue
        yield file.getvalue()
    yield from (b"P2\n2 2\n255\n0 1 2 3\n", b"P1\n2 2\n0 1 1 0\n")
    yield from (b"P6 2 1 65535\n" + bytes(12), b"Pf\n1 1\n-1.0\n" + bytes(4))
