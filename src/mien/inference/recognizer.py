"""The function that everything else makes, measures or serves: a picture goes in, a `Result` comes out.

    detect → landmarks → align → preprocess → run → Result

Faces of several pictures share one call of the mesh, of the facial actions and of the classifier.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..cards import Card
from ..errors import SourceError, WeightsError
from ..faces.detection import Detections, open_detector
from ..faces.landmarks import ACTIONS, FITTING, PRESENCE, Actions, Landmarker
from ..faces.preprocessing import Preprocess
from ..io import sources
from ..io.channel_order import LIKELY_BGR, face_looks_bgr
from ..io.images import ColourOrderWarning, Picture, read_image
from ..io.sources import Frame
from ..io.video import Sampling
from ..labels import ACTION_UNITS
from ..metrics.probabilities import checked_probabilities
from ..runtime.devices import Device, use
from ..runtime.open_model import Batch, open_model
from ..types import Box, Face, Result
from . import stream as streaming

NO_REGIONS = "no mesh was found: eyes, nose and mouth were cut where they lie on average"
"""Note of a face crop read by a network that looks at regions."""

ROLES = ("scores", "valence_arousal", "action_units")
"""Outputs of a card that become fields of a `Face`."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One detection on its way to a `Face`."""

    picture: int
    box: np.ndarray
    score: float
    roll: float


