"""Folders of annotated images and videos."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image

from ..errors import MienError
from ..io.files import atomic_write, write_errors
from ..io.video import Video, is_video
from ..io.video_writer import Recorder, suffix
from ..types import Layer, Result
from .faces import draw

MARK = "mien: annotated image"
"""Written into annotated images (EXIF `Software`), so that a later run knows which files it may replace."""

LONGEST = 230  # bytes of a name; file systems take 255, and a number and `.….part` must fit too


class AnnotatedCopies:
    """Annotated copies of images and videos in a folder, with the sub-folders of the originals.

    JPEG files become JPEG, other images PNG; videos keep their sound, in H.264 and MP4, or Matroska where MP4 cannot hold it. A
    file that this class did not write is never replaced: the copy gets the next free name (`party-2.jpg`), so input and output
    folder may be the same. Copies of an earlier run are replaced. The copy of a video gets its name when the next video begins
    or the block ends.

    Args:
        folder: created if it does not exist.
        roots: input folders: below `folder` a copy keeps the path of its original below its root.
        layers: as for `mien.draw`.
        start: time of a video in seconds at which its copy begins; None for the beginning.
        end: time at which it ends; None for the end.
        threads: threads of the video encoder.

    Raises:
        ConfigError: `folder` is a file or not writable.

    Example:
        >>> import tempfile, mien
        >>> with tempfile.TemporaryDirectory() as folder, AnnotatedCopies(folder) as copies:
        ...     copies.write(mien.sample(), mien.load()(mien.sample())).name
        'sample.png'
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        roots: Iterable[str | os.PathLike[str]] = (),
        layers: Sequence[Layer] = (),
        start: float | None = None,
        end: float | None = None,
        threads: int = 1,
    ) -> None:
        self.folder, self.layers, self.roots = Path(folder), tuple(layers), [_absolute(root) for root in roots]
        self.start, self.end, self.threads = start or 0.0, end, threads
        self._written: set[Path] = set()
        self._recorder: Recorder | None = None
        self._source, self._time = "", 0.0  # of the last frame
        with write_errors(self.folder, "choose another folder"):
            self.folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: Any) -> None:
        if self._recorder is not None:
            self._recorder.__exit__(*raised)

    def write(self, image: Any, result: Result) -> Path | None:
        """Write an annotated image, as for `mien.draw`, or append the next frame of a video, whose result has a time.

        Returns the path that the copy has, or will have; None where the image could not be read. Raises ConfigError: the disk
        is full, or the folder is not writable.
        """
        if result.status == "unreadable":
            return None
        annotated = draw(image, result, layers=self.layers, enlarge=result.time is None)
        return self._image(annotated, result.source) if result.time is None else self._frame(annotated, result)

    def _image(self, annotated: Image.Image, source: str) -> Path:
        path = self._claim(source, (".png", ".jpg", ".jpeg"))
        exif, png = Image.Exif(), path.suffix.lower() == ".png"
        exif[0x0131] = MARK
        options = {"compress_level": 4} if png else {"quality": 92, "subsampling": 0}
        with atomic_write(path, "choose another folder") as part:
            annotated.save(part, "PNG" if png else "JPEG", exif=exif, **options)
        return path

    def _frame(self, annotated: Image.Image, result: Result) -> Path:
        time = result.time or 0.0
        if self._recorder is None or result.source != self._source or time < self._time:
            if self._recorder is not None:
                self._recorder.close()
            sound = result.source if os.path.isfile(result.source) else None  # noqa: PTH113 - a name may be too long for Path
            path = self._claim(result.source, (suffix(sound) if sound else ".mp4",))
            span = {"start": self.start, "end": self.end}
            self._recorder = Recorder(path, sound=sound, comment=MARK, threads=self.threads, **span)
        self._recorder.write(np.asarray(annotated), time)
        self._source, self._time = result.source, time
        return self._recorder.path

    def _claim(self, source: str, suffixes: Sequence[str]) -> Path:
        """Return the first free path for the copy of a source, with its own suffix, or the first of `suffixes`."""
        place = self._place(source)
        wanted = self.folder / _cut(place if place.suffix.lower() in suffixes else place.with_suffix(suffixes[0]))
        wanted.parent.mkdir(parents=True, exist_ok=True)
        path, number = wanted, 1
        while path in self._written or (path.exists() and not _ours(path)):
            number += 1
            path = wanted.with_stem(f"{wanted.stem}-{number}")
        self._written.add(path)
        return path

    def _place(self, source: str) -> PurePath:
        """Path below the folder, with the suffix of the source."""
        if "://" in source:
            name = unquote(PurePath(urlsplit(source).path).name)
            return PurePath(re.sub(r"[^\w.-]", "_", name).lstrip(".") or "image")
        if source.startswith("<"):  # from memory: "<array>"
            return PurePath(source.strip("<>") if source == "<video>" else "image")
        path = _absolute(source)
        roots = [root for root in self.roots if path.is_relative_to(root)]
        return path.relative_to(max(roots, key=lambda root: len(root.parts), default=path.parent))


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - links are not resolved


def _cut(path: PurePath) -> PurePath:
    """Return a path whose name is short enough for a file, with a suffix added; names from URLs may be too long."""
    stem = path.stem
    while len(os.fsencode(stem + path.suffix)) > LONGEST and stem:
        stem = stem[:-1]
    return path.with_name(stem + path.suffix) if stem else path


def _ours(path: Path) -> bool:
    try:
        if is_video(path):
            with Video(path) as video:
                return video.container.metadata.get("comment") == MARK
        with Image.open(path) as image:
            return image.getexif().get(0x0131) == MARK
    except (OSError, ValueError, SyntaxError, MienError):
        return False
