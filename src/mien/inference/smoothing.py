"""Temporal smoothing of all numbers of a face: bounding box, probabilities, blendshapes, pose, gaze, landmarks.

    "ema"        exponential moving average: past frames only, no delay
    "box"        mean over `window` seconds around each frame
    "gaussian"   the same window, weighted by a Gaussian of σ = window / 4

Weights follow the times of the frames, so frame rates may vary. The time constant of the exponential average leaves as much
noise as "box" with the same window. Averages run over one track (`Face.track`) without a gap or a jump. The values of the
frame alone are kept in `Face.unsmoothed`.
"""

import dataclasses
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np

from ..errors import ConfigError
from ..faces.quality import is_certain
from ..registry import lookup
from ..types import CONTACT, Box, EyeGaze, Face, Gaze, Result

POSE = ("pitch", "yaw", "roll", "x", "y", "z")  # fields of a pose that are smoothed
MAPPINGS = ("blendshapes", "action_units", "action_units_estimated")  # and mappings of a face
EYE = ("yaw", "pitch", "head_yaw", "head_pitch")  # and of the gaze of an eye
GAZE = (*EYE, "camera_angle")  # and of that of both

Item = TypeVar("Item")

Stretch = tuple[int, int]  # a track, and the number of its segment without gap or jump


class Smoother(Protocol):
    """Smooths the results of one video, which come in order."""

    def push(self, item: Any, result: Result) -> list[tuple[Any, Result]]:
        """Add one result, with an item that belongs to it, and return those that are final."""

    def close(self) -> list[tuple[Any, Result]]:
        """Return the remaining results."""


def open_smoother(kind: str, window: float = 0.25, threshold: float = 0.0) -> Smoother:
    """Return a smoother, `"ema"`, `"box"` or `"gaussian"`, with a window in seconds and the abstention threshold of a card.

    Raises UnknownName for another kind, ConfigError for a window that is not above 0 and at most 60 s.
    """
    if not 0 < window <= 60:
        raise ConfigError(f"window must be above 0 and at most 60 seconds, got {window}", value=window)
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
                new = mean + (1 - np.exp(-2 * (time - last) / self.window)) * (values - mean)
                # A value that is missing in one frame, the gaze in a blink, is missing in its result; the mean skips it.
                mean = np.where(np.isnan(values), mean, np.where(np.isnan(mean), values, new))
                values = np.where(np.isnan(values), np.nan, mean)
            else:
                mean = values
            means[stretch] = time, mean
            faces.append(unpack(face, values, self.threshold))
        old = {stretch: kept for stretch, kept in self._means.items() if time - kept[0] <= self.window}
        self._means = old | means
        return [(item, dataclasses.replace(result, faces=tuple(faces)))]

    def close(self) -> list[tuple[Any, Result]]:
        """Return no results, since none is delayed."""
        return []


class Centered:
    """The weighted mean of the frames around each frame; results are delayed by half the window.

    `sigma` is that of the Gaussian, in windows; infinite for an unweighted mean.
    """

    def __init__(self, window: float, threshold: float, sigma: float = np.inf) -> None:
        self.half, self.threshold, self.sigma = window / 2 + 1e-6, threshold, sigma * window
        self._stretches = _Stretches(window)
        self._near: deque[tuple[float, dict[Stretch, np.ndarray]]] = deque()
        self._waiting: deque[tuple[Any, Result, list[Stretch]]] = deque()

    def push(self, item: Item, result: Result) -> list[tuple[Item, Result]]:
        """Return the results whose window is complete."""
        time, stretches = result.time or 0.0, self._stretches(result)
        self._near.append((time, dict(zip(stretches, map(pack, result.faces), strict=True))))
        self._waiting.append((item, result, stretches))
        return self._finished(time - self.half)

    def close(self) -> list[tuple[Any, Result]]:
        """Return the results that were waiting for later frames."""
        return self._finished(np.inf)

    def _finished(self, until: float) -> list[tuple[Any, Result]]:
        done = []
        while self._waiting and (self._waiting[0][1].time or 0.0) <= until:
            item, result, stretches = self._waiting.popleft()
            time = result.time or 0.0
            while self._near[0][0] < time - self.half:
                self._near.popleft()
            means = [self._mean(time, stretch) for stretch in stretches]
            faces = [unpack(face, mean, self.threshold) for face, mean in zip(result.faces, means, strict=True)]
            done.append((item, dataclasses.replace(result, faces=tuple(faces))))
        return done

    def _mean(self, time: float, stretch: Stretch) -> np.ndarray:
        near = [(t - time, values[stretch]) for t, values in self._near if stretch in values and t - time <= self.half]
        weights = np.exp([-0.5 * (apart / self.sigma) ** 2 for apart, _ in near])
        values = np.stack([values for _, values in near])
        known = np.isfinite(values)
        mean = weights @ np.where(known, values, 0) / np.maximum(weights @ known, 1e-300)
        own = next(values for apart, values in near if apart == 0)
        return np.where(np.isnan(own), np.nan, mean)


SMOOTHERS: Mapping[str, Any] = {
    "ema": Exponential,
    "box": Centered,
    "gaussian": lambda window, threshold: Centered(window, threshold, sigma=0.25),
}


class _Stretches:
    """Segments each track: a new segment begins after a gap, and where the face jumps by more than its width."""

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
    """Return (L,) float64: all numbers of a face that are smoothed, in a fixed order; NaN where it has no pose or gaze."""
    box, gaze = face.box, face.gaze
    values: list[float | None] = [box.left, box.top, box.right, box.bottom, *face.scores.values()]
    for name in MAPPINGS:
        values += (getattr(face, name) or {}).values()
    values += [face.valence, face.arousal]
    for part, names in ((face.pose, POSE), (gaze, GAZE), (gaze and gaze.left, EYE), (gaze and gaze.right, EYE)):
        values += [getattr(part, name, None) for name in names]
    found = np.array(values, np.float64)
    return found if face.points is None else np.concatenate([found, face.points.ravel()])


def unpack(face: Face, values: np.ndarray, threshold: float) -> Face:
    """Return the face with these numbers, (L,) in the order of `pack`, and itself as `unsmoothed`."""
    rest = iter(values[: len(values) - (0 if face.points is None else face.points.size)].tolist())
    box = Box(*islice(rest, 4))
    scores = {label: next(rest) for label in face.scores}
    mappings: dict[str, Any] = {name: getattr(face, name) for name in MAPPINGS}
    for name, mapping in mappings.items():
        mappings[name] = mapping and {key: next(rest) for key in mapping}
    valence, arousal = (None if np.isnan(value) else value for value in islice(rest, 2))
    pose, gaze, *eyes = ([*islice(rest, len(names))] for names in (POSE, GAZE, EYE, EYE))
    left, right = (None if np.isnan(eye[0]) else EyeGaze(*eye) for eye in eyes)
    angles: dict[str, Any] = dict(zip(GAZE, gaze, strict=True))
    points = None if face.points is None else values[-face.points.size :].reshape(face.points.shape).astype(np.float32)
    label = max(scores, key=lambda name: scores[name])
    return dataclasses.replace(
        face,
        box=box,
        scores=scores,
        label=label,
        confidence=scores[label],
        certain=is_certain(scores[label], threshold, face.quality),
        points=points,
        valence=valence,
        arousal=arousal,
        **mappings,
        pose=None if face.pose is None else dataclasses.replace(face.pose, **dict(zip(POSE, pose, strict=True))),
        gaze=None if face.gaze is None else Gaze(**angles, at_camera=gaze[-1] <= CONTACT, left=left, right=right),
        unsmoothed=face,
    )
