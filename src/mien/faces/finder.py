"""Face finder: detection, face mesh and confirmation in one place, for all code that finds faces in images.

    detect ──► mesh ──► keep the faces that the mesh confirms ──► settled? ──► sort, the main face first
                                                                    └─ no: second detector ─┘

A large face with a high detection score settles an image in one pass: the normal portrait. Otherwise RetinaFace searches it:

* upright and upside down, on a small copy. Detectors and the mesh take many inverted faces for upright ones, with a presence of
  1; but RetinaFace scores the right orientation higher (242 of 242 inverted portraits), so it decides between the two;
* on either side, unless that score is high;
* at full resolution, if all faces found are small, for the rest of the group.

Figures of the alternatives: docs/log.md, "Faces on ordinary photographs".
"""

import contextvars
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..metrics.boxes import centers, containment, iou, sides
from .detection import Detections, open_detector
from .detection.detector import UPRIGHT, merged, prominence, rotated
from .detection.resize import fit
from .landmarks import FITTING, PRESENCE, Landmarker, eye_roll, region_crops

Detect = Callable[[np.ndarray], Detections]  # (H, W, 3) uint8 RGB → `Detections`

RETRYING = ("blazeface", "retinaface")
"""Detectors whose unsettled images are searched by RetinaFace too. Others stay what their users chose."""
SURE = 0.8
"""Detection score from which a face settles an image. BlazeFace gives upright portraits with room around them 0.80 or more, and
inverted ones that it takes for upright 0.76 or less."""
LARGE = 0.2  # share of the image's longer side from which a face settles an image
ORIENTATION_SIDE = 320  # longer side in pixels of the copy on which the orientation of faces is decided
CLEAR = 0.997
"""Score of RetinaFace below which an image is searched on its sides too: four of five upright portraits have more, hardly any
of those rotated by 90°."""
CONFIRMED = 0.9
"""Score of RetinaFace in a rotated search, and presence of the mesh, from which a further attempt has found a face."""
SURELY_A_FACE = 0.95
"""Score of RetinaFace from which the usual presence of the mesh suffices where nothing else was found, for profiles and tight
crops. Images without a face reach 0.88."""
CROP = 192  # side in pixels of the crop in which a followed face is verified
SAME_FACE = 0.5  # share of the smaller box from which two detections are one face


@dataclass(frozen=True, slots=True, eq=False)
class FoundFace:
    """One face in an image."""

    box: np.ndarray  # (4,) float32: left, top, right, bottom in pixels
    score: float  # detection score
    points: np.ndarray | None = None  # (P, 3) float32 mesh points in pixels; None without a mesh
    presence: float = 1.0  # probability that the mesh shows a face, 0 … 1; 1 without a mesh
    keypoints: np.ndarray | None = None  # (K, 2) float32: the detector's own keypoints; None where it has none
    agreed: bool = True  # false if the second detector searched the image and did not find this face

    @property
    def roll(self) -> float:
        """In-plane rotation of the mesh in radians, 0 upright; 0 without a mesh."""
        return 0.0 if self.points is None else float(eye_roll(self.points))

    @property
    def mesh(self) -> np.ndarray | None:
        """The mesh points if the mesh shows a face, else None."""
        return self.points if self.presence >= PRESENCE else None


