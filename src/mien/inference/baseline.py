"""Per-person baseline: subtract a person's neutral face from blendshapes and action units.

    "median"     the median of each track, over the whole video
    "first N s"  the median of the first N seconds of each track
    FILE         a neutral image of the person, for every face

Differences are −1 … 1. OpenFace's "dynamic" models do the same for action units. Results are delayed until the baseline of
their faces is known: by N seconds, or to the end of the video.
"""

import dataclasses
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigError
from ..types import Face, Result

if TYPE_CHECKING:
    from .recognizer import Recognizer

FIELDS = ("blendshapes", "action_units_estimated")  # fields of a face from which the baseline is subtracted
Neutral = Mapping[str, Mapping[str, float]]  # field → name → value


class Baseline:
    """Subtracts the baseline from results, which come in order.

    Example:
        >>> import mien
        >>> recognizer = mien.load()
        >>> results = (result for _, result in recognizer.stream("clip.mp4"))
        >>> for result in subtract(results, "first 2 s", recognizer):
        ...     assert -1 <= result.faces[0].blendshapes["mouthSmileLeft"] <= 1
    """

    def __init__(self, kind: str | None, recognizer: "Recognizer") -> None:
        """Parse a kind of baseline; for a file, run inference on it. None disables it.

        Raises ConfigError for an unknown kind, or a file without a face or without blendshapes; SourceError if it cannot be
        read.
        """
        self.seconds = 0.0
        self.neutral: Neutral | None = None
        self.kind = kind
        if kind is None or kind == "median":
            self.seconds = np.inf
        elif found := re.fullmatch(r"first\s*(\d+(?:\.\d+)?)\s*s?", kind):
            self.seconds = float(found[1])
        elif Path(kind).is_file():
            self.neutral = _neutral(kind, recognizer)
        else:
            expected = "median, 'first N s', or a neutral image of the person"
            raise ConfigError(f"unknown baseline {kind!r}; expected {expected}", value=kind)
        self.note = f"baseline subtracted: {kind}"
        self._waiting: deque[Result] = deque()
        self._begin: dict[int | None, float] = {}  # track → time of its first frame
        self._collected: dict[int | None, list[Face]] = {}
        self._neutrals: dict[int | None, Neutral] = {}

    def push(self, result: Result) -> list[Result]:
        """Add the next result, and return those whose baseline is known."""
        if self.kind is None:
            return [result]
        if self.neutral is not None:
            return [self._subtracted(result, dict.fromkeys((face.track for face in result.faces), self.neutral))]
        if result.time is None:
            return [*self.close(), result]  # an image has no other frames to compare with
        time, done = result.time, []
        if self._waiting and (result.source != self._waiting[-1].source or time < (self._waiting[-1].time or 0)):
            done = self.close()
        self._waiting.append(result)
        for face in result.faces:
            if time - self._begin.setdefault(face.track, time) <= self.seconds:
                self._collected.setdefault(face.track, []).append(face)
        while self._waiting and all(time - self._begin[face.track] > self.seconds for face in self._waiting[0].faces):
            done.append(self._final(self._waiting.popleft()))
        return done

    def close(self) -> list[Result]:
        """Return the waiting results, at the end of a video."""
        done = [self._final(result) for result in self._waiting]
        self._waiting.clear()
        self._begin, self._collected, self._neutrals = {}, {}, {}
        return done

    def _final(self, result: Result) -> Result:
        for face in result.faces:
            if face.track not in self._neutrals:
                faces = self._collected.pop(face.track)
                self._neutrals[face.track] = {name: _median(faces, name) for name in FIELDS}
        return self._subtracted(result, self._neutrals)

    def _subtracted(self, result: Result, neutral: Mapping[int | None, Neutral]) -> Result:
        faces = tuple(_without(face, neutral[face.track]) for face in result.faces)
        return dataclasses.replace(result, faces=faces, notes=(*result.notes, self.note) if faces else result.notes)


def subtract(results: Iterable[Result], kind: str, recognizer: "Recognizer") -> Iterator[Result]:
    """Yield results with the baseline subtracted; see `Baseline`."""
    baseline = Baseline(kind, recognizer)
    for result in results:
        yield from baseline.push(result)
    yield from baseline.close()


def _without(face: Face, neutral: Neutral) -> Face:
    changed: dict[str, Any] = {}
    for name in FIELDS:
        if (values := getattr(face, name)) is not None:
            changed[name] = {key: value - neutral[name].get(key, 0.0) for key, value in values.items()}
    alone = None if face.unsmoothed is None else _without(face.unsmoothed, neutral)
    return dataclasses.replace(face, **changed, unsmoothed=alone)


def _median(faces: list[Face], name: str) -> dict[str, float]:
    found = [values for face in faces if (values := getattr(face, name)) is not None]
    if not found:
        return {}
    middle = np.median([list(values.values()) for values in found], axis=0)
    return dict(zip(found[0], middle.tolist(), strict=True))


def _neutral(path: str, recognizer: "Recognizer") -> Neutral:
    faces = recognizer(path).faces
    if not faces or faces[0].blendshapes is None:
        what = "blendshapes are turned off" if faces else "no face found"
        raise ConfigError(f"{path} cannot be the baseline: {what}", path=path)
    largest = max(faces, key=lambda face: face.box.width * face.box.height)
    return {name: dict(getattr(largest, name) or {}) for name in FIELDS}
