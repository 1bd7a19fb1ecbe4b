"""Read one image from a path, URL, bytes, array or Pillow image as upright 8-bit RGB.

`decoding.py` describes the conversion of each kind of file, `urls.py` the download.
"""

import difflib
import itertools
import os
import re
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import SourceError, reason
from .decoding import check_size, decode, from_pillow, to_8_bit
from .urls import fetch, is_url, without_secrets

MAX_PIXELS = 100_000_000
"""Default limit of width × height: 100 megapixels, which decode into 300 MB."""

MAX_BYTES = 100_000_000
"""Default limit of an encoded image, on disk or downloaded: 100 MB."""

TIMEOUT = 20.0
"""Default limit in seconds for one download, redirects included."""

LIKELY_BGR = "this array looks like BGR, as cv2.imread gives it; mien reads RGB: pass array[..., ::-1]"
"""Text of the note and the warning."""

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[Any] | Image.Image
"""Inputs of `read_image`."""


class ColorOrderWarning(UserWarning):
    """An array passed as RGB is probably BGR."""


class ReadOptions(TypedDict, total=False):
    """Keyword arguments of `read_image`, for functions that forward them."""

    max_pixels: int
    max_bytes: int
    allow_private: bool
    timeout: float
    truncated: bool


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """A decoded image."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) uint8 RGB, upright, contiguous and read-only."""
    source: str
    """Its path, its URL without secrets, or `"<bytes>"`, `"<array>"`, `"<image>"`, with unprintable characters escaped."""
    notes: tuple[str, ...] = ()
    """Remarks about the input, such as `"first of 12 frames"`."""

    @property
    def width(self) -> int:
        """Width in pixels, after applying the EXIF orientation."""
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        """Height in pixels, after applying the EXIF orientation."""
        return self.pixels.shape[0]


def read_image(
    source: Source | DecodedImage,
    *,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    allow_private: bool = False,
    timeout: float = TIMEOUT,
    truncated: bool = False,
) -> DecodedImage:
    """Read one image.

    Args:
        source: a path; an http or https URL; the bytes of an image file; an array, RGB in the last axis; or a Pillow image (its
            current frame). Arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), of uint8 or uint16 over their full
            range, float in [0, 1], or bool. A `DecodedImage` is returned unchanged.
        max_pixels: limit of width × height, also above that of Pillow (`PIL.Image.MAX_IMAGE_PIXELS`).
        max_bytes: limit of the size of a file or download.
        allow_private: whether URLs may refer to private, loopback and other non-public addresses.
        timeout: seconds for a download.
        truncated: decode as much as there is of a truncated file, and add a note.

    Returns:
        The image. A contiguous uint8 RGB array shares its memory.

    Raises:
        SourceError: the image cannot be read.
        TypeError: `source` is of another type.

    Warns:
        ColorOrderWarning: a color array is probably BGR (error rates: `looks_bgr`); also in the notes of the image.

    Example:
        >>> image = read_image(sample())
        >>> image.pixels.shape, image.pixels.dtype.name
        ((512, 512, 3), 'uint8')
    """
    if isinstance(source, DecodedImage):
        return source
    name, notes = name_of(source), ()
    match source:
        case np.ndarray():
            pixels, notes = _from_array(source, name, max_pixels)
        case Image.Image():
            pixels = from_pillow(source, name, max_pixels)
        case bytes() | bytearray() | memoryview():
            if len(source) > max_bytes:
                raise _too_long(name, len(source), max_bytes)
            pixels, notes = decode(bytes(source), name, max_pixels, truncated=truncated)
        case str() if is_url(source):
            data = fetch(source, max_bytes=max_bytes, timeout=timeout, allow_private=allow_private)
            pixels, notes = decode(data, name, max_pixels, truncated=truncated)
        case _:
            data = read_bytes(source, max_bytes)
            pixels, notes = decode(data, name, max_pixels, truncated=truncated)
    pixels = pixels.view()
    pixels.flags.writeable = False
    return DecodedImage(pixels, name, notes)


