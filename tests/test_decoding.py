"""Every kind of image file: the right pixels, or one SourceError."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms

from image_files import MEGA, encoded, png
from mien.errors import SourceError
from mien.io.decoding import FORMATS, PLUGINS, TRUNCATED, decode


@pytest.fixture(scope="module")
def photo(sample: Path) -> Image.Image:
    """A small part of the sample photo, face and flag, of unequal sides."""
    with Image.open(sample) as image:
        return image.convert("RGB").crop((120, 0, 360, 160)).resize((60, 40))


def pixels(data: bytes) -> np.ndarray:
    result, _ = decode(data, "x", MEGA)
    assert result.dtype == np.uint8
    assert result.ndim == 3
    assert result.shape[2] == 3
    assert result.flags.c_contiguous
    return result


def error(a: np.ndarray, b: Any) -> float:
    """Mean absolute difference, which also fails on different shapes."""
    b = np.asarray(b)
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def gray(photo: Image.Image) -> np.ndarray:
    return np.asarray(photo.convert("L"))


def as_rgb(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


LOSSLESS = {
    "png": {"format": "PNG"},
    "bmp": {"format": "BMP"},
    "ppm": {"format": "PPM"},
    "tiff": {"format": "TIFF"},
    "tiff lzw": {"format": "TIFF", "compression": "tiff_lzw"},
    "webp": {"format": "WEBP", "lossless": True},
    "jpeg2000": {"format": "JPEG2000"},
}


@pytest.mark.parametrize("options", LOSSLESS.values(), ids=LOSSLESS)
def test_lossless_color(photo: Image.Image, options: dict[str, Any]) -> None:
    options = dict(options)
    assert error(pixels(encoded(photo, options.pop("format"), **options)), photo) == 0


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_lossy_color(photo: Image.Image, kind: str) -> None:
    if kind == "AVIF" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow has no AVIF")
    assert error(pixels(encoded(photo, kind, quality=95)), photo) < 4


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_color_spaces(photo: Image.Image, kind: str, mode: str) -> None:
    """Pillow writes CMYK JPEG as Adobe does, inverted: read as it stands it would be a negative."""
    options = {"quality": 95} if kind == "JPEG" else {}
    data = encoded(photo.convert(mode), kind, **options)
    if (kind, mode) == ("TIFF", "YCbCr") and int(PIL.__version__.partition(".")[0]) < 13:
        with pytest.raises(SourceError):  # older ones do not read what they write
            pixels(data)
    else:
        assert error(pixels(data), photo) < 4


def test_lab(photo: Image.Image) -> None:
    lab = ImageCms.profileToProfile(photo, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB")
    assert lab is not None
    assert error(pixels(encoded(lab, "TIFF")), photo) < 2


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "PPM", "BMP"])
def test_gray(photo: Image.Image, kind: str) -> None:
    assert error(pixels(encoded(photo.convert("L"), kind)), as_rgb(gray(photo))) < 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
def test_one_bit(photo: Image.Image, kind: str) -> None:
    bits = photo.convert("1")
    assert error(pixels(encoded(bits, kind)), bits.convert("RGB")) == 0


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_palette(photo: Image.Image, kind: str) -> None:
    palette = photo.quantize(64)
    assert error(pixels(encoded(palette, kind)), palette.convert("RGB")) == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_lies_over_white(photo: Image.Image, mode: str) -> None:
    alpha = np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1))
    image = photo.convert(mode)
    image.putalpha(Image.fromarray(alpha))
    share = alpha[..., None] / 255
    color = np.asarray(photo) if mode == "RGBA" else as_rgb(gray(photo))
    got = pixels(encoded(image, "PNG"))
    assert error(got, color * share + 255 * (1 - share)) < 1
    assert (got[:, 0] == 255).all()


@pytest.mark.parametrize("transparency", [0, bytes([0, 128])], ids=["one color", "share of each color"])
def test_palette_with_transparency_lies_over_white(transparency: int | bytes) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 100, 0])
    got = pixels(encoded(image, "PNG", transparency=transparency))
    half = [227, 127, 127] if isinstance(transparency, bytes) else [200, 0, 0]
    assert error(got, [[[255, 255, 255], half, [0, 100, 0]]]) < 1


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_transparent_color_lies_over_white(mode: str) -> None:
    image = Image.new(mode, (2, 1), "black")
    image.putpixel((1, 0), (9, 9, 9) if mode == "RGB" else 9)
    got = pixels(encoded(image, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0))
    assert got.tolist() == [[[255] * 3, [9] * 3]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bit_gray(photo: Image.Image, kind: str) -> None:
    """v · 257 in 16 bits is exactly v in 8."""
    image = Image.fromarray(gray(photo).astype(np.uint16) * 257)
    if kind == "PPM":
        image = image.convert("I")
    assert error(pixels(encoded(image, kind)), as_rgb(gray(photo))) == 0


def test_16_bit_gray_of_the_other_byte_order(photo: Image.Image) -> None:
    image = Image.frombytes("I;16B", photo.size, (gray(photo).astype(">u2") * 257).tobytes())
    assert error(pixels(encoded(image, "TIFF")), as_rgb(gray(photo))) == 0


def test_dark_16_bit_gray_is_not_stretched() -> None:
    for value, seen in [(100, 0), (200, 1), (300, 1)]:
        image = Image.fromarray(np.full((4, 4), value, np.uint16))
        assert (pixels(encoded(image, "PNG")) == seen).all()
        assert (pixels(b"P5 4 4 65535\n" + np.full(16, value, ">u2").tobytes()) == seen).all()


def test_16_bit_color_png() -> None:
    raw = b"\0" + struct.pack(">6H", 257 * 10, 257 * 20, 257 * 30, 65535, 0, 257)
    assert pixels(png(2, 1, 16, 2, raw)).tolist() == [[[10, 20, 30], [255, 0, 1]]]


def test_12_bit_tiff_uses_its_own_range() -> None:
    values = [0, 2048, 4095, 1024]
    packed = bytes([0x00, 0x08, 0x00, 0xFF, 0xF4, 0x00])
    entries = [
        (256, 4, 4),
        (257, 4, 1),
        (258, 3, 12),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, 1),
        (279, 4, 6),
    ]
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack("<HHI", tag, kind, 1) + (
            struct.pack("<HH", value, 0) if kind == 3 else struct.pack("<I", value)
        )
    data = b"II*\0" + struct.pack("<I", 14) + packed + directory + b"\0" * 4
    assert pixels(data)[0, :, 0].tolist() == [round(value * 255 / 4095) for value in values]


@pytest.mark.parametrize("top", [1, 255, 65535])
def test_float_tiff_of_the_usual_ranges(photo: Image.Image, top: int) -> None:
    values = gray(photo).astype(np.float32)
    values *= top / values.max()
    expected = as_rgb(np.round(values * 255.0 / top))
    assert error(pixels(encoded(Image.fromarray(values), "TIFF")), expected) < 0.01


@pytest.mark.parametrize("top", [255, 65535])
def test_32_bit_integer_tiff_of_the_usual_ranges(photo: Image.Image, top: int) -> None:
    values = (gray(photo).astype(np.int64) * top // gray(photo).max()).astype(np.int32)
    assert error(pixels(encoded(Image.fromarray(values), "TIFF")), as_rgb(values * 255.0 / top)) < 0.5


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 1e6])
def test_float_tiff_of_no_usual_range_is_refused(value: float) -> None:
    with pytest.raises(SourceError):
        pixels(encoded(Image.fromarray(np.array([[0.5, value]], np.float32)), "TIFF"))


TURNED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright.swapaxes(0, 1)[::-1, ::-1],
    8: lambda upright: np.rot90(upright, -1),
}
"""How a camera that writes this orientation stores an upright image (EXIF 2.3, table 6)."""


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_every_exif_orientation_gives_the_upright_image(photo: Image.Image, orientation: int, kind: str) -> None:
    upright = np.asarray(photo)
    stored = Image.fromarray(np.ascontiguousarray(TURNED[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    assert error(pixels(encoded(stored, kind, exif=exif, **options)), upright) == 0


@pytest.mark.parametrize("orientation", TURNED)
def test_every_exif_orientation_of_a_jpeg(photo: Image.Image, orientation: int) -> None:
    stored = Image.fromarray(np.ascontiguousarray(TURNED[orientation](np.asarray(photo))))
    exif = Image.Exif()
    exif[0x0112] = orientation
    as_stored = pixels(encoded(stored, "JPEG"))
    upright = pixels(encoded(stored, "JPEG", exif=exif))
    assert error(TURNED[orientation](upright), as_stored) == 0
    assert error(upright, photo) < 6


BROKEN_EXIF = [
    b"Exif\0\0garbage",
    b"Exif\0\0MM\0*\0",
    b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3",
]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", BROKEN_EXIF)
def test_damaged_exif_costs_nothing(photo: Image.Image, kind: str, exif: bytes) -> None:
    assert error(pixels(encoded(photo, kind, exif=exif)), pixels(encoded(photo, kind))) == 0


def frames(photo: Image.Image) -> list[Image.Image]:
    return [photo.rotate(90 * turn) for turn in range(3)]


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        ("GIF", "first of several frames"),
        ("WEBP", "first of 3 frames"),
        ("PNG", "first of 3 frames"),
        ("TIFF", "first of several pages"),
    ],
)
def test_first_frame_is_read_and_said(photo: Image.Image, kind: str, note: str) -> None:
    first, *rest = frames(photo)
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=rest, **options)
    result, notes = decode(data, "x", MEGA)
    assert error(result, photo) < (12 if kind == "GIF" else 0.001)
    assert notes == (note,)
    assert decode(encoded(first, kind, **options), "x", MEGA)[1] == ()


def test_the_second_image_of_a_phone_is_no_frame(photo: Image.Image) -> None:
    data = encoded(photo, "MPO", save_all=True, append_images=frames(photo)[1:])
    result, notes = decode(data, "x", MEGA)
    assert error(result, photo) < 6
    assert notes == ()


def test_damage_after_the_first_frame_costs_nothing(photo: Image.Image) -> None:
    first, *rest = frames(photo)
    data = encoded(first, "GIF", save_all=True, append_images=rest)
    whole = pixels(data)
    for length in range(len(data) * 3 // 4, len(data), 7):
        assert error(pixels(data[:length]), whole) == 0
    for place in range(len(data) * 3 // 4, len(data), 7):
        assert error(pixels(data[:place] + b"\0" + data[place + 1 :]), whole) == 0
    second = data.index(b"\x21\xf9\x04")  # its control block; the first frame has none
    result, notes = decode(data[: second + 5], "x", MEGA)
    assert error(result, whole) == 0
    assert notes == ("first of several frames",)


def test_one_pixel() -> None:
    assert pixels(encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "PPM"])
def test_truncated_files_are_read_on_request(photo: Image.Image, kind: str) -> None:
    data = encoded(photo, kind)
    pixels, notes = decode(data[: len(data) * 3 // 4], "x", MEGA, truncated=True)
    top = pixels.shape[0] // 5
    assert notes == (TRUNCATED,) and pixels.shape == np.asarray(photo).shape
    assert np.abs(pixels[:top].astype(int) - np.asarray(photo)[:top]).mean() < 12
    assert decode(data, "x", MEGA, truncated=True)[1] == ()


@pytest.mark.parametrize("kind", ["HEIF", "JXL"])
def test_formats_of_plugins(photo: Image.Image, kind: str) -> None:
    module = pytest.importorskip(PLUGINS[kind][0], reason="needs mien[heif]")
    if kind == "HEIF":
        module.register_heif_opener()
    pixels, notes = decode(encoded(photo, kind, quality=90), "x", MEGA)
    assert notes == () and np.abs(pixels.astype(int) - np.asarray(photo)).mean() < 6


def test_a_missing_plugin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.io.decoding._plugin", lambda kind: False)
    with pytest.raises(SourceError) as caught:
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "x", MEGA)
    assert caught.value.value == "HEIF"


@pytest.mark.parametrize("size", [(1, 1), (30_000, 10), (10, 30_000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP"])
def test_extreme_sizes(size: tuple[int, int], kind: str) -> None:
    pixels, _ = decode(encoded(Image.new("RGB", size, (90, 60, 30)), kind), "x", MEGA)
    assert pixels.shape == (size[1], size[0], 3)


def test_formats_are_known_to_pillow() -> None:
    Image.init()
    known = Image.registered_extensions()
    for name, extensions in FORMATS.items():
        for extension in extensions:
            assert known.get(extension, name) in (name, "MPO"), extension
