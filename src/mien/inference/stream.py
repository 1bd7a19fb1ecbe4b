"""The frames of a video read one after the other: faces are searched for now and then, followed by their mesh, and numbered.

    frame ──► follow (mesh in the last frame's regions) ──► search (only if due, lost or cut) ──► describe ──► number ──► smooth

A mesh costs a third of what a search and a mesh from scratch cost, and stays on its face from frame to frame. The whole image
is searched for faces every `detect_every` frames, when a face was lost, after a cut, when frames lie far apart, and as long as
there is no face at all.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from ..errors import ConfigError, SourceError
from ..faces.alignment import warp
from ..faces.detection import Detections
from ..faces.landmarks import PRESENCE, Landmarker
from ..io.images import DecodedImage
from ..io.sources import Frame
from ..types import Face, Result
from .smoothing import open_smoother
from .tracking import Tracker

APART = 0.25
"""Seconds between two frames above which faces are searched for instead of followed: they may be anywhere by now."""
RETRY = 3
"""Frames from one search to the next while a face that was there is missing."""
MISSING = 0.5
"""Seconds for which a face that was lost is searched for."""
UNCONFIRMED = 5
"""Searches without finding a face after which it is no longer followed."""
SAME = 0.4
"""Overlap (IoU) above which two boxes are one face."""
LOOK = 16
"""Side in pixels of the small image that faces are known again by."""
AGAIN = 50
"""Known frames before the first new one that are read once more, so that faces keep their numbers and smoothing goes on."""
TICK = 0.04
"""Seconds from one frame to the next where frames have no time."""
BATCH = 8
"""Images between videos whose faces share the network calls."""


class Parts(Protocol):
    """What a stream needs of a `Recognizer`."""

    detector: Any
    landmarker: Landmarker | None

    def read_all(self, images: Sequence[DecodedImage]) -> list[Result]:
        """Read images that have nothing to do with each other."""
        ...

    def describe(self, pixels: np.ndarray, boxes: np.ndarray, scores: np.ndarray, points: np.ndarray) -> list[Face]:
        """Read the faces whose places in an image (H, W, 3) are known: boxes (N, 4), scores (N,), points (N, P, 3)."""
        ...

    def result(self, image: DecodedImage, faces: Sequence[Face]) -> Result:
        """Put faces together."""
        ...

    def unreadable(self, source: str, error: SourceError | None) -> Result:
        """Stand for what could not be read."""
        ...


@dataclasses.dataclass(slots=True, eq=False)
class _Seen:
    """A face of the last frame, as far as it helps to find it in the next."""

    points: np.ndarray
    """(P, 3)."""
    region: np.ndarray
    """(4,) around them, see `mien.faces.landmarks`: where the face is looked for next."""
    score: float
    """Presence of its mesh, or score of the detector in the frame where it was searched for."""
    relation: np.ndarray
    """(4,) where the detector's box lies about the mesh: from the middle of the region to its sides, in sides of the region."""
    unconfirmed: int = 0
    """Searches in a row that did not find it."""

    @property
    def box(self) -> np.ndarray:
        """(4,) where the detector's box should be."""
        x, y, side, _ = self.region
        return np.array([x, y, x, y]) + self.relation * side


