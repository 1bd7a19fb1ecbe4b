"""Annotated images: a bounding box for each face, its expression, and bars of all probabilities where there is room.

Sizes follow the image and its faces, so that a phone photo and a thumbnail are both readable; images below `SMALL` pixels are
enlarged by an integer factor first. A face that the model abstains on gets a dashed gray box and the label "uncertain". Colors
are distinguishable under the three kinds of color blindness (measured in the tests), and color is never the only
code. The font is Pillow's own.
"""

import functools
import html as markup
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import ConfigError, SourceError
from ..io.images import read_image
from ..io.video import is_video
from ..types import LAYERS, Face, Gaze, Layer, Pose, Result
from . import shapes as brushes
from .label_layout import Placement, leader, place
from .pages import data_uri, html_table
from .shapes import DARK, Ink

SMALL = 720  # images whose longer side is shorter than this are enlarged, sixteen times at most
BARS_UP_TO = 6  # with more faces than this, each gets a label only
ROWS = 8  # at most this many bars: the most probable classes, in the order of the model's card

COLORS: Mapping[str, Ink] = {
    "neutral": (213, 222, 230),
    "happiness": (245, 233, 46),
    "surprise": (255, 174, 66),
    "sadness": (108, 176, 250),
    "anger": (217, 84, 30),
    "disgust": (60, 203, 146),
    "fear": (190, 98, 168),
    "contempt": (122, 101, 239),
    "other": (138, 122, 98),
}
"""Color of each expression; classes of other names get `UNKNOWN`."""

UNKNOWN: Ink = (176, 200, 176)
UNCERTAIN: Ink = (168, 174, 182)
TEXT: Ink = (246, 247, 249)
QUIET: Ink = (166, 172, 180)
TRACK: Ink = (70, 76, 86)
PLATE_ALPHA = 0.88

AXES: Sequence[tuple[str, tuple[float, float, float], Ink]] = (
    ("x", (6, 0, 0), (232, 93, 76)), ("y", (0, 6, 0), (104, 196, 103)), ("z", (0, 0, 6), (83, 152, 240)),
)  # fmt: skip
"""Axes of the head, in cm: to the person's left, up, and forward."""
NOSE = np.array([0.0, -0.463, 7.587])  # tip of the nose in the canonical face, in cm: the origin of the axes
EYEBALLS = {"right": np.array([-3.26, 2.83, 3.82]), "left": np.array([3.26, 2.83, 3.82])}
"""Irises of the canonical face at rest, in cm: where the rays of the gaze begin."""
RAY = 9.0  # length of a ray in cm
RAY_INK: Ink = (250, 214, 80)


def draw(image: Any, result: Result, *, layers: Sequence[Layer] = (), enlarge: bool = True) -> Image.Image:
    """Return an annotated copy of the image.

    Args:
        image: the image of the result: path, URL, bytes, RGB array, PIL image, or `DecodedImage`.
        result: its result.
        layers: what to draw besides boxes and labels: `"pose"` the axes of the head (z is where the face points), `"gaze"` a
            ray from each open eye, `"mesh"` the landmarks, if the result has them.
        enlarge: whether small images are enlarged, so that labels fit.

    Returns:
        An RGB image of the image's size, or a whole multiple of it where the longer side is below 720 pixels.

    Raises:
        SourceError: the image cannot be read.
        ConfigError: an unknown layer.
        ValueError: the result is of an image of another size.

    Example:
        >>> import mien
        >>> result = mien.load()(mien.sample())
        >>> mien.draw(mien.sample(), result).size
        (1024, 1024)
    """
    for layer in layers:
        if layer not in LAYERS:
            raise ConfigError(f"unknown layer {layer!r}; known: {', '.join(LAYERS)}", value=layer, expected=LAYERS)
    pixels = read_image(image).pixels
    height, width = pixels.shape[:2]
    if (width, height) != (result.width, result.height):
        raise ValueError(f"the result is of a {result.width}×{result.height} image, got an image of {width}×{height}")
    canvas, scale = magnified(pixels, SMALL if enlarge else 0)
    if result.faces:
        _draw_faces(canvas, result.faces, scale, layers)
    else:
        _draw_note(canvas, "no face found")
    return canvas


