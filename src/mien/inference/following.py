"""Face tracking in video: detection every few frames, the face mesh in between, and a track number for each face.

    frame ──► follow (mesh in the last frame's regions) ──► detect (if due, lost or after a cut) ──► assign track numbers

The mesh alone costs a third of detection and mesh, and stays on its face from frame to frame. The whole image is searched every
`detect_every` frames, when a face was lost, after a cut, when frames are far apart, and as long as no face is visible. Where
faces are followed, two of three such searches are quick: without the enlarged views in which BlazeFace finds small faces.
"""

import dataclasses

import numpy as np

from ..errors import ConfigError
from ..faces.alignment import crop_square, square_matrix
from ..faces.detection.detections import Detections
from ..faces.detection.detector import prominence
from ..faces.detection.nms import suppress
from ..faces.finder import FaceFinder, FoundFace
from ..faces.landmarks import PRESENCE, regions_of_points
from ..metrics.boxes import iou
from .options import DEFAULTS
from .tracking import Tracker

APART = 0.25  # seconds between two frames above which faces are detected instead of followed: they may have moved anywhere
RETRY = 3  # frames between detections while a face is lost
MISSING = 0.5  # seconds for which a lost face is searched for
THOROUGH = 3
"""Detections from one search for small faces to the next, as long as the faces that are followed are found without it."""
UNCONFIRMED = 5  # consecutive detections that miss a face before it is dropped
SAME = 0.4  # IoU above which two bounding boxes are the same face
LOOK = 16  # side in pixels of the thumbnail by which faces are re-identified


@dataclasses.dataclass(slots=True, eq=False)
class Seen:
    """A face in the last frame: what is needed to find it in the next."""

    points: np.ndarray  # (P, 3) mesh points
    region: np.ndarray  # (4,) region around them, as `mien.faces.landmarks` defines it: the input of the mesh in the next frame
    score: float  # presence score of the mesh, or detection score in a frame with detection
    relation: np.ndarray
    """(4,) bounding box relative to the region: from its center to the box's sides, in units of the region's side."""
    presence: float = 1.0  # presence score of the mesh
    unconfirmed: int = 0  # consecutive detections that missed it

    @property
    def box(self) -> np.ndarray:
        """(4,) bounding box that the detector would give."""
        x, y, side, _ = self.region
        return np.array([x, y, x, y]) + self.relation * side

    @property
    def found(self) -> FoundFace:
        """The face as a face finder gives it."""
        return FoundFace(self.box, self.score, self.points, self.presence)


class Follower:
    """Finds the faces of one video, frame by frame, and gives each its track number. Used by one thread.

    Faces are detected every `detect_every` frames, otherwise followed. Raises ConfigError: `detect_every` is below 1.
    """

    def __init__(self, finder: FaceFinder, detect_every: int = DEFAULTS.detect_every) -> None:
        if detect_every < 1:
            message = f"detect_every must be 1 or more, got {detect_every}; 1 runs face detection in each frame"
            raise ConfigError(message, value=detect_every)
        self.finder, self.detect_every = finder, detect_every
        self.tracker = Tracker()
        self.cut = True
        """Whether the last frame began a scene."""
        self._seen: list[Seen] = []
        self._since = 0  # frames since the last detection
        self._quick = 0  # quick detections since the last thorough one
        self._lost_at = self._time = -np.inf
        self._small: np.ndarray | None = None

    def __call__(self, pixels: np.ndarray, time: float) -> tuple[list[Seen], list[int]]:
        """Return the faces of the next frame (H, W, 3), and their track numbers; `time` is in seconds."""
        small = shrink(pixels)
        cut = self.cut = self._small is None or is_cut(self._small, small)
        seen = self._find(pixels, time, cut)
        boxes = np.array([face.box for face in seen]).reshape(-1, 4)
        order = np.argsort(-prominence(boxes, *pixels.shape[:2]), kind="stable")[: self.finder.max_faces]
        seen, boxes = [seen[i] for i in order], boxes[order]
        regions = np.array([face.region for face in seen]).reshape(-1, 4)
        tracks = self.tracker.update(boxes, lambda: appearance(pixels, regions), time, cut=cut)
        self._seen, self._time, self._small = seen, time, small
        return seen, tracks

    def _find(self, pixels: np.ndarray, time: float, cut: bool) -> list[Seen]:
        seen = []
        if not cut and time - self._time <= APART and self.detect_every > 1:
            seen = self._follow(pixels)
            if len(seen) < len(self._seen):
                self._lost_at = time
        self._since += 1
        lost = time - self._lost_at <= MISSING and (self._since >= RETRY or time == self._lost_at)
        if seen and not lost and self._since < self.detect_every:
            return seen
        self._since = 0
        return self._detect(pixels, seen, quick=not lost)

    def _follow(self, pixels: np.ndarray) -> list[Seen]:
        """Find the faces of the last frame near their last position; of two that have merged, the more confident stays."""
        if not self._seen or self.finder.landmarker is None:
            return []
        before = np.array([face.region for face in self._seen])
        mesh = self.finder.landmarker.locate([pixels] * len(before), before, refine=0)
        found = [
            dataclasses.replace(face, points=points, region=region, score=float(presence), presence=float(presence))
            for face, points, region, presence in zip(self._seen, mesh.points, mesh.regions, mesh.presence, strict=True)
            if presence >= PRESENCE and _inside(region, pixels)
        ]
        return distinct(found)

    def _search(self, pixels: np.ndarray, boxes: np.ndarray, *, quick: bool) -> tuple[Detections, np.ndarray]:
        """Return the faces in the whole image, and their IoU (N, M) with the boxes (M, 4) of those that are followed."""
        detector = self.finder.detector
        assert detector is not None
        search = getattr(detector, "quick", None)
        if quick and search and len(boxes) and self._quick + 1 < THOROUGH:
            self._quick += 1
            detections = search(pixels)
            overlap = iou(detections.boxes[:, None].astype(np.float64), boxes[None])
            if (overlap.max(0, initial=0) > SAME).all():
                return detections, overlap
        self._quick = 0
        detections = detector(pixels)
        return detections, iou(detections.boxes[:, None].astype(np.float64), boxes[None])

    def _detect(self, pixels: np.ndarray, followed: list[Seen], *, quick: bool) -> list[Seen]:
        """Detect faces in the whole image: confirm those that are followed, add the others."""
        boxes = np.array([face.box for face in followed]).reshape(-1, 4)
        detections, overlap = self._search(pixels, boxes, quick=quick)
        known = overlap.max(1, initial=0) > SAME
        confirmed = set()
        for place in np.flatnonzero(known):
            index = int(overlap[place].argmax())
            confirmed.add(index)
            face, box = followed[index], detections.boxes[place]
            face.relation, face.score = relation(face.region, box), float(detections.scores[place])
        for index, face in enumerate(followed):
            # A face that has turned too far for the detector is searched upright before it counts as missed.
            if index in confirmed or self.finder.verifies(pixels, face.region):
                face.unconfirmed = 0
            else:
                face.unconfirmed += 1
        kept = [face for face in followed if face.unconfirmed < UNCONFIRMED]
        (found,) = self.finder.confirm([pixels], [detections.select(~known)])
        if not kept and not found:
            found = self.finder.settle(pixels, [])
        new = [_seen(face) for face in found]
        return distinct([*kept, *new]) if kept else new


