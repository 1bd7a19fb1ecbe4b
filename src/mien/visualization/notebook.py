"""Results in notebooks: the annotated image and a small table."""

import html as markup
from collections.abc import Sequence
from typing import Any

from PIL import Image

from ..errors import ConfigError, SourceError
from ..io.video import is_video
from ..types import Face, Layer, Result
from .faces import draw
from .pages import data_uri, html_table

WIDEST = 800  # longer side in pixels of the image in a notebook


def plot(result: Result, image: Any = None, *, layers: Sequence[Layer] = ("pose", "gaze"), enlarge: bool = True) -> Image.Image:
    """Return the annotated image; see `Result.plot`.

    Raises SourceError: the image of the result cannot be read again and is not given.
    """
    if image is None and (result.time is not None or result.source.startswith("<")):
        raise SourceError(
            f"{result.source}: a frame of a video and an image in memory cannot be read again; give it: result.plot(image)",
            value=result.source,
        )
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
