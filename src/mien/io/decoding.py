"""Encoded bytes or a Pillow image in, upright 8-bit RGB out.

What each kind of image becomes:

    EXIF orientation   turned upright, all eight
    alpha, PA, tRNS    laid over white: what a browser or a printed page shows. The color stored under full transparency is
                       arbitrary, often black, which would swallow the outline of dark hair; the face itself is opaque
    16-bit gray        scaled from 0 … 65535 (12-bit TIFF: 0 … 4095), never stretched to what the image happens to use
    32-bit int, float  scaled from the first usual range that holds all values: 0 … 1 (float), 0 … 255, 0 … 65535; else refused
    CMYK, YCbCr, LAB   converted; color profiles are not applied, for they shift a tint and not a face
    animations, pages  the first frame, and a note that says so
    damaged, cut short refused: a half gray image would be read with a straight face

Nothing global is touched: neither `PIL.Image.MAX_IMAGE_PIXELS`, which goes on holding as a second limit, nor
`PIL.ImageFile.LOAD_TRUNCATED_IMAGES`, nor the process's stderr, on which libtiff may complain of a damaged TIFF by itself.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from ..errors import SourceError

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "PPM": (".pgm", ".ppm", ".pbm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf"),
    "AVIF": (".avif",),
}
"""Formats that are read, by Pillow's name, with the extensions that a folder is searched for. Pillow knows more; those are left
out because nobody keeps portraits in them and some hand their input to other programs."""

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
        "an image whose header is damaged, or of a kind that this Pillow was built without",
    ),
    (rb"....ftyp(?:hei|hev|mif1|msf1)", "HEIC, which is not supported; convert it to JPEG or PNG"),
    (rb"....ftyp|RIFF....AVI|\x1aE\xdf\xa3", "a video"),
    (rb"%PDF", "a PDF document"),
    (rb"8BPS", "a Photoshop document; export it as JPEG or PNG"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!", "an archive; unpack it first"),
    (rb"(?i:\s*(?:<!doctype html|<html))", "a web page, not the image itself"),
    (rb"(?is:\s*<(?:\?xml.{0,400}<)?svg)", "an SVG drawing; export it as PNG"),
    (rb"\0+\Z", "nothing but zero bytes"),
    (rb"[\t\n\r\x20-\x7e]+\Z", "text"),
]
"""How the first bytes of what people take for an image look, and what it is."""


def decode(data: bytes, name: str, max_pixels: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Decode the content of an image file.

    Args:
        data: the file's bytes.
        name: what to call it in messages.
        max_pixels: width × height above which it is refused, before any pixel is decoded.

    Returns:
        (H, W, 3) contiguous uint8 RGB, upright, and notes such as `"first of 12 frames"`.

    Raises:
        SourceError: not an image, damaged, cut short, too large, or with values of unknown range.
    """
    if not data:
        raise SourceError(f"{name} is empty (0 bytes); get it anew")
    with _quiet():
        try:
            image = Image.open(io.BytesIO(data), formats=list(FORMATS))
        except (UnidentifiedImageError, KeyError):  # KeyError: a Pillow that does not know the last formats of the table
            raise SourceError(f"{name} cannot be read as an image: it is {_describe(data)}") from None
        except Exception as error:  # decoders meet arbitrary bytes here and raise whatever they stumble over
            raise _refusal(name, error) from error
        with image:
            return from_pillow(image, name, max_pixels), _first_of_many(image)


def from_pillow(image: Image.Image, name: str, max_pixels: int) -> NDArray[np.uint8]:
    """Return a Pillow image, at the frame it stands at, as (H, W, 3) contiguous uint8 RGB, upright.

    The image is loaded if it was not, and otherwise left as it is.

    Raises:
        SourceError: as for `decode`.
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
        except Exception as error:  # as in `decode`
            raise _refusal(name, error) from error


def check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    """Raise SourceError for an image without pixels or with more than `max_pixels`."""
    if width < 1 or height < 1:
        raise SourceError(f"{name} has no pixels: its size is {width} × {height}; save it anew")
    if width * height > max_pixels:
        raise SourceError(
            f"{name} has {width} × {height} = {width * height:,} pixels, more than the limit of {max_pixels:,}; "
            "make it smaller or raise max_pixels"
        )


def to_8_bit(values: NDArray[np.integer], top: int) -> NDArray[np.uint8]:
    """Scale integers in 0 … `top`, of any shape, to 0 … 255, rounding to the nearest."""
    return ((values.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata must not cost the image
        return 1


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray(_from_16_bit(image)).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_from_32_bit(image, name)).convert("RGB")
    if image.mode == "LAB":
        return cast(Image.Image, ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), _srgb(), outputMode="RGB"))
    if image.has_transparency_data and image.mode not in ("CMYK", "YCbCr", "HSV"):
        solid = image.convert("LA") if image.mode == "La" else image
        solid = solid.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", solid.size, "white"), solid).convert("RGB")
    return image.convert("RGB")


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _from_16_bit(image: Image.Image) -> NDArray[np.uint8]:
    bits = getattr(image, "tag_v2", {}).get(258)  # BitsPerSample of a TIFF
    return to_8_bit(np.asarray(image), 4095 if bits in (12, (12,)) else 65535)


def _from_32_bit(image: Image.Image, name: str) -> NDArray[np.uint8]:
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.format in ("PNG", "PPM"):
        tops: tuple[int, ...] = (65535,)  # the format says so; Pillow only lacked a 16-bit mode for it
    else:
        tops = (1, 255, 65535) if image.mode == "F" else (255, 65535)
    top = next((top for top in tops if low >= 0 and high <= top), None)
    if top is None:  # NaN ends here too
        raise SourceError(
            f"{name} has values from {low:g} to {high:g}, which is no usual range; scale it to 0 … 255 and save it with 8 bits"
        )
    return (values.astype(np.float64) * (255 / top) + 0.5).astype(np.uint8)


def _first_of_many(image: Image.Image) -> tuple[str, ...]:
    what = "pages" if image.format == "TIFF" else "frames"
    try:
        if image.format == "MPO" or not getattr(image, "is_animated", False):
            return ()  # the second image of a phone's MPO is a depth or gain map
        # GIF and TIFF do not say how many there are, and counting a hostile one takes minutes
        count = "several" if image.format in ("GIF", "TIFF") else getattr(image, "n_frames", "several")
    except Exception:  # what follows the first frame is damaged; the first was read
        count = "several"
    return (f"first of {count} {what}",)


def _describe(data: bytes) -> str:
    start = data[:4096]
    return next((what for sign, what in _SIGNATURES if re.match(sign, start, re.DOTALL)), "no format known here")


def _refusal(name: str, error: Exception) -> SourceError:
    if isinstance(error, (Image.DecompressionBombError, MemoryError)):
        return SourceError(f"{name} is too large to be decoded safely ({str(error) or 'out of memory'}); make it smaller")
    return SourceError(f"{name} is damaged or cut short ({str(error) or type(error).__name__}); get it anew")


_QUIET = r"PIL\.(?#while mien decodes)"
_lock = threading.Lock()
_decoding = 0


@contextmanager
def _quiet() -> Generator[None]:
    """Drop Pillow's warnings about damaged metadata while any thread decodes.

    `warnings.catch_warnings` would put a saved list of filters back and so undo what other threads did in the meantime. This
    adds one filter, for Pillow's modules only, and takes out that same one.
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
                with suppress(ValueError):  # someone reset the filters
                    cast(list[object], warnings.filters).remove(("ignore", None, Warning, re.compile(_QUIET), 0))