class Recognizer:
    """Read faces in pictures. Made by `mien.load`; safe to call from several threads.

    Example:
        >>> import mien
        >>> read = mien.load()
        >>> result = read(mien.sample())
        >>> result.faces[0].label
        'happiness'
    """

    def __init__(
        self,
        card: Card,
        runtime: Callable[[Batch], dict[str, np.ndarray]],
        detector: Callable[[np.ndarray], Detections] | None,
        landmarker: Landmarker | None,
        actions: Actions | None = None,
        *,
        points: bool = True,
    ) -> None:
        """Put the parts together.

        Args:
            card: contract of the classifier.
            runtime: the classifier: (N, C, H, W), or several of them by name → outputs by name.
            detector: picture → `Detections`; None if every picture is one face crop already.
            landmarker: the mesh; None leaves points out, which only works without a detector.
            actions: the facial actions; None leaves them out.
            points: whether faces carry their mesh points.
        """
        self.card, self.runtime, self.detector = card, runtime, detector
        self.landmarker, self.actions, self.points = landmarker, actions, points
        self.preprocess = Preprocess.of(card)
        self.name = f"{card.name} {card.version}"
        if detector is not None and (landmarker is None or not self.preprocess.cuts_faces):
            raise WeightsError(
                f"{card.name} cannot cut faces out of pictures: its card has no crop contract; say detector='whole'"
            )

    def __call__(self, source: Any, **options: Any) -> Result:
        """Read one picture.

        Args:
            source: path, URL, bytes, RGB array or PIL image.
            options: as for `mien.io.images.read_image`.

        Raises:
            SourceError: the picture cannot be read.
            WeightsError: the network answers with NaN.
        """
        return self.read_all([read_image(source, **options)])[0]

    def timed(self, source: Any, **options: Any) -> tuple[Result, dict[str, float]]:
        """Read one picture and return the seconds that each stage took beside the result."""
        seconds: dict[str, float] = {}
        clock = _Clock(seconds)
        picture = read_image(source, **options)
        clock("decode")
        return self.read_all([picture], clock)[0], seconds

    def many(self, pictures: Any, batch: int = 16, **options: Any) -> Iterator[Result]:
        """Read many pictures, `batch` at a time; a broken one becomes a result of status "unreadable".

        Args:
            pictures: a folder, or an iterable of whatever `read` takes.
            batch: pictures whose faces share the network calls.
            options: as for `mien.io.sources.pictures`.

        Yields:
            One result for each picture, in order.
        """
        frames = iter(sources.pictures(pictures, **options))
        while group := list(itertools.islice(frames, batch)):
            readable = [frame.picture for frame in group if frame.picture is not None]
            results = iter(self.read_all(readable))
            for frame in group:
                yield next(results) if frame.picture is not None else self.unreadable(frame.source, frame.error)

    def stream(
        self,
        source: Any,
        *,
        every: int = 1,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
        detect_every: int = 10,
        smooth: str | None = "ema",
        window: float = 0.25,
        known: streaming.Known | None = None,
        **options: Any,
    ) -> Iterator[tuple[Frame, Result]]:
        """Read videos frame by frame, in constant memory; faces keep their number (`Face.track`) through a video.

        Args:
            source: a video's path, URL or bytes; the number of a camera; a folder, a list or a pattern of videos and pictures;
                or an iterable of `Frame`s. Pictures are read as by `read`.
            every: read each n-th frame only.
            fps: read at most this many frames a second, instead of `every`.
            start: seconds from the start of each video before which nothing is read.
            end: seconds at which reading ends.
            detect_every: frames from one search for faces to the next; between, and where nothing is lost, faces are followed
                by their mesh. With 1 each frame is read as a picture of its own.
            smooth: `"ema"` (over the past only), `"box"` or `"gaussian"` (both look ahead); None for what each frame alone
                gives. The unsmoothed reading stays in `Face.unsmoothed`.
            window: seconds over which is smoothed.
            known: results of the first frames, from an earlier run that was interrupted.
            options: as for `mien.io.sources.pictures`.

        Yields:
            A frame (pixels, exact time) and its result, for each wanted frame. A video that ends before its time gives one
            more, "unreadable", which says so.

        Raises:
            SourceError: nothing at all can be read.
            ConfigError: an option makes no sense.
            MissingExtra: PyAV is not installed.
        """
        frames = sources.pictures(source, sampling=Sampling(every, fps, start, end), **options)
        threshold = self.card.calibration.threshold
        return streaming.stream(
            self, frames, detect_every=detect_every, smooth=smooth, window=window, threshold=threshold, known=known
        )

    def unreadable(self, source: str, error: SourceError | None) -> Result:
        """Return the result that stands for a picture that could not be read."""
        return Result(source, 0, 0, (), "unreadable", self.name, message=str(error))

    def result(self, picture: Picture, faces: Sequence[Face], notes: tuple[str, ...] = ()) -> Result:
        """Return the result of a picture with these faces, its own notes and some more."""
        return Result(
            source=picture.source,
            width=picture.pixels.shape[1],
            height=picture.pixels.shape[0],
            faces=tuple(faces),
            status="ok" if faces else "no face",
            model=self.name,
            notes=(*_notes(picture, faces), *notes),
        )

    def describe(self, pixels: np.ndarray, boxes: np.ndarray, scores: np.ndarray, points: np.ndarray) -> list[Face]:
        """Read the expressions of faces whose places in a picture are known.

        Args:
            pixels: (H, W, 3) uint8 RGB.
            boxes: (N, 4) left, top, right, bottom in pixels, for `Face.box` only.
            scores: (N,) for `Face.detection` only.
            points: (N, P, 3) the meshes.
        """
        candidates = [_Candidate(0, box, float(score), 0.0) for box, score in zip(boxes, scores, strict=True)]
        crops = [self.preprocess.cut(pixels, p) for p in points]
        return self._describe(crops, candidates, points, lambda stage: None)

    def read_all(self, pictures: Sequence[Picture], clock: Callable[[str], None] = lambda stage: None) -> list[Result]:
        """Read decoded pictures, all at once; `clock` is called with the name of each stage when it ends."""
        notes: list[tuple[str, ...]] = [()] * len(pictures)
        if self.detector is None:
            faces, notes = self._whole(pictures, clock)
        else:
            faces = self._faces(pictures, self.detector, clock)
        return [self.result(*each) for each in zip(pictures, faces, notes, strict=True)]

    def _faces(self, pictures: Sequence[Picture], detector: Any, clock: Callable[[str], None]) -> list[list[Face]]:
        candidates = []
        for index, picture in enumerate(pictures):
            found = detector(picture.pixels)
            candidates += [
                _Candidate(index, box, float(score), float(roll))
                for box, score, roll in zip(found.boxes, found.scores, found.roll, strict=True)
            ]
        clock("detect")
        faces: list[list[Face]] = [[] for _ in pictures]
        if not candidates or self.landmarker is None:
            return faces
        mesh = self.landmarker([(pictures[c.picture].pixels, c.box, c.roll) for c in candidates])
        present = np.flatnonzero(mesh.presence >= PRESENCE)
        candidates, points = [candidates[i] for i in present], mesh.points[present]
        clock("mesh")
        crops = [self.preprocess.cut(pictures[c.picture].pixels, p) for c, p in zip(candidates, points, strict=True)]
        clock("align")
        for c, face in zip(candidates, self._describe(crops, candidates, points, clock), strict=True):
            faces[c.picture].append(face)
        return faces

    def _whole(
        self, pictures: Sequence[Picture], clock: Callable[[str], None]
    ) -> tuple[list[list[Face]], list[tuple[str, ...]]]:
        candidates = [
            _Candidate(i, np.array([0, 0, p.pixels.shape[1], p.pixels.shape[0]], np.float32), 1.0, 0.0)
            for i, p in enumerate(pictures)
        ]
        points = None
        known: list[np.ndarray | None] = [None] * len(pictures)
        if self.landmarker is not None and (self.points or self.actions or self.preprocess.regions):
            mesh = self.landmarker.crops([p.pixels for p in pictures])
            points = mesh.points
            known = [p if sure >= PRESENCE else None for p, sure in zip(points, mesh.presence, strict=True)]
        clock("mesh")
        crops = [self.preprocess.take(picture.pixels, p) for picture, p in zip(pictures, known, strict=True)]
        clock("align")
        notes: list[tuple[str, ...]] = [(NO_REGIONS,) if self.preprocess.regions and p is None else () for p in known]
        return [[face] for face in self._describe(crops, candidates, points, clock)], notes

    def _describe(
        self,
        crops: list[dict[str, np.ndarray]],
        candidates: list[_Candidate],
        points: np.ndarray | None,
        clock: Callable[[str], None],
    ) -> list[Face]:
        if not crops:
            return []
        found = self.runtime(self.preprocess.batch(crops))
        answers = {role: found[name] for role, name in self.card.outputs.items() if role in ROLES}
        for role, values in answers.items():
            if not np.isfinite(values).all():  # the first of equals would win, and be told as if it had been read
                raise WeightsError(
                    f"{self.name} answers with NaN or infinity ({role}): its weights are damaged, or too large for their "
                    "precision; train it anew with a lower rate, or export it as fp32"
                )
        try:
            checked_probabilities(answers["scores"], self.card.labels, self.name)
        except ValueError as error:
            raise WeightsError(f"{error}; docs/howto/own-model.md says what a network gives") from error
        clock("classify")
        actions = None if self.actions is None or points is None else self.actions(points[..., :2])
        clock("actions")
        return [
            self._face(
                c,
                {role: values[i] for role, values in answers.items()},
                points[i] if points is not None and self.points else None,
                None if actions is None else actions[i],
            )
            for i, c in enumerate(candidates)
        ]

    def _face(
        self, candidate: _Candidate, answers: dict[str, np.ndarray], points: np.ndarray | None, actions: np.ndarray | None
    ) -> Face:
        best, values = int(answers["scores"].argmax()), answers["scores"].tolist()
        valence, arousal = answers["valence_arousal"].tolist() if "valence_arousal" in answers else (None, None)
        units = answers["action_units"].tolist() if "action_units" in answers else None
        return Face(
            box=Box(*candidate.box.tolist()),
            detection=candidate.score,
            scores=dict(zip(self.card.labels, values, strict=True)),
            label=self.card.labels[best],
            confidence=values[best],
            certain=values[best] >= self.card.calibration.threshold,
            points=points,
            actions=None if actions is None else dict(zip(ACTIONS, actions.tolist(), strict=True)),
            valence=valence,
            arousal=arousal,
            action_units=None if units is None else dict(zip(ACTION_UNITS, units, strict=True)),
        )