class Stream:
    """Reads the frames of one video in order. Each video needs a stream of its own, used by one thread.

    Example:
        >>> import mien
        >>> from mien.io.images import read_image
        >>> from mien.io.sources import Frame
        >>> stream = Stream(mien.load())
        >>> image = read_image(mien.sample())
        >>> for number in range(2):
        ...     for frame, result in stream.push(Frame(number, "memory", image, time=number / 25)):
        ...         print(result.time, [(face.track, face.label) for face in result.faces])
        0.0 [(1, 'happiness')]
        0.04 [(1, 'happiness')]
    """

    def __init__(
        self, read: Parts, *, detect_every: int = 10, smooth: str | None = "ema", window: float = 0.25, threshold: float = 0.0
    ) -> None:
        """Begin a video; the arguments are those of `Recognizer.stream`.

        Raises:
            UnknownName: no such smoothing.
            ConfigError: `detect_every` or `window` makes no sense.
        """
        if detect_every < 1:
            raise ConfigError(f"detect_every={detect_every} makes no sense; 1 searches each frame for faces")
        self.read, self.detect_every = read, detect_every
        self.tracker = Tracker()
        self._smoother = open_smoother(smooth, window, threshold) if smooth else None
        self._seen: list[_Seen] = []
        self._since = 0  # frames since the last search
        self._lost_at = self._time = -np.inf
        self._now = -TICK  # of the last frame, whether it was read or not
        self._small: np.ndarray | None = None

    def push(self, frame: Frame, known: Result | None = None) -> list[tuple[Frame, Result]]:
        """Read one more frame.

        Args:
            frame: the next of the video; without a time it is taken to come `TICK` seconds after the one before.
            known: what an earlier run found in it; its faces keep those numbers.

        Returns:
            What is finished: this frame, or earlier ones where smoothing looks ahead.
        """
        self._now = self._now + TICK if frame.time is None else frame.time
        if frame.image is None:
            result = self.read.unreadable(frame.source, frame.error)
        else:
            result = self._read(frame.image, self._now, known)
        result = dataclasses.replace(result, time=self._now)
        return self._given([(frame, result)] if self._smoother is None else self._smoother.push(frame, result))

    def close(self) -> list[tuple[Frame, Result]]:
        """Return what was waiting for later frames."""
        return [] if self._smoother is None else self._given(self._smoother.close())

    def _given(self, done: list[tuple[Frame, Result]]) -> list[tuple[Frame, Result]]:
        """Return results with the times of their frames, which may be none."""
        return [(frame, result if frame.time is not None else dataclasses.replace(result, time=None)) for frame, result in done]

    def _read(self, image: DecodedImage, time: float, known: Result | None) -> Result:
        if self.read.detector is None:  # each frame is one face
            result = self.read.read_all([image])[0]
            return dataclasses.replace(result, faces=tuple(dataclasses.replace(face, track=1) for face in result.faces))
        small = shrink(image.pixels)
        cut = self._small is None or is_cut(self._small, small)
        seen = self._find(image.pixels, time, cut)
        boxes = np.array([face.box for face in seen]).reshape(-1, 4)
        points = np.array([face.points for face in seen])
        regions = np.array([face.region for face in seen]).reshape(-1, 4)
        numbers = self.tracker.update(boxes, looks(image.pixels, regions), time, cut=cut)
        if known is not None:
            places = [[face.box.left, face.box.top, face.box.right, face.box.bottom] for face in known.faces]
            changed = self.tracker.recall(np.array(places).reshape(-1, 4), [face.track or 0 for face in known.faces])
            numbers = [changed.get(number, number) for number in numbers]
        self._seen, self._time, self._small = seen, time, small
        if not seen:
            return self.read.result(image, [])
        faces = self.read.describe(image.pixels, boxes, np.array([face.score for face in seen]), points)
        return self.read.result(
            image, [dataclasses.replace(face, track=number) for face, number in zip(faces, numbers, strict=True)]
        )

    def _find(self, pixels: np.ndarray, time: float, cut: bool) -> list[_Seen]:
        seen = []
        if not cut and time - self._time <= APART and self.detect_every > 1:
            seen = self._follow(pixels)
            if len(seen) < len(self._seen):
                self._lost_at = time
        self._since += 1
        lost = time - self._lost_at <= MISSING and (self._since >= RETRY or time == self._lost_at)
        if seen and not lost and self._since < self.detect_every:
            return seen
        self._since = 0
        return self._search(pixels, seen)

    def _follow(self, pixels: np.ndarray) -> list[_Seen]:
        """Find the faces of the last frame where they were; two that have become one are one, the clearer."""
        if not self._seen or self.read.landmarker is None:
            return []
        before = np.array([face.region for face in self._seen])
        mesh = self.read.landmarker.locate([pixels] * len(before), before, refine=0)
        found = [
            dataclasses.replace(face, points=points, region=region, score=float(presence))
            for face, points, region, presence in zip(self._seen, mesh.points, mesh.regions, mesh.presence, strict=True)
            if presence >= PRESENCE and _inside(region, pixels)
        ]
        return _distinct(found)

    def _search(self, pixels: np.ndarray, followed: list[_Seen]) -> list[_Seen]:
        """Look for faces in the whole image; those that are followed already are confirmed, the others are new."""
        detections: Detections = self.read.detector(pixels)
        overlap = _overlaps(np.array([face.box for face in followed]).reshape(-1, 4), detections.boxes)
        fresh = []
        for place, box in enumerate(detections.boxes):
            if len(followed) and overlap[:, place].max() > SAME:
                face = followed[int(overlap[:, place].argmax())]
                face.relation, face.score, face.unconfirmed = relation(face.region, box), float(detections.scores[place]), -1
            else:
                fresh.append(place)
        for face in followed:
            face.unconfirmed += 1
        kept = [face for face in followed if face.unconfirmed < UNCONFIRMED]
        if not fresh or self.read.landmarker is None:
            return kept
        mesh = self.read.landmarker([(pixels, detections.boxes[i], float(detections.roll[i])) for i in fresh])
        new = [
            _Seen(points, region, float(detections.scores[i]), relation(region, detections.boxes[i]))
            for i, points, region, presence in zip(fresh, mesh.points, mesh.regions, mesh.presence, strict=True)
            if presence >= PRESENCE
        ]
        return _distinct([*kept, *new]) if kept else new


