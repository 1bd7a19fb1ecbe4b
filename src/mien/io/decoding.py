"""Decode image files and Pillow images to upright 8-bit RGB.

    EXIF orientation   applied, all eight values
    alpha, PA, tRNS    composited over white, as browsers show it; the color under full transparency is arbitrary
    16-bit gray        scaled from 0 … 65535 (12-bit TIFF: 0 … 4095), never stretched to the range in use
    32-bit int, float  scaled from the first common range that contains all values: 0 … 1 (float), 0 … 255, 0 … 65535
    CMYK, YCbCr, LAB   converted; color profiles are not applied
    animations, pages  the first frame with a note (all of them: `mien.io.image_sequences`)
    truncated          raises, or with `truncated=True` the missing part is filled and a note added
    metadata           never required: a PNG with oversized or corrupt ancillary chunks is decoded without them

Global state is unchanged: `PIL.Image.MAX_IMAGE_PIXELS` does not apply, `PIL.ImageFile.LOAD_TRUNCATED_IMAGES` is not set.
"""

import functools
import importlib
import io
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from ..errors import SourceError

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "PPM": (".pgm", ".ppm", ".pbm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpx", ".jpf"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".hif"),
    "JXL": (".jxl",),
}
"""Supported formats by Pillow's name, with their file extensions. Formats that start other programs are excluded."""

EXTENSIONS = frozenset(extension for known in FORMATS.values() for extension in known)
"""Extensions of image files; the one list of every reader."""

PLUGINS = {"HEIF": ("pillow_heif", "pillow-heif"), "JXL": ("pillow_jxl", "pillow-jxl-plugin")}
"""Format → module and package of the Pillow plugin that decodes it, both in the extra `heif`."""

_PLUGIN_SIGNATURES = {
    "HEIF": rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1|mif2)",
    "JXL": rb"\xff\x0a|\0\0\0\x0cJXL ",
}