def sample() -> Path:
    """Return the path of the bundled photograph: Eileen Collins, NASA, public domain; 512 × 512, one smiling face."""
    return Path(__file__).parents[1] / "assets" / "sample.png"


def name_of(source: Source | DecodedImage) -> str:
    """Return the printable name of a source for results and messages (see `DecodedImage.source`).

    Raises TypeError: not an input of `read_image`.
    """
    match source:
        case DecodedImage():
            return source.source
        case np.ndarray():
            return "<array>"
        case Image.Image():
            return printable(getattr(source, "filename", "") or "<image>")
        case bytes() | bytearray() | memoryview():
            return "<bytes>"
        case str() if is_url(source):
            return printable(without_secrets(source))
        case str() | os.PathLike():
            return printable(source)
    raise TypeError(
        f"cannot read an image from {type(source).__name__}: pass a path, a URL, bytes, an RGB array or a Pillow image "
        "(mien.io.sources.iter_images takes folders and lists)"
    )


def printable(path: str | bytes | os.PathLike[Any]) -> str:
    """Return a path with control characters and bytes that are not UTF-8 as backslash escapes."""
    text = os.fsdecode(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda match: match[0].encode("unicode_escape").decode("ascii"), text) or "''"


def no_file(name: str) -> SourceError:
    """Return the error for a path that cannot be read to its end."""
    return SourceError(f"{name} is a pipe, socket or device, expected a file; write its output to a file first", path=name)


def read_bytes(source: str | os.PathLike[str], max_bytes: int) -> bytes:
    """Return the content of a file. Raises SourceError: not a regular file, too large, or not readable."""
    path, name = Path(os.fsdecode(source)), printable(source)
    try:
        info = path.stat()
        if stat.S_ISDIR(info.st_mode):
            raise SourceError(f"{name} is a folder, expected an image; mien.io.sources.iter_images reads folders", path=name)
        if not stat.S_ISREG(info.st_mode):  # Opening a pipe would block.
            raise no_file(name)
        if info.st_size > max_bytes:
            raise _too_long(name, info.st_size, max_bytes)
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise SourceError(f"{_short(name)} does not exist{_nearest(path)}", path=path) from None
    except PermissionError:
        raise SourceError(f"{name} cannot be read: permission denied; change its permissions", path=path) from None
    except (OSError, ValueError) as error:  # A circle of links, a name too long, a null character, a failing disk.
        message = f"{_short(name)} cannot be opened: {reason(error)}; check the path and its disk"
        raise SourceError(message, path=path) from error


def _too_long(name: str, size: int, max_bytes: int) -> SourceError:
    message = f"{name} has {size:,} bytes, more than the limit of {max_bytes:,}; raise max_bytes"
    return SourceError(message, path=name, value=size, expected=max_bytes)


def _nearest(path: Path) -> str:
    """Return the end of a message about a missing path: the most similar name, or the missing folder."""
    folder = path.absolute().parent
    if path.is_symlink():
        return f": it links to {_short(printable(path.readlink()))}"
    try:
        names = {entry.name.lower(): entry.name for entry in itertools.islice(folder.iterdir(), 5000)}
    except OSError:
        return f": the folder {_short(printable(folder))} does not exist"
    near = difflib.get_close_matches(path.name.lower(), sorted(names), n=1)
    return f"; did you mean {printable(names[near[0]])}?" if near else f" in {printable(folder)}"


def _short(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:200]}…"


