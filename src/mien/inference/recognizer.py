"""The face pipeline: an image in, a `Result` out; and the same for videos, frame by frame.

    detect → landmarks → align → preprocess → run → Result

Faces of several images share one call of the mesh, of the blendshapes and of the classifier.
"""

import dataclasses
import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..cards import Card, Crop
from ..errors import ConfigError, WeightsError
from ..faces.action_units import estimate
from ..faces.alignment import TEMPLATES
from ..faces.finder import FaceFinder, FoundFace, open_finder
from ..faces.gaze import gazes
from ..faces.landmarks import Blendshapes
from ..faces.pose import metric_faces
from ..faces.preprocessing import Preprocess
from ..faces.quality import face_quality, is_certain
from ..io import sources
from ..io.images import LIKELY_BGR, ColorOrderWarning, DecodedImage, face_looks_bgr, read_image
from ..io.sources import Frame, ahead
from ..io.video import Sampling
from ..labels import ACTION_UNITS, BLENDSHAPES
from ..metrics import checked_probabilities
from ..registry import lookup
from ..runtime.devices import CPU, Device, use
from ..runtime.open_model import Batch, open_model
from ..types import FACE, FOV, Box, Face, Gaze, Pose, Result
from .following import Follower, shape_change
from .options import DEFAULTS
from .smoothing import open_smoother

BATCH = 8  # images of one stream whose faces share the network calls
TOGETHER = 1
"""Faces in one call of the classifier on a CPU: two are 1 % faster per face and take 13 MB more, four another 15 MB."""
TICK = 0.04  # seconds from one frame to the next where frames have no time

NO_REGIONS = "no face mesh was found: the regions of eyes, nose and mouth were taken at their mean positions"
"""Note on a face crop read by a network that takes regions."""

Outputs = dict[str, list[float]]  # role → output of the classifier for one face


class Predicted(NamedTuple):
    """What is predicted for a face and may hold for the next frames of a video."""

    outputs: Outputs
    quality: float | None
    blendshapes: list[float] | None


HELD, STILL = 0.125, 0.008
"""Seconds for which predictions hold in a video that is smoothed, three frames at 25 and 30 per second, and change of the mesh
(`shape_change`) above which they end at once. Predictions are from the face without its mirror image."""

ROLES = ("scores", "valence_arousal", "action_units")  # outputs of a card that become fields of a `Face`