def stream(
    read: Parts, frames: Iterable[Frame], *, known: Known | None = None, **options: Any
) -> Iterator[tuple[Frame, Result]]:
    """Read images, and the frames of videos; each run of frames from one source with a time is a video.

    Args:
        read: a `Recognizer`.
        frames: as `mien.io.sources.iter_images` gives them.
        known: results of the first frames, from an earlier run.
        options: as for `Stream`.

    Yields:
        Each frame with its result, in order.
    """
    known = known or Known(0, ())
    for (_, timed), group in itertools.groupby(frames, _Runs()):
        if timed:
            yield from _video(Stream(read, **options), group, known)
        else:
            yield from _images(read, group, known)


class _Runs:
    """Tells which run a frame belongs to: its number, and whether it is a video or images between videos."""

    def __init__(self) -> None:
        self._number, self._last = 0, Frame(-1, "")

    def __call__(self, frame: Frame) -> tuple[int, bool]:
        last, self._last = self._last, frame
        if frame.time is None or last.time is None:
            self._number += (frame.time is None) != (last.time is None)
        elif frame.source != last.source or (frame.time < last.time and frame.index <= last.index):  # the same one once more
            self._number += 1
        return self._number, frame.time is not None


class Known:
    """Results that an earlier run found in the first frames: they are given again instead of read again.

    Args:
        number: how many.
        results: they themselves.
    """

    def __init__(self, number: int, results: Iterable[Result]) -> None:
        self.left, self._results = number, iter(results)

    def next(self) -> Result | None:
        """Return the result of the next frame, None after the last."""
        if not self.left:
            return None
        self.left -= 1
        return next(self._results)


def _video(one: Stream, frames: Iterable[Frame], known: Known) -> Iterator[tuple[Frame, Result]]:
    given = numbers = 0  # frames read once more whose results are not to be given again; the highest number of a face
    for frame in frames:
        again = known.next()
        if again is None:
            done = one.push(frame)
        else:
            yield frame, again
            numbers = max([numbers, *(face.track or 0 for face in again.faces)])
            if known.left >= AGAIN:
                continue
            given += 1
            one.tracker.reserve(numbers)
            done = one.push(frame, again)
        yield from done[given:]
        given -= min(len(done), given)
    yield from one.close()[given:]