def _from_array(array: NDArray[Any], name: str, max_pixels: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    shape = array.shape
    if array.ndim < 2 or shape[2:] not in ((), (1,), (3,), (4,)):
        hint = "pass (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
        if array.ndim == 3 and shape[0] in (1, 3, 4):
            hint = "it looks channels-first: pass array.transpose(1, 2, 0)"
        raise SourceError(f"an array of shape {shape} is not an image; {hint}", value=shape)
    check_size(shape[1], shape[0], name, max_pixels)
    values = _as_uint8(array)
    if len(shape) == 2 or shape[2] == 1:
        return np.repeat(values.reshape(shape[0], shape[1], 1), 3, axis=2), ()
    if shape[2] == 4:
        values = from_pillow(Image.fromarray(values), name, max_pixels)
    values = np.ascontiguousarray(values)
    if not looks_bgr(values):
        return values, ()
    warnings.warn(LIKELY_BGR, ColorOrderWarning, stacklevel=3)
    return values, (LIKELY_BGR,)


def _as_uint8(array: NDArray[Any]) -> NDArray[np.uint8]:
    match array.dtype.kind, array.dtype.itemsize:
        case "u", 1:
            return array
        case "u", 2:
            return to_8_bit(array, 65535)
        case "b", _:
            return array.astype(np.uint8) * np.uint8(255)
        case "f", _:
            low, high = float(array.min()), float(array.max())
            if low >= -1e-3 and high <= 1 + 1e-3:  # False for NaN; the margin is for rounding in resizing.
                return (array.clip(0, 1) * 255 + 0.5).astype(np.uint8)
            what = "contains NaN" if np.isnan([low, high]).any() else f"has values from {low:g} to {high:g}"
            message = f"a float array must be in [0, 1], this one {what}; scale it, or pass uint8 if its values are 0 … 255"
            raise SourceError(message, value=(low, high))
    what = f"an array of {array.dtype} has an unknown range of values"
    raise SourceError(f"{what}; pass uint8 (array.astype(numpy.uint8) if they are 0 … 255)", value=array.dtype)


def looks_bgr(pixels: NDArray[np.uint8]) -> bool:
    """Return whether an image (H, W, 3) uint8 that should be RGB is probably BGR, as OpenCV's `imread` returns it.

    Skin reveals the order: under any usual light it is warm (red > green > blue), and in the wrong order it is blue. A blue sky
    in the wrong order has the color of skin too, so only images like portraits are reported: a skin-colored region of moderate
    saturation that leaves the top and upper sides of the image free, and almost no skin in the given order. Measured: none of
    479 RGB images; as BGR 203 of 204 portraits before an even wall, 1 of 15 other photographs, 1 of 260 desktop wallpapers.
    """
    thin = _thin(pixels)
    as_given, swapped = _skin(thin), _skin(thin[..., ::-1])
    share = swapped.mean()
    if share < 0.05 or as_given.mean() > 0.05 * share:
        return False
    height, width = swapped.shape
    top = swapped[: max(1, height // 20)]
    edge = max(1, width // 20)
    sides = swapped[: max(1, height // 2), np.r_[:edge, width - edge : width]]
    if max(top.mean(), sides.mean()) > 0.1:
        return False  # Sky or a backdrop.
    skin = thin[swapped]
    brightest = skin.max(axis=-1)
    return float(((brightest - skin.min(axis=-1)) / brightest).mean()) < 0.45


def face_looks_bgr(crop: NDArray[np.uint8]) -> bool:
    """Return whether the bounding box of a face (H, W, 3) uint8, brow to chin, that should be RGB is probably BGR.

    Measured: none of 243 faces in RGB; as BGR 204 of 204 faces of the portraits, 17 of 21 of others.
    """
    height, width = crop.shape[:2]
    thin = _thin(crop[height // 5 : height - height // 10, width // 5 : width - width // 5])
    if not thin.size:
        return False
    red, green, blue = np.moveaxis(thin, -1, 0)
    cold = ((blue > green) & (green > red)).mean()
    warm = ((red > green) & (green > blue)).mean()
    return bool(cold > 0.5 and warm < 0.1 and np.median(blue - red) > 8)


def _thin(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return about 16,384 of the pixels, evenly spread."""
    step = max(1, int((pixels.shape[0] * pixels.shape[1] / 16_384) ** 0.5))
    return pixels[::step, ::step].astype(np.float32)


def _skin(rgb: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the pixels with the chroma of skin: a range in the Cb-Cr plane, common in the literature, for all complexions."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = (blue - luma) * 0.564 + 128, (red - luma) * 0.713 + 128
    return (luma > 40) & (cb > 80) & (cb < 124) & (cr > 136) & (cr < 172) & (red > green) & (green > blue)
