"""Options of inference, their defaults and their help: one dataclass for Python, the commands, the server and `mien.batch`."""

# Annotations are not postponed here: the commands extend this class in another module and resolve its types there.
import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..io.images import MAX_BYTES, MAX_PIXELS, TIMEOUT, ReadOptions
from ..io.video import Sampling
from ..types import FOV, GROUPS, Group, Points

Smoothing = Literal["ema", "box", "gaussian"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a result depends on besides its image. `mien.load` and `Recognizer.stream` take the same names.

    Example:
        >>> Options(max_faces=1, points="none").sampling
        Sampling(every=1, fps=None, start=None, end=None, stream=None)
    """

    model: str = "mien-base"
    """Bundled model, card (.toml), weight file or folder of a training run."""
    detector: str = "blazeface"
    """Face detector: blazeface, retinaface, mtcnn, mtcnn-evolve, dlib; whole if each image is a face crop."""
    crop: str | None = None
    """Template by which faces are cropped (arcface112, ddamfn5, fer2013 …), instead of the crop of the model's card."""
    max_faces: int | None = None
    """Maximum number of faces per image, the largest and most confident first."""
    min_size: float = 0
    """Minimum face size: longer side of the bounding box in pixels."""
    threshold: float | None = None
    """Detection score threshold; the default depends on the detector."""
    max_roll: float = 45
    """Largest in-plane rotation, in degrees, at which faces are detected."""
    small_faces: bool = False
    """Detect at a finer scale too: finds smaller faces, takes longer."""
    points: Points = "5"
    """Landmarks in the output: none, 5, 68 or all 478 of the face mesh; all also draws them."""
    blendshapes: bool = True
    """Compute the 52 blendshapes, and the action units estimated from them."""
    columns: tuple[Group, ...] = ("expression", "pose", "gaze", "units", "blendshapes")
    """Groups of columns in CSV, parquet and JSON: expression, pose, gaze, units, blendshapes, landmarks68, mesh."""
    fov: float = FOV
    """Vertical field of view of the camera in degrees, for head pose: distances scale with it."""
    threads: int = 1
    """Threads per network call."""
    device: str = "cpu"
    """Device: cpu, cuda (cuda:1 is the second GPU), mps, or auto for the best available."""
    allow_private: bool = False
    """Allow URLs that resolve to private and local addresses."""
    max_pixels: int = MAX_PIXELS
    """Limit of width × height of an image or video."""
    max_bytes: int = MAX_BYTES
    """Limit of the size of an image file or download, in bytes."""
    timeout: float = TIMEOUT
    """Limit of a download in seconds."""
    truncated: bool = False
    """Decode as much as there is of truncated images, with a note."""
    frames: bool = False
    """Process animations and multi-page TIFF files frame by frame, as is done wherever frames of a video are selected."""
    every: int = 1
    """Process every N-th frame of a video."""
    fps: float | None = None
    """Process at most this many frames per second of video; the frame rate of a folder of numbered images."""
    start: float | None = None
    """Start time in each video, in seconds."""
    end: float | None = None
    """End time in each video, in seconds."""
    video_stream: int | None = None
    """Number of the video stream in files with several, from 0; the largest by default."""
    smooth: Smoothing | None = "ema"
    """Temporal smoothing: ema (past frames only), box or gaussian (centered), none."""
    window: float = 0.25
    """Length of the smoothing window in seconds."""
    detect_every: int = 10
    """Run face detection every N frames; track in between. 1 detects in each frame."""
    baseline: str | None = None
    """Subtract each person's neutral from blendshapes and action units: median, "first 5 s", or a neutral image."""

    @property
    def sampling(self) -> Sampling:
        """Which frames of videos are processed.

        Raises ConfigError: a value is out of range, or `every` and `fps` exclude each other.
        """
        return Sampling(self.every, self.fps, self.start, self.end, self.video_stream)

    @property
    def animations(self) -> bool:
        """Whether animations and pages are processed frame by frame: on request, or if frames of videos are selected."""
        return self.frames or self.sampling != Sampling()

    @property
    def reading(self) -> ReadOptions:
        """The keywords of `mien.io.images.read_image`."""
        return {
            "allow_private": self.allow_private,
            "max_pixels": self.max_pixels,
            "max_bytes": self.max_bytes,
            "timeout": self.timeout,
            "truncated": self.truncated,
        }

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of columns: `columns`, and those of the landmarks in `points`."""
        asked = {*self.columns, *{"68": ("landmarks68",), "all": ("mesh",)}.get(self.points, ())}
        asked -= set() if self.blendshapes else {"blendshapes"}
        return tuple(group for group in GROUPS if group in asked)

    @property
    def landmarks(self) -> Points:
        """The landmarks in JSON: `points`, or more if `columns` includes them."""
        order: tuple[Points, ...] = get_args(Points)
        by_group: dict[Group, Points] = {"landmarks68": "68", "mesh": "all"}
        wanted = [self.points, *(points for group, points in by_group.items() if group in self.columns)]
        return max(wanted, key=order.index)

    @property
    def loading(self) -> dict[str, Any]:
        """The keywords of `mien.load`."""
        names = ("model", "detector", "crop", "max_faces", "min_size", "threshold", "max_roll", "small_faces", "blendshapes")
        found = {name: getattr(self, name) for name in (*names, "fov", "threads", "device")}
        return found | {"points": self.landmarks != "none"}

    @property
    def streaming(self) -> dict[str, Any]:
        """The keywords of `Recognizer.stream`, but those of `sampling`."""
        return {name: getattr(self, name) for name in ("smooth", "window", "detect_every")}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**dataclasses.asdict(self), "columns": list(self.columns)}


DEFAULTS = Options()
"""The defaults."""
