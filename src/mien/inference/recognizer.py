"""The function that everything else makes, measures or serves: an image goes in, a `Result` comes out.

    detect → landmarks → align → preprocess → run → Result

Faces of several images share one call of the mesh, of the blendshapes and of the classifier.
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
from ..faces.landmarks import FITTING, PRESENCE, Blendshapes, Landmarker
from ..faces.preprocessing import Preprocess
from ..io import sources
from ..io.channel_order import LIKELY_BGR, face_looks_bgr
from ..io.images import ColorOrderWarning, DecodedImage, read_image
from ..io.sources import Frame
from ..io.video import Sampling
from ..labels import ACTION_UNITS, BLENDSHAPES
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

    image: int
    box: np.ndarray
    score: float
    roll: float


class Recognizer:
    """Read faces in images. Made by `mien.load`; safe to call from several threads.

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
        blendshapes: Blendshapes | None = None,
        *,
        points: bool = True,
    ) -> None:
        """Put the parts together.

        Args:
            card: contract of the classifier.
            runtime: the classifier: (N, C, H, W), or several of them by name → outputs by name.
            detector: image → `Detections`; None if every image is one face crop already.
            landmarker: the mesh; None leaves points out, which only works without a detector.
            blendshapes: the blendshapes; None leaves them out.
            points: whether faces carry their mesh points.
        """
        self.card, self.runtime, self.detector = card, runtime, detector
        self.landmarker, self.blendshapes, self.points = landmarker, blendshapes, points
        self.preprocess = Preprocess.of(card)
        self.name = f"{card.name} {card.version}"
        if detector is not None and (landmarker is None or not self.preprocess.cuts_faces):
            raise WeightsError(
                f"{card.name} cannot cut faces out of images: its card has no crop contract; say detector='whole'"
            )

    def __call__(self, source: Any, **options: Any) -> Result:
        """Read one image.

        Args:
            source: path, URL, bytes, RGB array or PIL image.
            options: as for `mien.io.images.read_image`.

        Raises:
            SourceError: the image cannot be read.
            WeightsError: the network answers with NaN.
        """
        return self.read_all([read_image(source, **options)])[0]

    def timed(self, source: Any, **options: Any) -> tuple[Result, dict[str, float]]:
        """Read one image and return the seconds that each stage took beside the result."""
        seconds: dict[str, float] = {}
        clock = _Clock(seconds)
        image = read_image(source, **options)
        clock("decode")
        return self.read_all([image], clock)[0], seconds

    def many(self, images: Any, batch: int = 16, **options: Any) -> Iterator[Result]:
        """Read many images, `batch` at a time; a broken one becomes a result of status "unreadable".

        Args:
            images: a folder, or an iterable of whatever `read` takes.
            batch: images whose faces share the network calls.
            options: as for `mien.io.sources.iter_images`.

        Yields:
            One result for each image, in order.
        """
        frames = iter(sources.iter_images(images, **options))
        while group := list(itertools.islice(frames, batch)):
            readable = [frame.image for frame in group if frame.image is not None]
            results = iter(self.read_all(readable))
            for frame in group:
                yield next(results) if frame.image is not None else self.unreadable(frame.source, frame.error)

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
            source: a video's path, URL or bytes; the number of a camera; a folder, a list or a pattern of videos and images;
                or an iterable of `Frame`s. Images are read as by `read`.
            every: read each n-th frame only.
            fps: read at most this many frames a second, instead of `every`.
            start: seconds from the start of each video before which nothing is read.
            end: seconds at which reading ends.
            detect_every: frames from one search for faces to the next; between, and where nothing is lost, faces are followed
                by their mesh. With 1 each frame is read as an image of its own.
            smooth: `"ema"` (over the past only), `"box"` or `"gaussian"` (both look ahead); None for what each frame alone
                gives. The unsmoothed reading stays in `Face.unsmoothed`.
            window: seconds over which is smoothed.
            known: results of the first frames, from an earlier run that was interrupted.
            options: as for `mien.io.sources.iter_images`.

        Yields:
            A frame (pixels, exact time) and its result, for each wanted frame. A video that ends before its time gives one
            more, "unreadable", which says so.

        Raises:
            SourceError: nothing at all can be read.
            ConfigError: an option makes no sense.
            MissingExtra: PyAV is not installed.
        """
        frames = sources.iter_images(source, sampling=Sampling(every, fps, start, end), **options)
        threshold = self.card.calibration.threshold
        return streaming.stream(
            self, frames, detect_every=detect_every, smooth=smooth, window=window, threshold=threshold, known=known
        )

    def unreadable(self, source: str, error: SourceError | None) -> Result:
        """Return the result that stands for an image that could not be read."""
        return Result(source, 0, 0, (), "unreadable", self.name, message=str(error))

    def result(self, image: DecodedImage, faces: Sequence[Face], notes: tuple[str, ...] = ()) -> Result:
        """Return the result of an image with these faces, its own notes and some more."""
        return Result(
            source=image.source,
            width=image.pixels.shape[1],
            height=image.pixels.shape[0],
            faces=tuple(faces),
            status="ok" if faces else "no face",
            model=self.name,
            notes=(*_notes(image, faces), *notes),
        )

    def describe(self, pixels: np.ndarray, boxes: np.ndarray, scores: np.ndarray, points: np.ndarray) -> list[Face]:
        """Read the expressions of faces whose places in an image are known.

        Args:
            pixels: (H, W, 3) uint8 RGB.
            boxes: (N, 4) left, top, right, bottom in pixels, for `Face.box` only.
            scores: (N,) for `Face.detection` only.
            points: (N, P, 3) the meshes.
        """
        candidates = [_Candidate(0, box, float(score), 0.0) for box, score in zip(boxes, scores, strict=True)]
        crops = [self.preprocess.cut(pixels, p) for p in points]
        return self._describe(crops, candidates, points, lambda stage: None)

    def read_all(self, images: Sequence[DecodedImage], clock: Callable[[str], None] = lambda stage: None) -> list[Result]:
        """Read decoded images, all at once; `clock` is called with the name of each stage when it ends."""
        notes: list[tuple[str, ...]] = [()] * len(images)
        if self.detector is None:
            faces, notes = self._whole(images, clock)
        else:
            faces = self._faces(images, self.detector, clock)
        return [self.result(*each) for each in zip(images, faces, notes, strict=True)]

    def _faces(self, images: Sequence[DecodedImage], detector: Any, clock: Callable[[str], None]) -> list[list[Face]]:
        candidates = []
        for index, image in enumerate(images):
            found = detector(image.pixels)
            candidates += [
                _Candidate(index, box, float(score), float(roll))
                for box, score, roll in zip(found.boxes, found.scores, found.roll, strict=True)
            ]
        clock("detect")
        faces: list[list[Face]] = [[] for _ in images]
        if not candidates or self.landmarker is None:
            return faces
        mesh = self.landmarker([(images[c.image].pixels, c.box, c.roll) for c in candidates])
        present = np.flatnonzero(mesh.presence >= PRESENCE)
        candidates, points = [candidates[i] for i in present], mesh.points[present]
        clock("mesh")
        crops = [self.preprocess.cut(images[c.image].pixels, p) for c, p in zip(candidates, points, strict=True)]
        clock("align")
        for c, face in zip(candidates, self._describe(crops, candidates, points, clock), strict=True):
            faces[c.image].append(face)
        return faces

    def _whole(
        self, images: Sequence[DecodedImage], clock: Callable[[str], None]
    ) -> tuple[list[list[Face]], list[tuple[str, ...]]]:
        candidates = [
            _Candidate(i, np.array([0, 0, p.pixels.shape[1], p.pixels.shape[0]], np.float32), 1.0, 0.0)
            for i, p in enumerate(images)
        ]
        points = None
        known: list[np.ndarray | None] = [None] * len(images)
        if self.landmarker is not None and (self.points or self.blendshapes or self.preprocess.regions):
            mesh = self.landmarker.crops([p.pixels for p in images])
            points = mesh.points
            known = [p if sure >= PRESENCE else None for p, sure in zip(points, mesh.presence, strict=True)]
        clock("mesh")
        crops = [self.preprocess.take(image.pixels, p) for image, p in zip(images, known, strict=True)]
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
        blendshapes = None if self.blendshapes is None or points is None else self.blendshapes(points[..., :2])
        clock("blendshapes")
        return [
            self._face(
                c,
                {role: values[i] for role, values in answers.items()},
                points[i] if points is not None and self.points else None,
                None if blendshapes is None else blendshapes[i],
            )
            for i, c in enumerate(candidates)
        ]

    def _face(
        self, candidate: _Candidate, answers: dict[str, np.ndarray], points: np.ndarray | None, blendshapes: np.ndarray | None
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
            blendshapes=None if blendshapes is None else dict(zip(BLENDSHAPES, blendshapes.tolist(), strict=True)),
            valence=valence,
            arousal=arousal,
            action_units=None if units is None else dict(zip(ACTION_UNITS, units, strict=True)),
        )


def _notes(image: DecodedImage, faces: Sequence[Face]) -> tuple[str, ...]:
    """Return the image's notes, with one more if most faces of an array show that red and blue are swapped."""
    if image.source != "<array>" or LIKELY_BGR in image.notes or not faces:
        return image.notes
    boxes = [np.maximum([f.box.left, f.box.top, f.box.right, f.box.bottom], 0).astype(int) for f in faces]
    swapped = [face_looks_bgr(image.pixels[top:bottom, left:right]) for left, top, right, bottom in boxes]
    if sum(swapped) * 2 <= len(faces):
        return image.notes
    warnings.warn(LIKELY_BGR, ColorOrderWarning, stacklevel=4)
    return (*image.notes, LIKELY_BGR)


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
    blendshapes: bool = True,
    threads: int = 1,
    device: str | Device | None = None,
) -> Recognizer:
    """Open a model with the face pipeline that its card asks for. No network is used.

    Args:
        model: name of a bundled model; path of a card (`.toml`), of an `.onnx` or `.safetensors` file with its card, or of a
            training run's folder.
        detector: name in `mien.faces.detection.DETECTORS`, or `"module:attribute"`; `"whole"` if every image is one
            face crop.
        max_faces: keep only this many faces of an image, the largest and surest first.
        min_size: smallest longer side of a face box in pixels.
        threshold: detector score below which nothing is a face; None is the detector's own default.
        max_roll: largest in-plane rotation in degrees at which faces must be found.
        small_faces: look closer, slower, for faces that are small in the image.
        points: whether faces carry their mesh points.
        blendshapes: whether the 52 blendshapes are computed. Without both, a smaller mesh aligns the
            faces in a third of the time.
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
        needed = found is not None or points or blendshapes or bool(card.reading.get("inputs"))
        mesh = "mesh478" if points or blendshapes else "mesh468"
        refine = 0 if mesh == "mesh468" and detector in FITTING else 1
        return Recognizer(
            card,
            runtime,
            found,
            Landmarker(mesh, refine, threads) if needed else None,
            Blendshapes(threads=threads) if blendshapes else None,
            points=points,
        )
