"""Multi-face tracking: numbers that faces keep through a video, by motion and appearance.

A track is continued by the observation at its predicted position with a similar appearance; where two faces cross, appearance
decides. A face that was hidden, or that a cut removed, gets its number back when it reappears anywhere with the same
appearance. Times are in seconds, so frame rates may vary and frames may be skipped.

The sum of position and similarity in one greedy assignment follows ByteTrack (Zhang et al., ECCV 2022, arXiv 2110.06864).

Differences from ByteTrack: faces are confirmed by the mesh, so low scores have no second round; appearance is a
thumbnail (`appearance` in `mien.inference.following`), not a network's features.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

DOUBT, LIKELY, LOWEST, HIGHEST = 4.0, 0.85, -0.8, 0.4
"""Weight of the similarity relative to the position: `DOUBT` per unit above or below `LIKELY`, `LOWEST` … `HIGHEST`."""
LEAST = 0.0  # merit below which a face starts a new track
KNOWN = 0.19  # seconds for which the appearance of a face is not compared again, where its position alone decides
SPREAD = 3.0  # face widths per second by which the position of an unseen face becomes uncertain


@dataclass(slots=True)
class Track:
    """State of a face when last `seen`, in seconds.

    The box (4,) float64 is left, top, right, bottom in pixels, the velocity (2,) that of its center in pixels per second, the
    look (D,) the running mean of its appearance, of length one, last compared when `looked`.
    """

    number: int
    box: np.ndarray
    velocity: np.ndarray
    look: np.ndarray
    seen: float
    looked: float

    def expected(self, time: float) -> np.ndarray:
        """Return the predicted box (4,); motion is extrapolated for half a second at most."""
        shift = self.velocity * min(time - self.seen, 0.5)
        return self.box + np.tile(shift, 2)


class Tracker:
    """Assigns track numbers to the faces of each frame.

    Args:
        memory: seconds after which an unseen face is re-identified by its appearance only.
        alike: cosine similarity above which a face that was out of view is the same. Of 80 people of the London set
            photographed twice, neutral and smiling, 95 % are above it, and 1 % of the pairs of different people.
        gallery: maximum number of tracks that are remembered, the last seen.

    Example:
        >>> tracker, look = Tracker(), np.ones((1, 4)) / 2
        >>> tracker.update(np.array([[10.0, 10, 50, 50]]), look, 0.0)
        [1]
        >>> tracker.update(np.array([[14.0, 10, 54, 50]]), look, 0.04)
        [1]
    """

    def __init__(self, memory: float = 1.0, alike: float = 0.945, gallery: int = 100) -> None:
        self.memory, self.alike, self.gallery = memory, alike, gallery
        self.tracks: list[Track] = []
        self._next, self._time = 1, -np.inf

    def update(
        self, boxes: np.ndarray, looks: np.ndarray | Callable[[], np.ndarray], time: float, *, cut: bool = False
    ) -> list[int]:
        """Return the track number of each face of one frame, at a time in seconds that does not decrease.

        Boxes (N, 4) are left, top, right, bottom in pixels, looks (N, D) appearance vectors of length one, as of
        `mien.inference.following.appearance`, or a function that computes them if they are needed. After a `cut` a new scene
        begins, so that positions are meaningless.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        numbers = [0] * len(boxes)
        place = self._places(boxes, time) * (not cut) if self.tracks and len(boxes) else np.empty((0, 0))
        if callable(looks):
            if len(boxes) == 1 and (track := self._evident(place, time)) is not None:
                self._move(track, boxes[0], time)
                self._time = time
                return [track.number]
            looks = looks()
        if self.tracks and len(boxes):
            likeness = np.stack([track.look for track in self.tracks]) @ looks.T
            merit = np.where(place > 0, place + np.clip(DOUBT * (likeness - LIKELY), LOWEST, HIGHEST), -np.inf)
            again = likeness >= self.alike
            merit[again] = np.maximum(merit[again], likeness[again])
            for row, face in _best_pairs(merit, LEAST):
                track = self.tracks[row]
                numbers[face] = track.number
                self._continue(track, boxes[face], looks[face], time, float(likeness[row, face]), jumped=place[row, face] <= 0)
        for face, number in enumerate(numbers):
            if not number:
                numbers[face] = self._start(boxes[face], looks[face], time)
        self.tracks = sorted(self.tracks, key=lambda track: -track.seen)[: self.gallery]
        self._time = time
        return numbers

    def _places(self, boxes: np.ndarray, time: float) -> np.ndarray:
        """Return (T, N) how well each face matches the predicted position of each track, 0 … 2; 0 after a cut."""
        unseen = np.array([time - track.seen for track in self.tracks])
        known = unseen <= max(self.memory, 3 * (time - self._time))
        expected = np.stack([track.expected(time) for track in self.tracks])
        return overlap_and_nearness(expected, boxes, 1 + SPREAD * unseen) * known[:, None]

    def _evident(self, place: np.ndarray, time: float) -> Track | None:
        """Return the track of an only face whose appearance cannot matter and was compared lately; places are (T, 1)."""
        if not place.size:
            return None
        best = int(place.argmax())
        others = np.delete(place, best)
        rival = max(1.0, float(others.max()) + HIGHEST) if others.size else LEAST
        track = self.tracks[best]
        return track if place[best, 0] + LOWEST > rival and time - track.looked < KNOWN else None

    def _continue(self, track: Track, box: np.ndarray, look: np.ndarray, time: float, likeness: float, *, jumped: bool) -> None:
        self._move(track, box, time, jumped=jumped)
        if jumped or likeness > LIKELY:  # an occlusion must not become the appearance of the face
            mean = track.look + (1 - np.exp(-min(time - track.looked, 0.2) / 0.5)) * (look - track.look)
            track.look = mean / max(float(np.linalg.norm(mean)), 1e-9)
        track.looked = time

    def _move(self, track: Track, box: np.ndarray, time: float, *, jumped: bool = False) -> None:
        passed = time - track.seen
        if jumped or passed <= 0:
            track.velocity = np.zeros(2)
        else:
            moved = (box[:2] + box[2:] - track.box[:2] - track.box[2:]) / 2
            track.velocity += (1 - np.exp(-passed / 0.1)) * (moved / passed - track.velocity)
        track.box, track.seen = box, time

    def _start(self, box: np.ndarray, look: np.ndarray, time: float) -> int:
        number, self._next = self._next, self._next + 1
        self.tracks.append(Track(number, box, np.zeros(2), look, time, time))
        return number