class Recognizer:
    """Facial expression recognition in images and videos. Made by `mien.load`; thread-safe.

    Example:
        >>> import mien
        >>> recognizer = mien.load()
        >>> result = recognizer(mien.sample())
        >>> result.faces[0].label
        'happiness'
    """

    def __init__(
        self,
        card: Card,
        runtime: Callable[[Batch], dict[str, np.ndarray]],
        finder: FaceFinder,
        blendshapes: Blendshapes | None = None,
        *,
        points: bool = True,
        fov: float = FOV,
    ) -> None:
        """Assemble a pipeline.

        Args:
            card: model card of the classifier.
            runtime: the classifier: (N, C, H, W), or several arrays by name → outputs by name.
            finder: finds faces and their meshes.
            blendshapes: the blendshape network; None skips it.
            points: whether faces carry their mesh points.
            fov: vertical field of view of the camera in degrees, for the head pose.

        Raises:
            WeightsError: the card has no crop contract, and the finder searches for faces.
            ConfigError: the field of view is not between 1 and 179 degrees.
        """
        self.card, self.runtime, self.finder = card, runtime, finder
        self.blendshapes, self.points, self.fov = blendshapes, points, fov
        self.preprocess = Preprocess.of(card)
        self.name = f"{card.name} {card.version}"
        if not 1 <= fov <= 179:
            raise ConfigError(f"fov must be 1 to 179 degrees, got {fov}", value=fov, expected="1 to 179")
        if finder.detector is not None and (finder.landmarker is None or not self.preprocess.cuts_faces):
            raise WeightsError(
                f"{card.name} cannot crop faces: its card has no [crop]; give one, such as crop='arcface112', or "
                "detector='whole' if each image is a face crop",
                value=card.name,
            )

    def __call__(self, source: Any, **options: Any) -> Result:
        """Run inference on one image.

        Args:
            source: path, URL, bytes, RGB array or PIL image.
            options: as for `mien.io.images.read_image`.

        Raises:
            SourceError: the image cannot be read.
            WeightsError: the network outputs NaN.
        """
        return self.read_all([read_image(source, **options)])[0]

    def timed(self, source: Any, **options: Any) -> tuple[Result, dict[str, float]]:
        """Run inference on one image; return the result and the seconds that each stage took."""
        seconds: dict[str, float] = {}
        clock = _Clock(seconds)
        image = read_image(source, **options)
        clock("decode")
        return self.read_all([image], clock)[0], seconds

    def many(self, images: Any, batch: int = 16, **options: Any) -> Iterator[Result]:
        """Run inference on many images, `batch` at a time; a corrupt one gives a result of status "unreadable".

        Args:
            images: a folder, or an iterable of the inputs of `mien.io.images.read_image`.
            batch: images whose faces share the network calls.
            options: as for `mien.io.sources.iter_images`.

        Yields:
            One result per image, in order.
        """
        return (result for _, result in self._batches(sources.iter_images(images, **options), batch))

    def stream(
        self,
        source: Any,
        *,
        every: int = DEFAULTS.every,
        fps: float | None = DEFAULTS.fps,
        start: float | None = DEFAULTS.start,
        end: float | None = DEFAULTS.end,
        video_stream: int | None = DEFAULTS.video_stream,
        detect_every: int = DEFAULTS.detect_every,
        smooth: str | None = DEFAULTS.smooth,
        window: float = DEFAULTS.window,
        **options: Any,
    ) -> Iterator[tuple[Frame, Result]]:
        """Run inference on videos frame by frame, in constant memory; faces keep their number (`Face.track`) through a video.

        The frames of files are decoded on one thread and their faces found on a second, up to four frames ahead of the results.
        Frames of cameras and of an iterator are read one at a time.

        Args:
            source: a video's path, URL or bytes; the number of a camera; an RTSP or RTMP URL; a folder, a list or a pattern of
                videos and images; or an iterable of `Frame`s. Images are processed independently, animations and pages of TIFF
                files frame by frame. With `fps`, a folder or pattern of numbered images is a video of that rate.
            every: process every n-th frame.
            fps: process at most this many frames per second, instead of `every`.
            start: start time in each video, in seconds.
            end: end time in each video, in seconds.
            video_stream: number of the video stream in files with several, from 0; None: the largest.
            detect_every: frames from one face detection to the next; in between, faces are followed by their mesh. With 1 each
                frame is processed like an image.
            smooth: `"ema"` (past frames only), `"box"` or `"gaussian"` (centered), or None. The values of the frame alone stay
                in `Face.unsmoothed`.
            window: length of the smoothing window in seconds.
            options: as for `mien.io.sources.iter_images`.

        Yields:
            Each frame (pixels, exact time) with its result. A truncated video gives one more result, "unreadable", with the
            reason.

        Raises:
            SourceError: no image can be read.
            ConfigError: an option is out of range.
            MissingExtra: PyAV is not installed.
        """
        sampling = Sampling(every, fps, start, end, video_stream)
        frames = sources.iter_images(source, sampling=sampling, **{"animations": True, "live": True, **options})
        for (_, timed), group in itertools.groupby(frames, _Segments()):
            if timed:
                video = Stream(self, detect_every=detect_every, smooth=smooth, window=window)
                followed = map(video.follow, group)
                for step in ahead(followed, "mien follower") if frames.stored else followed:
                    yield from video.describe(step)
                yield from video.close()
            else:
                yield from self._batches(group, BATCH)

    def _batches(self, frames: Iterable[Frame], size: int) -> Iterator[tuple[Frame, Result]]:
        """Yield independent images with their results; `size` of them share the network calls."""
        frames = iter(frames)
        while group := list(itertools.islice(frames, size)):
            results = iter(self.read_all([frame.image for frame in group if frame.image is not None]))
            for frame in group:
                yield frame, next(results) if frame.image is not None else self.unreadable(frame)

    def unreadable(self, frame: Frame) -> Result:
        """Return the result for an image that cannot be read."""
        return Result(frame.source, 0, 0, (), "unreadable", self.name, message=str(frame.error))

    def result(self, image: DecodedImage, faces: Sequence[Face], notes: tuple[str, ...] = ()) -> Result:
        """Return the result of an image with these faces; `notes` are added to its own."""
        return Result(
            source=image.source,
            width=image.pixels.shape[1],
            height=image.pixels.shape[0],
            faces=tuple(faces),
            status="ok" if faces else "no face",
            model=self.name,
            notes=(*_notes(image, faces), *notes),
        )

    def describe(self, pixels: np.ndarray, faces: Sequence[FoundFace]) -> list[Face]:
        """Run inference on faces of an image (H, W, 3) uint8 RGB whose meshes are known."""
        return self.describe_with(pixels, faces, [None] * len(faces))[0]

    def describe_with(
        self, pixels: np.ndarray, faces: Sequence[FoundFace], known: Sequence[Predicted | None], *, one_view: bool = False
    ) -> tuple[list[Face], list[Predicted]]:
        """Run inference on faces like `describe`, but for the predictions that are known.

        With `one_view`, classifiers that average over the mirror image read the face alone. The predictions for each face are
        returned too.
        """
        missing = [index for index, predicted in enumerate(known) if predicted is None]
        crops = [self._crop(pixels, faces[index]) for index in missing]

        def predict(poses: Sequence[Pose | None]) -> list[Predicted]:
            wanted, images = [faces[index] for index in missing], [pixels] * len(missing)
            new = iter(self._predict(images, wanted, [poses[index] for index in missing], crops, one_view=one_view))
            return [next(new) if each is None else each for each in known]

        return self._describe([pixels] * len(faces), faces, predict)

    def read_all(self, images: Sequence[DecodedImage], clock: Callable[[str], None] = lambda stage: None) -> list[Result]:
        """Run inference on decoded images as one batch; `clock` is called with the name of each stage when it ends."""
        found = self.finder([image.pixels for image in images], clock)
        pixels = [image.pixels for image, faces in zip(images, found, strict=True) for _ in faces]
        faces = [face for each in found for face in each]
        crops = [self._crop(image, face) for image, face in zip(pixels, faces, strict=True)]
        clock("align")
        described = iter(self._describe(pixels, faces, lambda poses: self._predict(pixels, faces, poses, crops, clock))[0])
        missing = self.finder.detector is None and self.preprocess.regions
        return [
            self.result(image, [next(described) for _ in each], (NO_REGIONS,) if missing and each[0].mesh is None else ())
            for image, each in zip(images, found, strict=True)
        ]

    def _crop(self, pixels: np.ndarray, face: FoundFace) -> dict[str, np.ndarray]:
        """Return the inputs of a face: cut out by its mesh, or the whole image where each image is one face crop."""
        if self.finder.detector is None:
            return self.preprocess.take(pixels, face.mesh)
        assert face.points is not None  # a recognizer with a detector has a mesh
        return self.preprocess.cut(pixels, face.points)

    def _describe(
        self,
        images: Sequence[np.ndarray],
        faces: Sequence[FoundFace],
        predict: Callable[[Sequence[Pose | None]], list[Predicted]],
    ) -> tuple[list[Face], list[Predicted]]:
        """Return faces with all measures, and their predictions; `images` holds the image of each."""
        if not faces:
            return [], []
        poses, directions = self._measure(images, _points(faces))
        predicted = predict(poses)
        found = map(self._face, faces, predicted, poses, directions)
        return list(found), predicted

    def _predict(
        self,
        images: Sequence[np.ndarray],
        faces: Sequence[FoundFace],
        poses: Sequence[Pose | None],
        crops: list[dict[str, np.ndarray]],
        clock: Callable[[str], None] = lambda stage: None,
        *,
        one_view: bool = False,
    ) -> list[Predicted]:
        """Return the predictions for faces with their images, head poses and inputs of the classifier."""
        if not faces:
            return []
        qualities = [face_quality(image, face, pose) for image, face, pose in zip(images, faces, poses, strict=True)]
        clock("measures")
        points = None if self.blendshapes is None else _points(faces)
        shapes = [None] * len(faces) if points is None else self.blendshapes(points).tolist()  # pyrefly: ignore
        clock("blendshapes")
        outputs = self._outputs(crops, one_view=one_view)
        clock("classify")
        return list(map(Predicted, outputs, qualities, shapes))

    def _measure(
        self, images: Sequence[np.ndarray], points: np.ndarray | None
    ) -> tuple[Sequence[Pose | None], Sequence[Gaze | None]]:
        """Return head pose and gaze of each face."""
        missing = [None] * len(images)
        if points is None:
            return missing, missing
        faces = metric_faces(points, np.array([image.shape[1::-1] for image in images]), self.fov)
        return faces.poses, gazes(faces) if points.shape[1] > FACE else missing

    def _outputs(self, crops: list[dict[str, np.ndarray]], *, one_view: bool = False) -> list[Outputs]:
        """Return the outputs of the classifier for each face."""
        if not crops:
            return []
        on_cpu = getattr(self.runtime, "device", CPU) == CPU
        step = TOGETHER if on_cpu else len(crops)
        run = getattr(self.runtime, "one_view", self.runtime) if one_view else self.runtime
        found = [run(self.preprocess.batch(crops[i : i + step])) for i in range(0, len(crops), step)]
        roles = [(role, name) for role, name in self.card.outputs.items() if role in ROLES]
        outputs = {role: np.concatenate([part[name] for part in found]) for role, name in roles}
        for role, values in outputs.items():
            if not np.isfinite(values).all():  # argmax over NaN would silently return class 0
                raise WeightsError(
                    f"{self.name} outputs NaN or infinity ({role}): its weights are corrupt, or overflow their precision; "
                    "train it again with a lower learning rate, or export it as fp32",
                    value=role,
                )
        try:
            checked_probabilities(outputs["scores"], self.card.labels, self.name)
        except ValueError as error:
            raise WeightsError(f"{error}; docs/howto/own-model.md describes the outputs of a classifier") from error
        rows = zip(*(values.tolist() for values in outputs.values()), strict=True)
        return [dict(zip(outputs, row, strict=True)) for row in rows]

    def _face(self, found: FoundFace, predicted: Predicted, pose: Pose | None, gaze: Gaze | None) -> Face:
        outputs, quality, blendshapes = predicted
        scores = outputs["scores"]
        confidence = max(scores)
        valence, arousal = outputs.get("valence_arousal", (None, None))
        units = dict(zip(ACTION_UNITS, outputs["action_units"], strict=True)) if "action_units" in outputs else None
        named = None if blendshapes is None else dict(zip(BLENDSHAPES, blendshapes, strict=True))
        estimated = None
        if named is not None and found.points is not None and units is None:
            estimated = estimate(named, found.points)
        return Face(
            box=Box(*found.box.tolist()),
            detection=found.score,
            scores=dict(zip(self.card.labels, scores, strict=True)),
            label=self.card.labels[scores.index(confidence)],
            confidence=confidence,
            certain=is_certain(confidence, self.card.calibration.threshold, quality),
            quality=quality,
            points=found.points if self.points else None,
            blendshapes=named,
            valence=valence,
            arousal=arousal,
            action_units=units,
            action_units_estimated=estimated,
            pose=pose,
            gaze=gaze,
        )