_COMMON = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n"}  # format → first bytes of its files

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_SIGNATURES = [
    (
        rb"\xff\xd8\xff|\x89PNG|GIF8|RIFF....WEBP|....ftypavi[fs]|II\*\0|MM\0\*|BM",
        "an image with an invalid header, or of a kind that this Pillow was built without",
    ),
    (rb"....ftyp(?:hei|hev|mif1|msf1)", "a HEIC image with an invalid header"),
    (rb"....ftyp|RIFF....AVI|\x1aE\xdf\xa3", "a video"),
    (rb"%PDF", "a PDF document"),
    (rb"8BPS", "a Photoshop document; export it as JPEG or PNG"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive; unpack it first"),
    (rb"(?i:\s*(?:<!doctype html|<html))", "a web page, not an image"),
    (rb"(?is:\s*<(?:\?xml.{0,400}<)?svg)", "an SVG drawing; export it as PNG"),
    (rb".{257}ustar", "a tar archive; unpack it, or use mien batch"),
    (rb"\0+\Z", "zero bytes only"),
    (rb"[\t\n\r\x20-\x7e]+\Z", "text"),
]
"""First bytes of files that are often mistaken for supported images, and their description."""


def decode(data: bytes, name: str, max_pixels: int, *, truncated: bool = False) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Decode the content of an image file: (H, W, 3) contiguous uint8 RGB, upright, and notes such as `"first of 12 frames"`.

    `name` is for messages, `max_pixels` the limit of width × height, checked before any pixel is decoded; with `truncated` as
    much is decoded as there is of a truncated file. Raises SourceError: not an image, corrupt, truncated, too large, or with
    values of unknown range.
    """
    try:
        return _decode(data, name, max_pixels)
    except SourceError as error:
        if error.expected is not None:  # Too large.
            raise
        failure = error
    if (stripped := _without_ancillary(data)) != data:
        with suppress(SourceError):
            return _decode(stripped, name, max_pixels)
    if truncated and data:
        with suppress(SourceError):
            pixels, notes = _decode(_completed(stripped, max_pixels), name, max_pixels)
            return pixels, (*notes, TRUNCATED)
    raise failure


TRUNCATED = "the file is truncated: the missing part of the image is filled"
"""Note of an image that was decoded from a truncated file."""


def open_image(data: bytes, name: str) -> Image.Image:
    """Return a Pillow image, not decoded yet.

    Raises SourceError: not an image, or of a format whose plugin is not installed.
    """
    if not data:
        raise SourceError(f"{name} is empty (0 bytes); download or export it again", path=name)
    formats = _formats(data, name)
    with _quiet():
        try:
            try:
                return Image.open(io.BytesIO(data), formats=formats)
            except Image.DecompressionBombError:
                return _open_large(data, formats)
        except UnidentifiedImageError:
            kind = next((what for sign, what in _SIGNATURES if re.match(sign, data[:4096], re.DOTALL)), "of an unknown format")
            raise SourceError(f"{name} cannot be read as an image: it is {kind}", path=name) from None
        except Exception as error:  # Decoders raise whatever arbitrary bytes lead to.
            raise _refusal(name, error) from error


def _open_large(data: bytes, formats: Sequence[str]) -> Image.Image:
    """Open an image above Pillow's limit of pixels like `Image.open`; `check_size` applies the limit of the caller."""
    for kind in formats:
        factory, accepts = Image.OPEN[kind]
        if accepts is None or accepts(data[:16]) is True:
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # how plugins reject a file
                return factory(io.BytesIO(data), "")  # pyrefly: ignore - plugins take file objects
    raise UnidentifiedImageError


def _decode(data: bytes, name: str, max_pixels: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    with open_image(data, name) as image:
        return from_pillow(image, name, max_pixels), _first_of_many(image)


def from_pillow(image: Image.Image, name: str, max_pixels: int) -> NDArray[np.uint8]:
    """Return the current frame of a Pillow image as (H, W, 3) contiguous uint8 RGB, upright.

    The image is loaded if necessary and otherwise unchanged. Raises SourceError: as for `decode`.
    """
    width, height = image.size
    check_size(width, height, name, max_pixels)
    with _quiet():
        try:
            image.load()
            turn = _TURNS.get(_orientation(image))
            rgb = _to_rgb(image, name)
            return np.ascontiguousarray(rgb if turn is None else rgb.transpose(turn))
        except SourceError:
            raise
        except Exception as error:  # As in `open_image`.
            raise _refusal(name, error) from error


def _formats(data: bytes, name: str) -> list[str]:
    """Return the formats to try: Pillow's own, and the one of a plugin if the first bytes are its signature."""
    for kind, signature in _PLUGIN_SIGNATURES.items():
        if re.match(signature, data[:16], re.DOTALL):
            if not _plugin(kind):
                package = PLUGINS[kind][1]
                message = f"{name} is a {kind} image, which needs {package}; install it with: pip install 'mien[heif]'"
                raise SourceError(message, path=name, value=kind)
            return [kind]
    for kind, start in _COMMON.items():
        if data.startswith(start):
            Image.preinit()  # five plugins; the others take as long to import as numpy
            return [kind]
    return _known_formats()


@functools.cache
def _known_formats() -> list[str]:
    Image.init()
    return [kind for kind in FORMATS if kind in Image.OPEN and kind not in PLUGINS]


@functools.cache
def _plugin(kind: str) -> bool:
    """Register the plugin of a format with Pillow, or return that it is not installed."""
    if kind not in Image.OPEN:
        try:
            module = importlib.import_module(PLUGINS[kind][0])
        except ImportError:
            return False
        if kind == "HEIF":
            module.register_heif_opener()
    return kind in Image.OPEN


def _png_chunks(data: bytes) -> Generator[tuple[bytes, bytes, bool]]:
    """Yield type, content and whether it is complete of each chunk of a PNG file."""
    place = 8
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        yield kind, data[place + 8 : place + 8 + length], place + 12 + length <= len(data)
        place += 12 + length


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


_PNG = b"\x89PNG\r\n\x1a\n"
_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT")


def _without_ancillary(data: bytes) -> bytes:
    """Return a PNG without text, profiles and other chunks that no pixel depends on; other data as it is.

    Pillow raises for text and profiles above 1 MB and for wrong checksums of any chunk; other decoders ignore both.
    """
    if not data.startswith(_PNG):
        return data
    parts, place = [_PNG], 8
    for kind, content, complete in _png_chunks(data):
        end = place + 12 + len(content)
        if kind in _KEPT:
            parts.append(data[place:end])
        elif kind == b"eXIf" and complete:
            parts.append(_chunk(kind, content))
        place = end
    return b"".join(parts)


def _completed(data: bytes, max_pixels: int) -> bytes:
    """Return a truncated file padded so that its decoder reaches the end."""
    if data.startswith(b"\xff\xd8\xff"):
        return data + b"\xff\xd9"  # libjpeg fills the rest with gray.
    if not data.startswith(_PNG):
        return data + bytes(min(max(4 * len(data), 1 << 20), 1 << 28))  # Uncompressed formats: black.
    before, content, header = [], b"", b""
    for kind, part, complete in _png_chunks(data):
        if kind == b"IDAT":
            content += part
        elif kind in (b"IHDR", b"PLTE", b"tRNS") and complete:
            before.append(_chunk(kind, part))
            header = header or part[:13]
    if len(header) < 13:
        return data
    width, height, depth, color, *_, interlaced = struct.unpack(">IIBBBBB", header)
    if width * height > max_pixels:
        return data
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 4)
    size = (width * bits + 7) // 8 * height + height
    size = min(size + (8 * (width + height) + 64) * interlaced, 1 << 29)  # The rows of the seven passes are filled up to bytes.
    pixels = b""
    with suppress(zlib.error):
        pixels = zlib.decompressobj().decompress(content, size)
    padded = pixels.ljust(size, b"\0")
    return _PNG + b"".join(before) + _chunk(b"IDAT", zlib.compress(padded, 1)) + _chunk(b"IEND", b"")


def check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    """Raise SourceError for an image without pixels or with more than `max_pixels`."""
    if width < 1 or height < 1:
        raise SourceError(f"{name} has no pixels: its size is {width} × {height}; export it again", path=name)
    if width * height > max_pixels:
        size = f"{width} × {height} = {width * height:,} pixels"
        message = f"{name} has {size}, more than the limit of {max_pixels:,}; reduce it or raise max_pixels"
        raise SourceError(message, path=name, value=width * height, expected=max_pixels)


def to_8_bit(values: NDArray[np.integer], top: int) -> NDArray[np.uint8]:
    """Scale integers in 0 … `top`, of any shape, to 0 … 255, rounding to the nearest."""
    return ((values.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Corrupt metadata is ignored.
        return 1


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(258)  # BitsPerSample of a TIFF
        return Image.fromarray(to_8_bit(np.asarray(image), 4095 if bits in (12, (12,)) else 65535)).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_from_32_bit(image, name)).convert("RGB")
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = (ImageCms.ImageCmsProfile(ImageCms.createProfile(space)) for space in ("LAB", "sRGB"))
        return cast(Image.Image, ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"))
    if image.has_transparency_data and image.mode not in ("CMYK", "YCbCr", "HSV"):
        solid = image.convert("LA") if image.mode == "La" else image
        solid = solid.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", solid.size, "white"), solid).convert("RGB")
    return image.convert("RGB")


def _from_32_bit(image: Image.Image, name: str) -> NDArray[np.uint8]:
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.format in ("PNG", "PPM"):
        tops: tuple[int, ...] = (65535,)  # Both formats are 16-bit here; Pillow has no such mode for them.
    else:
        tops = (1, 255, 65535) if image.mode == "F" else (255, 65535)
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is None:  # Also for NaN.
        message = f"{name} has values from {low:g} to {high:g}, an unknown range; scale it to 0 … 255 and save it with 8 bits"
        raise SourceError(message, path=name, value=(float(low), float(high)))
    return (values.astype(np.float64) * (255 / top) + 0.5).astype(np.uint8)


def _first_of_many(image: Image.Image) -> tuple[str, ...]:
    what = "pages" if image.format == "TIFF" else "frames"
    try:
        if image.format in ("MPO", "HEIF") or not getattr(image, "is_animated", False):
            return ()  # The further images of a phone's MPO or HEIC are depth or gain maps and thumbnails.
        # The headers of GIF and TIFF do not contain the number, and counting a hostile one takes minutes.
        count = "several" if image.format in ("GIF", "TIFF") else getattr(image, "n_frames", "several")
    except Exception:  # The first frame was decoded, a later one is corrupt.
        count = "several"
    return (f"first of {count} {what}",)


def _refusal(name: str, error: Exception) -> SourceError:
    if isinstance(error, (Image.DecompressionBombError, MemoryError)):
        message = f"{name} is too large to be decoded safely ({str(error) or 'out of memory'}); reduce it"
        return SourceError(message, path=name, expected=2 * (Image.MAX_IMAGE_PIXELS or 0))
    reason = str(error) or type(error).__name__
    return SourceError(f"{name} is corrupt or truncated ({reason}); download or export it again", path=name, value=reason)


_QUIET = r"PIL\.(?#while mien decodes)"
_lock = threading.Lock()
_decoding = 0


@contextmanager
def _quiet() -> Generator[None]:
    """Suppress Pillow's warnings about corrupt metadata while any thread decodes.

    `warnings.catch_warnings` would restore a saved list of filters and undo what other threads did in the meantime. This adds
    and removes one filter for Pillow's modules only.
    """
    global _decoding
    with _lock:
        if not _decoding:
            warnings.filterwarnings("ignore", module=_QUIET)
        _decoding += 1
    try:
        yield
    finally:
        with _lock:
            _decoding -= 1
            if not _decoding:
                with suppress(ValueError):  # Someone reset the filters.
                    cast(list[object], warnings.filters).remove(("ignore", None, Warning, re.compile(_QUIET), 0))
