"""Image sequences as videos: animations (GIF, APNG, WebP, AVIF), pages of TIFF files, and numbered files."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import SourceError
from .decoding import EXTENSIONS, from_pillow, open_image
from .images import MAX_BYTES, MAX_PIXELS, ReadOptions, name_of, read_bytes, read_image
from .video import ALL, Closable, Info, Sampling

Shot = tuple[np.ndarray, tuple[str, ...]]  # pixels and notes of a frame
SHORTEST = 0.02  # seconds; shorter frames of an animation are shown for 0.1 s, as in browsers

_ANIMATED = rb"GIF8|II\*\0|MM\0\*|....ftypavis|\xff\x0a|\0\0\0\x0cJXL |RIFF....WEBPVP8X|\x89PNG.{0,8000}acTL"
"""First bytes of files that may be animations."""


@dataclass(frozen=True, slots=True, eq=False)
class SequenceFrame:
    """One frame of an image sequence."""

    index: int  # number of the frame, from `Sampling.start` on
    time: float  # seconds from the start
    pixels: np.ndarray  # (H, W, 3) uint8 RGB, upright, read-only
    notes: tuple[str, ...] = ()  # remarks about this frame

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]


class ImageSequence(Closable):
    """Images that follow one another, with the interface of `mien.io.video.Video`."""

    name: str
    info: Info
    coded: tuple[int, int]
    notes: tuple[str, ...] = ()

    def frames(self, sampling: Sampling = ALL) -> Iterator[SequenceFrame]:
        """Yield the selected frames. Raises SourceError: a frame is corrupt or too large, or no frame is selected."""
        empty = True
        for index, time, (pixels, notes) in self._selected(sampling):
            empty = False
            yield SequenceFrame(index, time, pixels, notes)
        if empty:
            raise SourceError(f"{self.name} has no frames in the selected time; check --start and --end", path=self.name)

    def _selected(self, sampling: Sampling) -> Iterator[tuple[int, float, Shot]]:
        """Yield number and time of the selected frames, with their pixels and notes."""
        raise NotImplementedError


class Animation(ImageSequence):
    """Frames of an animated image, or pages of a TIFF file.

    Pages have no times: `Sampling.fps` is their rate, by default one page a second.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes, options: ReadOptions | None = None) -> None:
        """Open the file. Raises SourceError: not an image."""
        options = options or {}
        self.name = name_of(source)
        self._limit = options.get("max_pixels", MAX_PIXELS)
        data = source if isinstance(source, bytes) else read_bytes(source, options.get("max_bytes", MAX_BYTES))
        self._image = open_image(data, self.name)
        self.paged = self._image.format == "TIFF"
        self.coded, self.info = self._image.size, Info(None, None, False)

    def _selected(self, sampling: Sampling) -> Iterator[tuple[int, float, Shot]]:
        pages = replace(sampling, fps=None) if self.paged else sampling
        return pages.select(self._timed(sampling.fps or 1.0))

    def _timed(self, rate: float) -> Iterator[tuple[float, Shot]]:
        time = 0.0
        for index in range(1_000_000):
            try:
                self._image.seek(index)
            except EOFError:
                return
            except Exception as error:  # Decoders raise whatever arbitrary bytes lead to.
                message = f"{self.name}: frame {index + 1} is corrupt ({error}); export it again"
                raise SourceError(message, path=self.name) from error
            pixels = from_pillow(self._image, self.name, self._limit)
            pixels.flags.writeable = False
            if self.paged:
                yield index / rate, (pixels, (f"page {index + 1}",))
            else:
                yield time, (pixels, ())
                shown = float(self._image.info.get("duration") or 0) / 1000
                time += shown if SHORTEST <= shown < 1e6 else 0.1

    def close(self) -> None:
        """Close the file."""
        self._image.close()


class NumberedImages(ImageSequence):
    """Numbered image files, such as `frame_0001.png`, with a frame rate instead of `Sampling.fps`; they are never left open."""

    coded = (1, 1)

    def __init__(self, files: Sequence[str], rate: float, name: str, options: ReadOptions | None = None) -> None:
        self.files, self.rate, self.name, self._options = files, rate, name, options or ReadOptions()
        self.info = Info(len(files) / rate, rate, False)

    def _selected(self, sampling: Sampling) -> Iterator[tuple[int, float, Shot]]:
        timed = ((index / self.rate, file) for index, file in enumerate(self.files))
        for index, time, file in replace(sampling, fps=None).select(timed):
            image = read_image(file, **self._options)
            yield index, time, (image.pixels, (Path(file).name, *image.notes))


def is_animation(source: str | os.PathLike[str] | bytes) -> bool:
    """Return whether a file has several frames or pages; phones' MPO and HEIC files have one."""
    try:
        if isinstance(source, bytes):
            head = source[:8192]
        else:
            if not os.path.isfile(source):  # noqa: PTH113 - Opening a pipe would block.
                return False
            with open(source, "rb") as file:  # noqa: PTH123
                head = file.read(8192)
        still = head[12:16] == b"VP8X" and not head[20] & 2
        if still or not re.match(_ANIMATED, head, re.DOTALL):
            return False
        with open_image(source if isinstance(source, bytes) else read_bytes(source, MAX_BYTES), "") as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # Not a file, or corrupt after its first frame: then it is read as one image.
        return False


def are_numbered(files: Sequence[str]) -> bool:
    """Return whether image files differ in one number only, as frames extracted from a video do.

    Example:
        >>> are_numbered(["in/frame_0000.png", "in/frame_0001.png"]), are_numbered(["anna.jpg", "ben.jpg"])
        (True, False)
    """
    found = [re.fullmatch(r"(.*?)(\d+)(\D*)", os.path.basename(file), re.DOTALL) for file in files]  # noqa: PTH119
    if len(files) < 2 or not all(found):
        return False
    extensions = {os.path.splitext(file)[1].lower() for file in files}  # noqa: PTH122
    around = {(os.path.dirname(file), match[1], match[3]) for file, match in zip(files, found, strict=True) if match}  # noqa: PTH120
    return extensions <= EXTENSIONS and len(around) == 1
