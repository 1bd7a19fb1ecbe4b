"""Readings of a face averaged over a stretch of a video: probabilities, blendshapes, affect, points, and the box.

    "ema"        exponential: over the past only, so nothing has to wait
    "box"        the plain mean over `window` seconds around each frame
    "gaussian"   the same stretch, weighted by a bell of σ = window / 4

Weights follow the times of the frames, so frame rates may vary. The exponential mean forgets so that as much noise is left as
by "box" with the same window. Only what is one face (`Face.track`) without a gap or a jump is averaged. What each frame alone
gave is kept in `Face.unsmoothed`.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import numpy as np

from ..errors import ConfigError
from ..registry import lookup
from ..types import Box, Face, Result

Item = TypeVar("Item")

Stretch = tuple[int, int]
"""A track, and which of its stretches without gap or jump."""


class Smoother(Protocol):
    """Smooths the results of one video, which come in order."""

    def push(self, item: Any, result: Result) -> list[tuple[Any, Result]]:
        """Take one more result, with whatever belongs to it, and return those that are finished."""
        ...

    def close(self) -> list[tuple[Any, Result]]:
        """Return the rest."""
        ...


def open_smoother(kind: str, window: float = 0.25, threshold: float = 0.0) -> Smoother:
    """Return a smoother.

    Args:
        kind: `"ema"`, `"box"` or `"gaussian"`.
        window: seconds over which is averaged.
        threshold: confidence below which a smoothed face is not certain; see the model's card.

    Raises:
        UnknownName: there is no such kind.
        ConfigError: the window makes no sense.
    """
    if not 0 < window <= 60:
        raise ConfigError(f"a window of {window} s makes no sense for smoothing; 0.1 to 1 is usual")
    return lookup(kind, SMOOTHERS, "smoothing", plugins=False)(window, threshold)


class Exponential:
    """A running mean of each face: weight 1 − exp(−2 Δt / window) for the new value."""

    def __init__(self, window: float, threshold: float) -> None:
        self.window, self.threshold = window, threshold
        self._stretches = _Stretches(window)
        self._means: dict[Stretch, tuple[float, np.ndarray]] = {}

    def push(self, item: Item, result: Result) -> list[tuple[Item, Result]]:
        """Return the smoothed result at once."""
        time, means, faces = result.time or 0.0, {}, []
        for face, stretch in zip(result.faces, self._stretches(result), strict=True):
            values = pack(face)
            if stretch in self._means:
                last, mean = self._means[stretch]
                values = mean + (1 - np.exp(-2 * (time - last) / self.window)) * (values - mean)
            means[stretch] = time, values
            faces.append(unpack(face, values, self.threshold))
        old = {stretch: kept for stretch, kept in self._means.items() if time - kept[0] <= self.window}
        self._means = old | means
        return [(item, dataclasses.replace(result, faces=tuple(faces)))]

    def close(self) -> list[tuple[Any, Result]]:
        """Return nothing: nothing waits."""
        return []


class Centerd:
    """The weighted mean of what lies around each frame; frames wait until half the window after them has been read.

    Args:
        window: seconds.
        threshold: of confidence.
        sigma: of the bell, in windows; infinite for a plain mean.
    """

    def __init__(self, window: float, threshold: float, sigma: float = np.inf) -> None:
        self.half, self.threshold, self.sigma = window / 2 + 1e-6, threshold, sigma * window
        self._stretches = _Stretches(window)
        self._near: deque[tuple[float, dict[Stretch, np.ndarray]]] = deque()
        self._waiting: deque[tuple[Any, Result, list[Stretch]]] = deque()

    def push(self, item: Item, result: Result) -> list[tuple[Item, Result]]:
        """Return the results that have all their neighbors now."""
        time, stretches = result.time or 0.0, self._stretches(result)
        self._near.append((time, dict(zip(stretches, map(pack, result.faces), strict=True))))
        self._waiting.append((item, result, stretches))
        return self._finished(time - self.half)

    def close(self) -> list[tuple[Any, Result]]:
        """Return what waited for neighbors that do not come."""
        return self._finished(np.inf)

    def _finished(self, until: float) -> list[tuple[Any, Result]]:
        done = []
        while self._waiting and (self._waiting[0][1].time or 0.0) <= until:
            item, result, stretches = self._waiting.popleft()
            time = result.time or 0.0
            while self._near[0][0] < time - self.half:
                self._near.popleft()
            faces = (
                unpack(face, self._mean(time, stretch), self.threshold)
                for face, stretch in zip(result.faces, stretches, strict=True)
            )
            done.append((item, dataclasses.replace(result, faces=tuple(faces))))
        return done

    def _mean(self, time: float, stretch: Stretch) -> np.ndarray:
        near = [(t - time, values[stretch]) for t, values in self._near if stretch in values and t - time <= self.half]
        weights = np.exp([-0.5 * (apart / self.sigma) ** 2 for apart, _ in near])
        return weights @ np.stack([values for _, values in near]) / weights.sum()


SMOOTHERS: Mapping[str, Any] = {
    "ema": Exponential,
    "box": Centerd,
    "gaussian": lambda window, threshold: Centerd(window, threshold, sigma=0.25),
}


class _Stretches:
    """Counts the stretches of each track: a new one begins after a gap, and where the face jumps by more than its width."""

    def __init__(self, gap: float) -> None:
        self.gap = gap
        self._last: dict[int, tuple[float, Box, int]] = {}

    def __call__(self, result: Result) -> list[Stretch]:
        time, found = result.time or 0.0, []
        for face in result.faces:
            track, number = face.track or 0, 0
            if track in self._last:
                seen, box, number = self._last[track]
                moved = max(abs(face.box.left + face.box.right - box.left - box.right), abs(face.box.top - box.top) * 2) / 2
                number += time - seen > self.gap or moved > max(box.width, 1)
            self._last[track] = time, face.box, number
            found.append((track, number))
        if len(self._last) > 1000:
            self._last = {track: kept for track, kept in self._last.items() if time - kept[0] <= self.gap}
        return found


def pack(face: Face) -> np.ndarray:
    """Return (L,) float64, all that is smoothed of a face, always in the same order."""
    box = face.box
    values = [box.left, box.top, box.right, box.bottom, *face.scores.values(), *(face.blendshapes or {}).values()]
    values += [value for value in (face.valence, face.arousal) if value is not None]
    values += (face.action_units or {}).values()
    return np.array(values) if face.points is None else np.concatenate([values, face.points.ravel()])


def unpack(face: Face, values: np.ndarray, threshold: float) -> Face:
    """Return the face with these numbers, (L,) in the order of `pack`, instead of its own, and itself as `unsmoothed`."""
    rest = iter(values[: len(values) - (0 if face.points is None else face.points.size)].tolist())
    box = Box(next(rest), next(rest), next(rest), next(rest))
    scores = {label: next(rest) for label in face.scores}
    blendshapes = None if face.blendshapes is None else {name: next(rest) for name in face.blendshapes}
    valence, arousal = (None if value is None else next(rest) for value in (face.valence, face.arousal))
    units = None if face.action_units is None else {name: next(rest) for name in face.action_units}
    points = None if face.points is None else values[-face.points.size :].reshape(face.points.shape).astype(np.float32)
    label = max(scores, key=lambda name: scores[name])
    return dataclasses.replace(
        face,
        box=box,
        scores=scores,
        label=label,
        confidence=scores[label],
        certain=scores[label] >= threshold,
        points=points,
        blendshapes=blendshapes,
        valence=valence,
        arousal=arousal,
        action_units=units,
        unsmoothed=face,
    )
