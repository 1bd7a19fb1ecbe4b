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


class _Folder:
    """A folder for annotated copies, with the sub-folders of the originals."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        roots: Iterable[str | os.PathLike[str]] = (),
        layers: Sequence[Layer] = (),
    ) -> None:
        self.folder, self.layers = Path(folder), tuple(layers)
        self.roots = [_absolute(root) for root in roots]
        self._written: set[Path] = set()
        with write_errors(self.folder, "choose another folder"):
            self.folder.mkdir(parents=True, exist_ok=True)

    def claim(self, source: str, suffixes: Sequence[str]) -> Path:
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: Any) -> None:
        pass

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


class AnnotatedImages(_Folder):
    """Annotated images in a folder, with the sub-folders of the originals.

    JPEG files become JPEG, all others PNG. A file that this class did not write is never replaced: the copy gets the next free
    name (`party-2.jpg`), so input and output folder may be the same. Copies of an earlier run are replaced.

    Args:
        folder: created if it does not exist.
        quality: of JPEG files, 1 … 95.
        options: `layers` as for `mien.draw`; `roots`, input folders: below `folder` an image keeps its path below its root.

    Raises:
        ConfigError: `folder` is a file or not writable.

    Example:
        >>> import tempfile, mien
        >>> with tempfile.TemporaryDirectory() as folder, AnnotatedImages(folder) as sink:
        ...     sink.write(mien.sample(), mien.load()(mien.sample())).name
        'sample.png'
    """

    def __init__(self, folder: str | os.PathLike[str], *, quality: int = 92, **options: Any) -> None:
        super().__init__(folder, **options)
        self.quality = quality

    def write(self, image: Any, result: Result) -> Path | None:
        """Write one annotated image, as for `mien.draw`, and return its path; None where the image could not be read.

        Raises:
            ConfigError: the disk is full, or the folder is not writable.
        """
        if result.status == "unreadable":
            return None
        annotated = draw(image, result, layers=self.layers)
        path = self.claim(result.source, (".png", ".jpg", ".jpeg"))
        exif, png = Image.Exif(), path.suffix.lower() == ".png"
        exif[0x0131] = MARK
        options = {"compress_level": 4} if png else {"quality": self.quality, "subsampling": 0}
        with atomic_write(path, "choose another folder") as part:
            annotated.save(part, "PNG" if png else "JPEG", exif=exif, **options)
        return path


class Videos(_Folder):
    """Annotated videos in a folder, with the sound of the originals: H.264 in MP4, or Matroska where MP4 cannot hold the sound.

    Names and the other arguments are as for `AnnotatedImages`. A copy gets its name when the next video begins or the block
    ends. It begins at `start` seconds of the original and ends at `end`; `threads` are those of the encoder.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        start: float | None = None,
        end: float | None = None,
        threads: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(folder, **options)
        self.start, self.end, self.threads = start or 0.0, end, threads
        self._recorder: Recorder | None = None
        self._source: str | None = None

    def write(self, image: Any, result: Result) -> Path | None:
        """Append one frame, in order, and return the path that the copy will have; None where it could not be read."""
        if result.status == "unreadable" or result.time is None:
            return None
        if self._recorder is None or result.source != self._source or result.time < self._time:
            self._next(result.source)
        assert self._recorder is not None
        annotated = draw(image, result, layers=self.layers, enlarge=False)
        self._recorder.write(np.asarray(annotated), result.time)
        self._time = result.time
        return self._recorder.path

    def __exit__(self, *raised: Any) -> None:
        if self._recorder is not None:
            self._recorder.__exit__(*raised)

    def _next(self, source: str) -> None:
        if self._recorder is not None:
            self._recorder.close()
        sound = source if os.path.isfile(source) else None  # noqa: PTH113 - Path.is_file raises on a name too long
        kind = suffix(sound) if sound else ".mp4"
        self._source, self._time = source, 0.0
        path, times = self.claim(source, (kind,)), {"start": self.start, "end": self.end}
        self._recorder = Recorder(path, sound=sound, comment=MARK, threads=self.threads, **times)


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