class Deferred:
    """A detector that is opened when it is first used, on the device that is selected now: many images never need it."""

    def __init__(self, name: str, threads: int) -> None:
        context = contextvars.copy_context()
        self._open = lru_cache(lambda: context.run(open_detector, name, threads=threads))
        self._lock = threading.Lock()

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of a uint8 RGB image."""
        with self._lock:
            detector = self._open()
        return detector(image)


@dataclass(eq=False)
class FaceFinder:
    """Finds the faces of images. Thread-safe; opened by `open_finder`.

    Example:
        >>> find = open_finder()
        >>> find([np.zeros((64, 64, 3), np.uint8)])
        [[]]
    """

    detector: Detect | None  # finds boxes; None where each image is one face crop
    landmarker: Landmarker | None = None  # the face mesh; None skips it and the confirmation
    second: Detect | None = field(default=None, kw_only=True)
    """RetinaFace, for images that the detector does not settle; None skips further attempts."""
    min_size: float = field(default=0, kw_only=True)  # minimum of a box's longer side in pixels that the second detector finds
    max_faces: int | None = field(default=None, kw_only=True)
    """Maximum number of faces per image, the most prominent; None for all."""

    def __call__(
        self, images: Sequence[np.ndarray], clock: Callable[[str], None] = lambda stage: None
    ) -> list[list[FoundFace]]:
        """Return the faces of each image (H, W, 3) uint8 RGB, the main face first; `clock` is called when a stage ends.

        Without a detector each image gives exactly one face; `FoundFace.mesh` is None where its mesh shows no face.
        """
        if self.detector is None:
            faces = self._whole(images)
            clock("mesh")
            return [[face] for face in faces]
        detections = [self.detector(image) for image in images]
        clock("detect")
        found = self.confirm(images, detections)
        clock("mesh")
        found = [self.settle(image, faces) for image, faces in zip(images, found, strict=True)]
        clock("detect")
        return found

    def confirm(self, images: Sequence[np.ndarray], detections: Sequence[Detections]) -> list[list[FoundFace]]:
        """Compute the meshes of detected faces, and return those that show a face, for each image, the main face first."""
        places = [(index, row) for index, each in enumerate(detections) for row in range(len(each))]
        boxes = [(images[index], detections[index].boxes[row], float(detections[index].roll[row])) for index, row in places]
        meshes: Iterable[tuple[np.ndarray | None, float]] = [(None, 1.0)] * len(places)
        if self.landmarker is not None and places:
            mesh = self.landmarker(boxes)
            meshes = zip(mesh.points, mesh.presence.tolist(), strict=True)
        found: list[list[FoundFace]] = [[] for _ in images]
        for (index, row), (points, presence) in zip(places, meshes, strict=True):
            each = detections[index]
            keypoints = None if each.points is None else each.points[row]
            if presence >= PRESENCE:
                found[index].append(FoundFace(each.boxes[row], float(each.scores[row]), points, presence, keypoints))
        return [self._sorted(each, image) for each, image in zip(found, images, strict=True)]

    def settle(self, image: np.ndarray, faces: list[FoundFace]) -> list[FoundFace]:
        """Return the faces of an image, improved by the second detector if those that the detector found do not settle it."""
        second, long = self.second, max(image.shape[:2])
        if second is None:
            return faces
        searches = []
        if not any(face.score >= SURE for face in faces):
            small, scale = fit(image, min(long, ORIENTATION_SIDE))
            found = rotated(second, small, (0, 2))
            if found.scores.max(initial=0) < CLEAR:
                found = merged([found, rotated(second, small, (1, 3))])
            searches.append(found.scaled(1 / scale))
            faces = self._combined(image, faces, searches[0].select(found.scores >= CONFIRMED))
        if max((sides(face.box).max() for face in faces), default=long) < LARGE * long:
            searches.append(second(image))
            faces = self._combined(image, faces, searches[-1])
        if not searches:
            return faces
        seen = np.concatenate([found.boxes for found in searches])
        return [face if (containment(face.box, seen) > SAME_FACE).any() else replace(face, agreed=False) for face in faces]

    def verifies(self, image: np.ndarray, region: np.ndarray) -> bool:
        """Return whether the detector finds a face in the upright crop around a mesh's region (4,), see `mien.faces.landmarks`.

        It confirms a face that has turned too far for the search of the image as it is.
        """
        if self.detector is None:
            return True
        wider = region * np.array([1, 1, 1.5, 1])
        crop = np.rint(region_crops([image], wider[None], CROP)[0][0] * 255).astype(np.uint8)
        boxes = self.detector(np.ascontiguousarray(crop)).boxes
        return bool((np.abs(centers(boxes) - CROP / 2) < CROP / 4).all(-1).any())

    def _combined(self, image: np.ndarray, faces: list[FoundFace], found: Detections) -> list[FoundFace]:
        """Add the detections that are new, and let them replace faces that were found in another orientation."""
        boxes = np.stack([face.box for face in faces]) if faces else np.zeros((0, 4), np.float32)
        roll = np.array([face.roll for face in faces])
        same = containment(found.boxes[:, None], boxes[None]) > SAME_FACE
        turned = np.cos(found.roll[:, None] - roll) < np.cos(np.radians(UPRIGHT))
        new = (~same | turned).all(1) & (sides(found.boxes).max(-1) >= self.min_size)
        (fresh,) = self.confirm([image], [found.select(new)])
        fresh = [face for face in fresh if face.presence >= CONFIRMED or (not faces and face.score >= SURELY_A_FACE)]
        kept = [face for face in faces if not any(containment(face.box, other.box) > SAME_FACE for other in fresh)]
        return self._sorted([*kept, *fresh], image) if fresh else faces

    def _whole(self, images: Sequence[np.ndarray]) -> list[FoundFace]:
        boxes = [np.array([0, 0, image.shape[1], image.shape[0]], np.float32) for image in images]
        if self.landmarker is None or not boxes:
            return [FoundFace(box, 1.0) for box in boxes]
        mesh = self.landmarker.crops(images)
        meshes = zip(mesh.points, mesh.presence.tolist(), strict=True)
        return [FoundFace(box, 1.0, *each) for box, each in zip(boxes, meshes, strict=True)]

    def _sorted(self, faces: list[FoundFace], image: np.ndarray) -> list[FoundFace]:
        if len(faces) < 2:
            return faces
        order = np.argsort(-prominence(np.stack([face.box for face in faces]), *image.shape[:2]), kind="stable")
        return [faces[i] for i in order[: self.max_faces]]


def matching(faces: Sequence[FoundFace], box: Sequence[float] | np.ndarray | None = None) -> FoundFace | None:
    """Return the face that overlaps most with an annotated box (4,), or the main face without a box; None if there is none."""
    if not faces or box is None:
        return faces[0] if faces else None
    overlap = iou(np.asarray(box, np.float64), np.stack([face.box for face in faces]))
    return faces[int(overlap.argmax())] if overlap.max() > 0 else None


def open_finder(
    detector: str = "blazeface",
    *,
    mesh: str | None = "mesh478",
    retry: bool = True,
    max_faces: int | None = None,
    threads: int = 1,
    **options: Any,
) -> FaceFinder:
    """Open the networks of a face finder.

    `detector` is a name in `mien.faces.detection.DETECTORS`, or `"module:attribute"`; `"whole"` if every image is one face
    crop. `mesh` is a name in `mien.faces.landmarks.MESHES`, or None for no mesh; `"mesh468"` takes a fifth of the time, without
    irises. With `retry` RetinaFace searches the images that BlazeFace does not settle, upright and rotated; not those of a
    detector with a `threshold` of the user. At most `max_faces` are found per image, the most prominent (size × centrality).
    `options` are further ones of `open_detector`. Raises ConfigError: an option out of range; other errors as of
    `open_detector`.
    """
    if max_faces is not None and max_faces < 1:
        raise ConfigError(f"max_faces must be 1 or more, got {max_faces}", value=max_faces, expected="1 or more, or None")
    # BlazeFace's boxes are those that the mesh expects, so the small mesh needs no second pass there.
    refine = 0 if mesh == "mesh468" and detector in FITTING else 1
    landmarker = None if mesh is None else Landmarker(mesh, refine, threads)
    if detector == "whole":
        return FaceFinder(None, landmarker)
    first = open_detector(detector, threads=threads, **options)
    retry = retry and options.get("threshold") is None and landmarker is not None and detector in RETRYING
    second = Deferred("retinaface", threads) if retry else None
    return FaceFinder(first, landmarker, second=second, min_size=first.min_size, max_faces=max_faces)