def overlap_and_nearness(a: np.ndarray, b: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Return (N, M): IoU of boxes (N, 4) and (M, 4), plus 1 − distance of their centers in `reach` (N,) face widths; 0 … 2.

    Nearness matches small, fast faces that do not overlap. It counts for boxes of similar size only: within a factor of e^0.5.
    """
    size_a, size_b = a[:, None, 2:] - a[:, None, :2], b[None, :, 2:] - b[None, :, :2]
    both = (np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])).clip(0).prod(-1)
    iou = both / (size_a.prod(-1) + size_b.prod(-1) - both).clip(1e-9)
    size_a, size_b = size_a.clip(1), size_b.clip(1)
    apart = np.linalg.norm(a[:, None, :2] + a[:, None, 2:] - b[None, :, :2] - b[None, :, 2:], axis=-1) / 2
    near = (1 - apart / (reach[:, None] * np.sqrt(size_a[..., 0] * size_b[..., 0]))).clip(0)
    return iou + near * (np.abs(np.log(size_a[..., 1] / size_b[..., 1])) < 0.5)


def _best_pairs(merit: np.ndarray, least: float) -> Iterator[tuple[int, int]]:
    """Yield pairs (row, column), the best of all first, each row and column once, down to `least`."""
    merit = merit.copy()
    while merit.max(initial=-np.inf) >= least:
        row, column = np.unravel_index(merit.argmax(), merit.shape)
        yield int(row), int(column)
        merit[row], merit[:, column] = -np.inf, -np.inf