def _points(faces: Sequence[FoundFace]) -> np.ndarray | None:
    """Return the meshes (N, P, 3) of faces, of which all have one or none has."""
    return None if faces[0].points is None else np.array([face.points for face in faces])


def _notes(image: DecodedImage, faces: Sequence[Face]) -> tuple[str, ...]:
    """Return the image's notes, plus one if most faces in an array have red and blue swapped."""
    if image.source != "<array>" or LIKELY_BGR in image.notes or not faces:
        return image.notes
    boxes = [np.maximum([f.box.left, f.box.top, f.box.right, f.box.bottom], 0).astype(int) for f in faces]
    swapped = [face_looks_bgr(image.pixels[top:bottom, left:right]) for left, top, right, bottom in boxes]
    if sum(swapped) * 2 <= len(faces):
        return image.notes
    warnings.warn(LIKELY_BGR, ColorOrderWarning, stacklevel=4)
    return (*image.notes, LIKELY_BGR)


class Followed(NamedTuple):
    """A frame of a video and the faces found in it."""

    frame: Frame
    time: float  # seconds; known also for a frame without a time
    faces: Sequence[FoundFace] = ()
    tracks: Sequence[int] = ()  # track number of each face
    cut: bool = False  # whether the frame begins a scene


class Stream:
    """Inference on one video, frame by frame and in order. Each video needs its own stream, used by one thread.

    Example:
        >>> import mien
        >>> from mien.io.images import read_image
        >>> stream = Stream(mien.load())
        >>> image = read_image(mien.sample())
        >>> for number in range(2):
        ...     for frame, result in stream.push(Frame(number, "memory", image, time=number / 25)):
        ...         print(result.time, [(face.track, face.label) for face in result.faces])
        0.0 [(1, 'happiness')]
        0.04 [(1, 'happiness')]
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        detect_every: int = DEFAULTS.detect_every,
        smooth: str | None = DEFAULTS.smooth,
        window: float = DEFAULTS.window,
    ) -> None:
        """Begin a video; the arguments are those of `Recognizer.stream`.

        Raises UnknownName: unknown kind of smoothing; ConfigError: `detect_every` or `window` is out of range.
        """
        self.recognizer = recognizer
        # Without a detector each frame is one face crop.
        self._follower = Follower(recognizer.finder, detect_every) if recognizer.finder.detector is not None else None
        self._smoother = open_smoother(smooth, window, recognizer.card.calibration.threshold) if smooth else None
        # With detection in each frame, each is processed like an image.
        self._held = HELD if smooth and detect_every > 1 else 0.0
        self._predicted: dict[int, tuple[float, Predicted, FoundFace]] = {}  # track → time, predictions and face
        self._now = -TICK  # time of the last frame, also of one that could not be read

    def push(self, frame: Frame) -> list[tuple[Frame, Result]]:
        """Process the next frame of the video; without a time it is `TICK` seconds after the one before.

        The final results are returned: of this frame, or of earlier ones if the smoothing window is centered.
        """
        return self.describe(self.follow(frame))

    def follow(self, frame: Frame) -> Followed:
        """Find the faces of the next frame: the first half of `push`.

        The second half, `describe`, may run on another thread at the same time, with the frames before; both take the frames
        in order.
        """
        self._now = self._now + TICK if frame.time is None else frame.time
        if frame.image is None or self._follower is None:
            return Followed(frame, self._now)
        seen, tracks = self._follower(frame.image.pixels, self._now)
        return Followed(frame, self._now, [face.found for face in seen], tracks, self._follower.cut)

    def describe(self, followed: Followed) -> list[tuple[Frame, Result]]:
        """Return what `push` returns for a frame whose faces were found by `follow`."""
        frame = followed.frame
        result = self.recognizer.unreadable(frame) if frame.image is None else self._read(frame.image, followed)
        result = dataclasses.replace(result, time=followed.time, frame=frame.index)
        return self._final([(frame, result)] if self._smoother is None else self._smoother.push(frame, result))

    def close(self) -> list[tuple[Frame, Result]]:
        """Return the results that were waiting for later frames."""
        return [] if self._smoother is None else self._final(self._smoother.close())

    def _final(self, done: list[tuple[Frame, Result]]) -> list[tuple[Frame, Result]]:
        """Return results with the times of their frames, which may be None."""
        return [(frame, dataclasses.replace(result, time=frame.time)) for frame, result in done]

    def _read(self, image: DecodedImage, followed: Followed) -> Result:
        if self._follower is None:
            result = self.recognizer.read_all([image])[0]
            return dataclasses.replace(result, faces=tuple(dataclasses.replace(face, track=1) for face in result.faces))
        time, tracks = followed.time, followed.tracks
        if followed.cut:
            self._predicted = {}
        entries = [self._known(track, time, face) for track, face in zip(tracks, followed.faces, strict=True)]
        known = [entry and entry[1] for entry in entries]
        faces, predicted = self.recognizer.describe_with(image.pixels, followed.faces, known, one_view=self._held > 0)
        new = [(time, *each) for each in zip(predicted, followed.faces, strict=True)]
        self._predicted = {track: entry or made for track, entry, made in zip(tracks, entries, new, strict=True)}
        numbered = [dataclasses.replace(face, track=track) for face, track in zip(faces, tracks, strict=True)]
        return self.recognizer.result(image, numbered)

    def _known(self, track: int, time: float, face: FoundFace) -> tuple[float, Predicted, FoundFace] | None:
        """Return the predictions of a track if they hold for its face."""
        entry = self._predicted.get(track)
        holds = entry is not None and abs(time - entry[0]) < self._held and shape_change(entry[2].points, face.points) < STILL
        return entry if holds else None


class _Segments:
    """Key of `itertools.groupby` over frames: a number for each video, or for a run of images; and whether it is a video."""

    def __init__(self) -> None:
        self._number, self._last = 0, Frame(-1, "")

    def __call__(self, frame: Frame) -> tuple[int, bool]:
        last, self._last = self._last, frame
        if frame.time is None or last.time is None:
            self._number += (frame.time is None) != (last.time is None)
        elif frame.source != last.source or (frame.time < last.time and frame.index <= last.index):  # the same video again
            self._number += 1
        return self._number, frame.time is not None


class _Clock:
    """Adds the time since its last call to the named stage."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds, self.last = seconds, time.perf_counter()

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.last
        self.last = now


