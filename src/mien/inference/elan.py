"""Annotations of a video for ELAN (.eaf): one tier per face and quantity, with intervals in milliseconds.

face 1 expression    the expression; "uncertain" where the model abstains
face 1 gaze          "at the camera"
face 1 blink         blinks
face 1 AU12          where an action unit is active: an estimated intensity, or a trained output, of at least `ACTIVE`
"""

import os
from pathlib import Path
from typing import Any

from ..errors import ConfigError, needs
from ..io.files import atomic_write
from ..types import Face, Result
from .summary import Summary

ACTIVE = 0.5  # intensity or probability from which an action unit is active
GAP = 0.2  # seconds without a value that an interval bridges


class Elan:
    """Collects the results of one video and writes an .eaf file; raises MissingExtra without pympi-ling.

    Example:
        >>> import mien
        >>> elan = Elan()
        >>> for frame, result in mien.load().stream("clip.mp4"):
        ...     elan.add(result)
        >>> elan.save("clip.eaf")
    """

    def __init__(self) -> None:
        with needs("elan", "pympi-ling"):
            from pympi.Elan import Eaf
        self._new: Any = Eaf
        self._tiers: dict[str, list[tuple[float, float, str]]] = {}
        self._summary = Summary()
        self._source: str | None = None
        self._last, self._step = 0.0, 0.04

    def add(self, result: Result) -> None:
        """Add the next frame; images are ignored. Raises ConfigError for a frame of a second video."""
        if result.time is None or result.status == "unreadable":
            return
        if self._source not in (None, result.source):
            raise ConfigError(f"an .eaf file annotates one video, got {self._source} and {result.source}", value=result.source)
        if self._source is not None and result.time > self._last:
            self._step = result.time - self._last
        self._source, self._last = result.source, result.time
        self._summary.add(result)
        for face in result.faces:
            for quantity, value in _values(face).items():
                self._extend(f"face {face.track or 1} {quantity}", result.time, value)

    def _extend(self, tier: str, time: float, value: str | None) -> None:
        """Extend the last interval of a tier if the value is the same, or begin one; None for no annotation."""
        intervals = self._tiers.setdefault(tier, [])
        if intervals and time - intervals[-1][1] <= GAP and intervals[-1][2] == value:
            intervals[-1] = (intervals[-1][0], time + self._step, intervals[-1][2])
        elif value is not None:
            intervals.append((time, time + self._step, value))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file; raises ConfigError if that fails."""
        document = self._new(author="mien")
        document.remove_tier("default")
        if self._source is not None and Path(self._source).is_file():
            document.add_linked_file(str(Path(self._source).absolute()), relpath=Path(self._source).name)
        tiers = dict(self._tiers)
        for face in self._summary.faces:
            blinks = [(blink.onset, blink.onset + blink.duration, "blink") for blink in face.blinks]
            tiers[f"face {face.track or 1} blink"] = blinks
        for tier in sorted(tiers):
            document.add_tier(tier)
            end = 0
            for start, stop, value in tiers[tier]:
                # Intervals of a tier must not overlap, and have a length.
                begin = max(round(1000 * start), end)
                end = max(round(1000 * stop), begin + 1)
                document.add_annotation(tier, begin, end, value)
        with atomic_write(Path(path)) as part:
            document.to_file(str(part))


def _values(face: Face) -> dict[str, str | None]:
    """Return quantity → annotation of one face."""
    units = face.action_units or face.action_units_estimated or {}
    active = {name: "active" if value >= ACTIVE else None for name, value in units.items() if name != "AU45"}
    looking = "at the camera" if face.gaze is not None and face.gaze.at_camera else None
    return {"expression": face.label if face.certain else "uncertain", "gaze": looking, **active}