def _notes(picture: Picture, faces: Sequence[Face]) -> tuple[str, ...]:
    """Return the picture's notes, with one more if most faces of an array show that red and blue are swapped."""
    if picture.source != "<array>" or LIKELY_BGR in picture.notes or not faces:
        return picture.notes
    boxes = [np.maximum([f.box.left, f.box.top, f.box.right, f.box.bottom], 0).astype(int) for f in faces]
    swapped = [face_looks_bgr(picture.pixels[top:bottom, left:right]) for left, top, right, bottom in boxes]
    if sum(swapped) * 2 <= len(faces):
        return picture.notes
    warnings.warn(LIKELY_BGR, ColourOrderWarning, stacklevel=4)
    return (*picture.notes, LIKELY_BGR)


class _Clock:
    """Adds the time since its last call to the named stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds, self.last = seconds, time.perf_counter()

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.last
        self.last = now


def load(
    model: str | Path = "mien-base",
    *,
    detector: str = "blazeface",
    max_faces: int | None = None,
    min_size: float = 0,
    threshold: float | None = None,
    max_roll: float = 45,
    small_faces: bool = False,
    points: bool = True,
    actions: bool = True,
    threads: int = 1,
    device: str | Device | None = None,
) -> Recognizer:
    """Open a model with the face pipeline that its card asks for. No network is used.

    Args:
        model: name of a bundled model; path of a card (`.toml`), of an `.onnx` or `.safetensors` file with its card, or of a
            training run's folder.
        detector: name in `mien.faces.detection.DETECTORS`, or `"module:attribute"`; `"whole"` if every picture is one
            face crop.
        max_faces: keep only this many faces of a picture, the largest and surest first.
        min_size: smallest longer side of a face box in pixels.
        threshold: detector score below which nothing is a face; None is the detector's own default.
        max_roll: largest in-plane rotation in degrees at which faces must be found.
        small_faces: look closer, slower, for faces that are small in the picture.
        points: whether faces carry their mesh points.
        actions: whether the 52 facial actions are computed. Without both a small mesh aligns the faces, in a third of the time.
        threads: threads used inside one network call.
        device: where all its networks run: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`, or `"auto"` for the best that starts; None:
            what `mien.runtime.devices.use` chose, or else the CPU.

    Raises:
        UnknownName: no such model or detector.
        WeightsError: the weights lack a card or do not fit it.
        ConfigError: there is no such device here.
    """
    with use(device):
        card, runtime = open_model(model, threads)
        found = None
        if detector != "whole":
            found = open_detector(
                detector,
                threshold=threshold,
                min_size=min_size,
                max_faces=max_faces,
                small_faces=small_faces,
                max_roll=max_roll,
                threads=threads,
            )
        needed = found is not None or points or actions or bool(card.reading.get("inputs"))
        mesh = "mesh478" if points or actions else "mesh468"
        refine = 0 if mesh == "mesh468" and detector in FITTING else 1
        return Recognizer(
            card,
            runtime,
            found,
            Landmarker(mesh, refine, threads) if needed else None,
            Actions(threads=threads) if actions else None,
            points=points,
        )