def magnified(pixels: np.ndarray, side: int) -> tuple[Image.Image, int]:
    """Return an image (H, W, 3) enlarged to a longer side of `side` pixels or more, and the factor, an integer up to 16."""
    height, width = pixels.shape[:2]
    scale = min(max(-(-side // max(width, height)), 1), 16)
    return Image.fromarray(pixels).resize((width * scale, height * scale), Image.Resampling.BICUBIC), scale


def color(face: Face) -> Ink:
    """Return the RGB color of a face's expression."""
    return COLORS.get(face.label, UNKNOWN) if face.certain else UNCERTAIN


def arrange(faces: Sequence[Face], boxes: np.ndarray, size: tuple[int, int]) -> tuple["list[Label | Bars]", Placement]:
    """Place bars at as many of the largest faces as there is room for, and labels at the others.

    `boxes` are their (N, 4) boxes on a canvas of width and height `size`: left, top, right, bottom.
    """
    unit, heights = _unit(size), boxes[:, 3] - boxes[:, 1]
    gap = max(unit / 5, 2)
    plates: list[Label | Bars] = []
    for face, height in zip(faces, heights, strict=True):
        plates.append(Label(face, max(float(np.clip(0.25 * height, 0.62 * unit, unit)), 10)))
    found = place(boxes, np.array([plate.size for plate in plates]), size, gap)
    largest = np.argsort(-heights, kind="stable") if len(faces) <= BARS_UP_TO else []
    for count in range(len(largest), 0, -1):
        for shrink in (1.0, 0.8):
            tried = list(plates)
            for i in largest[:count]:
                tried[i] = Bars(faces[i], max(shrink * float(np.clip(0.09 * heights[i], 0.7 * unit, unit)), 11))
            spots = place(boxes, np.array([plate.size for plate in tried]), size, gap)
            if spots.clean.all():
                return tried, spots
    return plates, found


class Label:
    """One line: chip, expression, percent. The text is `em` pixels high, `size` is (width, height) in pixels."""

    def __init__(self, face: Face, em: float) -> None:
        self.face, self.em = face, em
        self.font = font(em)
        self.name = _title(face)
        self.percent = f"{face.confidence:.0%}"
        text = self.font.getlength(self.name) + self.font.getlength(self.percent)
        self.size = (text + 2.05 * em, 1.45 * em)

    def paint(self, canvas: Image.Image, left: float, top: float) -> None:
        """Draw it with its upper left corner at this position."""
        em, (width, height), face = self.em, self.size, self.face
        brushes.rectangle(canvas, np.array([left, top, left + width, top + height]), DARK, 0.28 * em, PLATE_ALPHA)
        middle, ink = top + height / 2, TEXT if face.certain else QUIET
        brushes.chip(canvas, (left + 0.72 * em, middle), color(face), 0.26 * em, hollow=not face.certain)
        pen = ImageDraw.Draw(canvas)
        pen.text((left + 1.25 * em, middle), self.name, ink, self.font, "lm")
        pen.text((left + width - 0.45 * em, middle), self.percent, ink, self.font, "rm")


class Bars:
    """Expression and percent, and below them one bar for each class; `em` and `size` as for `Label`."""

    def __init__(self, face: Face, em: float) -> None:
        self.face, self.em = face, em
        self.head, self.font = font(1.1 * em), font(0.84 * em)
        likely = sorted(face.scores, key=lambda name: -face.scores[name])[:ROWS]
        self.rows = [(name, share) for name, share in face.scores.items() if name in likely]
        self.title, self.share = _title(face), f"{face.confidence:.0%}" if face.certain else ""
        self.names = max(self.font.getlength(name) for name, _ in self.rows)
        self.percents = self.font.getlength("100%")
        title = self.head.getlength(self.title) + self.head.getlength(self.share) + (2.7 if self.share else 2.3) * em
        self.size = (max(self.names + self.percents + 6.6 * em, title), (2.7 + 1.22 * len(self.rows)) * em)

    def paint(self, canvas: Image.Image, left: float, top: float) -> None:
        """Draw it with its upper left corner at this position."""
        em, (width, height), face = self.em, self.size, self.face
        brushes.rectangle(canvas, np.array([left, top, left + width, top + height]), DARK, 0.4 * em, PLATE_ALPHA)
        brushes.chip(canvas, (left + 0.98 * em, top + 1.15 * em), color(face), 0.28 * em, hollow=not face.certain)
        pen, right = ImageDraw.Draw(canvas), left + width - 0.7 * em
        pen.text((left + 1.6 * em, top + 1.15 * em), self.title, TEXT if face.certain else QUIET, self.head, "lm")
        pen.text((right, top + 1.15 * em), self.share, TEXT, self.head, "rm")
        start, end = left + 1.3 * em + self.names, right - self.percents - 0.5 * em
        for row, (name, share) in enumerate(self.rows):
            middle = top + (2.35 + 1.22 * (row + 0.5)) * em
            ink = TEXT if name == face.label and face.certain else QUIET
            pen.text((start - 0.6 * em, middle), name, ink, self.font, "rm")
            pen.text((right, middle), f"{share:.0%}", ink, self.font, "rm")
            track = np.array([start, middle - 0.27 * em, end, middle + 0.27 * em])
            brushes.rectangle(canvas, track, TRACK, 0.27 * em)
            if share >= 0.005:  # what rounds to 0 % shows no bar
                track[2] = start + max((end - start) * share, 0.54 * em)
                brushes.rectangle(canvas, track, COLORS.get(name, UNKNOWN) if face.certain else UNCERTAIN, 0.27 * em)


def _title(face: Face) -> str:
    """Number in a video, and expression."""
    number = "" if face.track is None else f"{face.track} · "
    return number + (face.label if face.certain else f"uncertain: {face.label}")


def _draw_faces(canvas: Image.Image, faces: Sequence[Face], scale: int, layers: Sequence[Layer]) -> None:
    boxes = np.array([[f.box.left, f.box.top, f.box.right, f.box.bottom] for f in faces]) * scale
    unit = _unit(canvas.size)
    plates, spots = arrange(faces, boxes, canvas.size)
    strokes = np.clip((boxes[:, 2] - boxes[:, 0]) / 60, unit / 11, unit / 5).clip(1.5)
    for face, box, plate, stroke in zip(faces, boxes, spots.plates, strokes, strict=True):
        ends = leader(np.clip(box, 0, [*canvas.size, *canvas.size]), plate)
        if np.hypot(*(ends[1] - ends[0])) > 4 * stroke:
            brushes.lines(canvas, [ends], color(face), 0.7 * stroke)
    for face, box, stroke in zip(faces, boxes, strokes, strict=True):
        if "mesh" in layers and face.points is not None:
            _draw_points(canvas, face, scale)
        brushes.frame(canvas, box, color(face), float(stroke), dashed=not face.certain)
        if "pose" in layers and face.pose is not None:
            _draw_axes(canvas, face.pose, float(stroke))
        if "gaze" in layers and face.pose is not None and face.gaze is not None:
            _draw_rays(canvas, face.pose, face.gaze, float(stroke))
    for plate, (left, top, _, _) in zip(plates, spots.plates.tolist(), strict=True):
        plate.paint(canvas, left, top)


def _draw_points(canvas: Image.Image, face: Face, scale: int) -> None:
    """All landmarks if the face is large enough to distinguish them, else 68."""
    width = face.box.width * scale
    shown, radius = (face.points, width / 420) if width >= 200 else (face.points68, width / 120)
    brushes.dots(canvas, shown[:, :2] * scale, color(face), max(radius, 0.8))  # pyrefly: ignore


def _draw_axes(canvas: Image.Image, pose: Pose, stroke: float) -> None:
    """The axes of the head from the tip of the nose, the nearest last; z, where the face points, has a tip."""
    for _, axis, ink in sorted(AXES, key=lambda each: float(pose.rotation[2] @ each[1])):
        path = pose.project(np.stack([NOSE, NOSE + axis]), *canvas.size)
        brushes.lines(canvas, [path], ink, 1.2 * stroke)
        if axis[2]:
            brushes.dots(canvas, path[1:], ink, 1.8 * stroke)


def _draw_rays(canvas: Image.Image, pose: Pose, gaze: Gaze, stroke: float) -> None:
    """A ray from each open eye, with a dot at its end."""
    for side, eye in (("left", gaze.left), ("right", gaze.right)):
        if eye is None:
            continue
        yaw, pitch = np.radians([eye.head_yaw, eye.head_pitch])
        direction = np.array([np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
        path = pose.project(EYEBALLS[side] + RAY * np.array([[0.0], [1.0]]) * direction, *canvas.size)
        brushes.lines(canvas, [path], RAY_INK, stroke)
        brushes.dots(canvas, path[1:], RAY_INK, 1.5 * stroke)


def _draw_note(canvas: Image.Image, text: str) -> None:
    em = min(max(_unit(canvas.size), 10), canvas.width / 12)
    if em < 4:
        return  # too small for text
    letters = font(em)
    width, height, left, bottom = letters.getlength(text) + 1.2 * em, 1.7 * em, 0.6 * em, canvas.height - 0.6 * em
    brushes.rectangle(canvas, np.array([left, bottom - height, left + width, bottom]), DARK, 0.3 * em, PLATE_ALPHA)
    ImageDraw.Draw(canvas).text((left + 0.6 * em, bottom - height / 2), text, TEXT, letters, "lm")


def _unit(size: tuple[int, int]) -> float:
    """Text size in pixels that is readable when the whole image is shown."""
    return max((size[0] * size[1]) ** 0.5 / 45, 1)


@functools.lru_cache(64)
def font(size: float) -> ImageFont.FreeTypeFont:
    """Return the font inside Pillow at this height in pixels."""
    font = ImageFont.load_default(max(size, 1))
    assert isinstance(font, ImageFont.FreeTypeFont), "this Pillow was built without FreeType"
    return font


WIDEST = 800  # longer side in pixels of the image in a notebook


def plot(result: Result, image: Any = None, *, layers: Sequence[Layer] = ("pose", "gaze"), enlarge: bool = True) -> Image.Image:
    """Return the annotated image; see `Result.plot`.

    Raises SourceError: the image of the result cannot be read again and is not given.
    """
    if image is None and (result.time is not None or result.source.startswith("<")):
        message = "a frame of a video and an image in memory cannot be read again; give it: result.plot(image)"
        raise SourceError(f"{result.source}: {message}", value=result.source)
    return draw(result.source if image is None else image, result, layers=layers, enlarge=enlarge)


def html(result: Result) -> str:
    """Return HTML: the image, if it can be read again, and a table with one row per face."""
    parts = []
    try:
        image = plot(result) if not is_video(result.source) else None
    except (SourceError, ConfigError, ValueError):  # deleted or replaced since; the numbers are still valid
        image = None
    if image is not None:
        image.thumbnail((WIDEST, WIDEST))
        parts.append(f'<img alt="annotated image" style="max-width:100%" src="{data_uri(image, "JPEG", quality=88)}">')
    parts.append(f"<p>{markup.escape(result.source)}: {markup.escape(result.message or result.status)}</p>")
    if result.faces:
        header = ("face", "expression", "confidence", "pitch, yaw, roll", "gaze", "box")
        parts.append(html_table(header, [_row(number, face) for number, face in enumerate(result.faces, 1)]))
    return "".join(parts)


def _row(number: int, face: Face) -> list[str]:
    pose, gaze = face.pose, face.gaze
    return [
        str(number),
        face.label if face.certain else f"uncertain: {face.label}",
        f"{face.confidence:.1%}",
        "" if pose is None else f"{pose.pitch:.0f}°, {pose.yaw:.0f}°, {pose.roll:.0f}°",
        "" if gaze is None else "at the camera" if gaze.at_camera else f"{gaze.yaw:.0f}°, {gaze.pitch:.0f}°",
        str(face.box),
    ]