def load(
    model: str | Path = DEFAULTS.model,
    *,
    detector: str = DEFAULTS.detector,
    crop: str | None = DEFAULTS.crop,
    max_faces: int | None = DEFAULTS.max_faces,
    min_size: float = DEFAULTS.min_size,
    threshold: float | None = DEFAULTS.threshold,
    max_roll: float = DEFAULTS.max_roll,
    small_faces: bool = DEFAULTS.small_faces,
    points: bool = True,
    blendshapes: bool = DEFAULTS.blendshapes,
    fov: float = DEFAULTS.fov,
    threads: int = DEFAULTS.threads,
    device: str | Device | None = None,
) -> Recognizer:
    """Load a model with the face pipeline that its card describes. Works offline.

    Args:
        model: name of a bundled model; path of a card (`.toml`), of an `.onnx` or `.safetensors` file with its card, or of a
            training run's folder.
        detector: name in `mien.faces.detection.DETECTORS`, or `"module:attribute"`; `"whole"` if every image is one
            face crop.
        crop: name in `mien.faces.alignment.TEMPLATES` by which faces are cropped, instead of the crop of the card.
        max_faces: maximum number of faces per image, the most prominent (size × centrality); the main face comes first.
        min_size: minimum longer side of a face's bounding box in pixels.
        threshold: detection score threshold; None is the detector's own default.
        max_roll: largest in-plane rotation in degrees at which faces are detected.
        small_faces: detect at a finer scale too: finds smaller faces, takes longer.
        points: whether faces carry their mesh points.
        blendshapes: whether the 52 blendshapes are computed. Without both, a smaller mesh aligns the
            faces in a third of the time, without gaze.
        fov: vertical field of view of the camera in degrees, for the head pose: distances scale with it.
        threads: threads per network call; `Recognizer.stream` runs two calls at a time.
        device: where all networks run: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`, or `"auto"` for the best available; None:
            as `mien.runtime.devices.use` chose, or else the CPU.

    Raises:
        UnknownName: unknown model, detector or template.
        WeightsError: the weights have no card or do not match it, or the card has no crop and `crop` is not given.
        ConfigError: the device is not available, or `crop` is given for an ensemble.
    """
    if crop is not None:
        lookup(crop, TEMPLATES, "alignment template", plugins=False)
    with use(device):
        card, runtime = open_model(model, threads)
        if crop is not None:
            if card.members:
                message = f"{card.name} is an ensemble, and crop={crop} cannot replace the crops of its members"
                raise ConfigError(message, value=crop)
            card = dataclasses.replace(card, crop=Crop(template=crop))
        needed = detector != "whole" or points or blendshapes or bool(card.reading.get("inputs"))
        mesh = "mesh478" if points or blendshapes else "mesh468"
        finder = open_finder(
            detector,
            mesh=mesh if needed else None,
            threshold=threshold,
            min_size=min_size,
            max_faces=max_faces,
            small_faces=small_faces,
            max_roll=max_roll,
            threads=threads,
        )
        return Recognizer(card, runtime, finder, Blendshapes(threads=threads) if blendshapes else None, points=points, fov=fov)
