"""Summary of videos, face by face: presence, shares of expressions, blinks, mean pose and gaze.

A blink is a stretch in which both eyelids close: the blendshape eyeBlink, the mean of both eyes, rises above `BLINK` and falls
below `OPEN`, for at most `LONGEST` seconds; longer closures are not blinks. Values of the frames alone are used, since
smoothing hides blinks. They last 0.1 to 0.4 s, so videos need 15 frames per second or more.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..types import Face, Result

BLINK, OPEN = 0.45, 0.35  # values of eyeBlink above which the eyes are closed, and below which they are open again
LONGEST = 0.5  # duration of a blink in seconds at most
GAP = 0.5  # seconds without the face after which a blink, and presence, end


@dataclass(frozen=True, slots=True)
class Blink:
    """One blink: the time in seconds at which the eyes begin to be closed, and seconds until they are open again."""

    onset: float
    duration: float


@dataclass(frozen=True, slots=True)
class FaceSummary:
    """One face of one video, by its track number, with the times in seconds of its first and last frame.

    `seconds` is how long it was visible, without gaps, in that many `frames`. `expressions` are expression → share of its
    frames, the most frequent first; frames in which the model abstains count as `"uncertain"`. The head pose is the mean in
    degrees, None without pose; `at_camera` is the share of the frames with a gaze in which it is directed at the camera, None
    without any.
    """

    source: str
    track: int
    first: float
    last: float
    seconds: float
    frames: int
    expressions: dict[str, float]
    blinks: tuple[Blink, ...]
    pitch: float | None
    yaw: float | None
    roll: float | None
    at_camera: float | None

    @property
    def blink_rate(self) -> float:
        """Blinks per minute of presence."""
        return 60 * len(self.blinks) / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class _Track:
    """What is collected of one face."""

    first: float
    last: float
    seconds: float = 0.0
    labels: Counter[str] = field(default_factory=Counter)
    poses: list[tuple[float, float, float]] = field(default_factory=list)
    contacts: list[bool] = field(default_factory=list)
    blinks: list[Blink] = field(default_factory=list)
    closed: float | None = None

    def add(self, face: Face, time: float) -> None:
        if time - self.last <= GAP:
            self.seconds += time - self.last
        else:
            self.closed = None
        self.last = time
        self.labels[face.label if face.certain else "uncertain"] += 1
        if face.pose is not None:
            self.poses.append((face.pose.pitch, face.pose.yaw, face.pose.roll))
        if face.gaze is not None:
            self.contacts.append(face.gaze.at_camera)
        blendshapes = (face.unsmoothed or face).blendshapes
        if blendshapes is None:
            return
        lids = (blendshapes["eyeBlinkLeft"] + blendshapes["eyeBlinkRight"]) / 2
        if self.closed is None and lids > BLINK:
            self.closed = time
        elif self.closed is not None and lids < OPEN:
            if time - self.closed <= LONGEST:
                self.blinks.append(Blink(self.closed, time - self.closed))
            self.closed = None


class Summary:
    """Collects the results of videos, in constant memory per frame of a face. Images are ignored.

    Example:
        >>> import mien
        >>> summary = Summary()
        >>> for frame, result in mien.load().stream("clip.mp4"):
        ...     summary.add(result)
        >>> [(face.track, face.frames, len(face.blinks)) for face in summary.faces]
        [(1, 10, 0)]
    """

    def __init__(self) -> None:
        self._tracks: dict[tuple[str, int], _Track] = {}

    def add(self, result: Result) -> None:
        """Add the next frame of a video."""
        if result.time is None:
            return
        for face in result.faces:
            track = self._tracks.setdefault((result.source, face.track or 0), _Track(result.time, result.time))
            track.add(face, result.time)

    @property
    def faces(self) -> list[FaceSummary]:
        """The faces, in the order in which they appeared."""
        return [_summary(source, number, track) for (source, number), track in self._tracks.items()]


def summarize(results: Iterable[Result]) -> list[FaceSummary]:
    """Return the summary of videos; see `Summary`."""
    summary = Summary()
    for result in results:
        summary.add(result)
    return summary.faces


def _summary(source: str, number: int, track: _Track) -> FaceSummary:
    frames, blinks = track.labels.total(), tuple(track.blinks)
    shares = {label: count / frames for label, count in track.labels.most_common()}
    pitch, yaw, roll = np.mean(track.poses, 0).tolist() if track.poses else (None, None, None)
    contact = float(np.mean(track.contacts)) if track.contacts else None
    seen = track.first, track.last, track.seconds, frames
    return FaceSummary(source, number, *seen, shares, blinks, pitch, yaw, roll, contact)