def _images(read: Parts, frames: Iterable[Frame], known: Known) -> Iterator[tuple[Frame, Result]]:
    frames = iter(frames)
    while known.left and (frame := next(frames, None)) is not None:
        again = known.next()
        assert again is not None
        yield frame, again
    while group := list(itertools.islice(frames, BATCH)):
        results = iter(read.read_all([frame.image for frame in group if frame.image is not None]))
        for frame in group:
            yield frame, next(results) if frame.image is not None else read.unreadable(frame.source, frame.error)


def looks(pixels: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return (N, D) what faces look like, each of length one: a small upright image without its mean brightness.

    Args:
        pixels: (H, W, 3) uint8.
        regions: (N, 4) around their meshes, see `mien.faces.landmarks`.
    """
    found = np.empty((len(regions), LOOK * LOOK * 3))
    for row, (x, y, side, roll) in zip(found, regions, strict=True):
        scale = LOOK / max(0.87 * side, 1)  # the face from edge to edge and a third more
        cosine, sine = scale * np.cos(roll), scale * np.sin(roll)
        matrix = np.array([[cosine, sine, LOOK / 2 - cosine * x - sine * y], [-sine, cosine, LOOK / 2 + sine * x - cosine * y]])
        row[:] = warp(pixels, matrix, LOOK).ravel()
        row -= row.mean()
        row /= max(float(np.linalg.norm(row)), 1e-9)
    return found


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Return whether two small gray images (h, w) show different scenes: much has changed, and nowhere near in proportion.

    Measured: at cuts between portraits that are framed alike, 39 % of the fields changed or more, and they correlate by 0.78 or
    less; four large faces that cross the image within a second change 22 % from every fifth frame to the next.
    """
    if before.shape != after.shape:
        return True
    if float((np.abs(before - after) > 10).mean()) < 0.3:
        return False
    a, b = before - before.mean(), after - after.mean()
    return float((a * b).sum()) < 0.85 * float(np.sqrt((a * a).sum() * (b * b).sum()))


def relation(region: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return (4,) where a box (4,) lies about the region (4,) of a mesh; see `_Seen.relation`."""
    x, y, side, _ = region
    return (np.asarray(box, np.float64) - [x, y, x, y]) / max(side, 1e-6)


def shrink(pixels: np.ndarray, rows: int = 18, columns: int = 24) -> np.ndarray:
    """Return the mean of green in (rows, columns) fields of an image, from every fourth pixel or so; see `is_cut`."""
    step = max(min(pixels.shape[0] // rows, pixels.shape[1] // columns) // 4, 1)
    thin = pixels[::step, ::step, 1].astype(np.float32)
    rows, columns = min(rows, thin.shape[0]), min(columns, thin.shape[1])
    height, width = thin.shape[0] // rows, thin.shape[1] // columns
    return thin[: height * rows, : width * columns].reshape(rows, height, columns, width).mean((1, 3))


def _inside(region: np.ndarray, pixels: np.ndarray) -> bool:
    """Whether the middle of a region is still in the image."""
    x, y = region[:2]
    return 0 <= x < pixels.shape[1] and 0 <= y < pixels.shape[0]


def _distinct(seen: list[_Seen]) -> list[_Seen]:
    """Leave out faces that lie on another with a better score, in the order they came."""
    if len(seen) < 2:
        return seen
    regions = np.array([face.region for face in seen])
    half = regions[:, 2:3] / 3
    boxes = np.concatenate([regions[:, :2] - half, regions[:, :2] + half], 1)
    overlap, kept = _overlaps(boxes, boxes), []
    for i in sorted(range(len(seen)), key=lambda i: -seen[i].score):
        if all(overlap[i, j] <= SAME for j in kept):
            kept.append(i)
    return [seen[i] for i in sorted(kept)]


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) IoU of boxes."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = (high - low).clip(0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(0).prod(-1) for boxes in (a, b)]
    return both / (areas[0][:, None] + areas[1][None] - both).clip(1e-9)