def _seen(face: FoundFace) -> Seen:
    assert face.points is not None
    (region,) = regions_of_points(face.points[None])
    return Seen(face.points, region, face.score, relation(region, face.box), face.presence)


def appearance(pixels: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return (N, D) appearance vectors of length one: an upright thumbnail of each face without its mean brightness.

    The pixels are (H, W, 3) uint8, the regions (N, 4) around the meshes, see `mien.faces.landmarks`.
    """
    found = np.empty((len(regions), LOOK * LOOK * 3))
    for row, (x, y, side, roll) in zip(found, regions.tolist(), strict=True):
        back = square_matrix(x, y, max(0.87 * side, 1), roll, LOOK)  # the width of the face plus a third
        row[:] = crop_square(pixels, back, LOOK).ravel()
        row -= row.mean()
        row /= max(float(np.linalg.norm(row)), 1e-9)
    return found


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Return whether two thumbnails (h, w) show different scenes: many fields changed, and they hardly correlate.

    Measured: at cuts between portraits of the same framing, at least 39 % of the fields changed, with a correlation of at most
    0.78; four large faces that cross the image within a second change 22 % from every fifth frame to the next.
    """
    if before.shape != after.shape:
        return True
    if float((np.abs(before - after) > 10).mean()) < 0.3:
        return False
    a, b = before - before.mean(), after - after.mean()
    return float((a * b).sum()) < 0.85 * float(np.sqrt((a * a).sum() * (b * b).sum()))


def relation(region: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return (4,) the position of a bounding box (4,) relative to a region (4,) of a mesh; see `Seen.relation`."""
    x, y, side, _ = region
    return (np.asarray(box, np.float64) - [x, y, x, y]) / max(side, 1e-6)


def shrink(pixels: np.ndarray, rows: int = 18, columns: int = 24) -> np.ndarray:
    """Return a thumbnail (rows, columns): the mean of the green channel in each field, from every fourth pixel or so."""
    step = max(min(pixels.shape[0] // rows, pixels.shape[1] // columns) // 4, 1)
    thin = pixels[::step, ::step, 1].astype(np.float32)
    rows, columns = min(rows, thin.shape[0]), min(columns, thin.shape[1])
    height, width = thin.shape[0] // rows, thin.shape[1] // columns
    return thin[: height * rows, : width * columns].reshape(rows, height, columns, width).mean((1, 3))


def shape_change(before: np.ndarray | None, after: np.ndarray | None) -> float:
    """Return how far two meshes (P, 3) differ when position, size and rotation in the image are removed: RMS, in mesh radii.

    Measured from frame to frame: 0.002 to 0.007 for a still portrait in the noise of a camera, 0.002 to 0.013 for a person.
    """
    if before is None or after is None:
        return np.inf
    a, b = (points[:, :2].astype(np.float64).view(np.complex128)[:, 0] for points in (before, after))
    a, b = a - a.mean(), b - b.mean()
    size = float(np.vdot(a, a).real * np.vdot(b, b).real)
    return max(1 - abs(complex(np.vdot(a, b))) ** 2 / max(size, 1e-9), 0.0) ** 0.5


def distinct(seen: list[Seen]) -> list[Seen]:
    """Drop faces that overlap one with a better score; the order is kept."""
    if len(seen) < 2:
        return seen
    regions = np.array([face.region for face in seen])
    half = regions[:, 2:3] / 3
    boxes = np.concatenate([regions[:, :2] - half, regions[:, :2] + half], 1)
    return [seen[i] for i in sorted(suppress(boxes, np.array([face.score for face in seen]), SAME))]


def _inside(region: np.ndarray, pixels: np.ndarray) -> bool:
    """Return whether the center of a region is in the image."""
    x, y = region[:2]
    return 0 <= x < pixels.shape[1] and 0 <= y < pixels.shape[0]
