"""Anti-aliased shapes on a Pillow image.

Pillow draws shapes with hard edges and without transparency. Here a shape is drawn larger into a mask, the mask is reduced,
and a color is blended through it.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

Ink = tuple[int, int, int]  # red, green and blue, 0 … 255
DARK: Ink = (18, 21, 26)  # color of plates and of the halo around lines, which keeps them visible on any background
Move = Callable[[np.ndarray], list[tuple[float, float]]]  # points (P, 2) of the canvas → points of a finer mask
Shape = Callable[[ImageDraw.ImageDraw, Move, int], None]  # draws a shape into a mask, which is finer by this factor


def rectangle(canvas: Image.Image, box: np.ndarray, ink: Ink, radius: float, alpha: float = 1) -> None:
    """Fill a rectangle (left, top, right, bottom) with round corners."""

    def shape(pen: ImageDraw.ImageDraw, move: Move, finer: int) -> None:
        (left, top), (right, bottom) = move(np.reshape(box, (2, 2)))
        pen.rounded_rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), radius * finer, 255)

    _stamp(canvas, np.reshape(box, (2, 2)), 0, shape, ink, alpha)


def frame(canvas: Image.Image, box: np.ndarray, ink: Ink, stroke: float, *, dashed: bool = False) -> None:
    """Draw the outline of a rectangle (left, top, right, bottom) with round corners, on a dark halo."""
    path = _outline(box, 0.06 * float(min(box[2] - box[0], box[3] - box[1])))
    lines(canvas, _dashes(path, 4 * stroke, 2.6 * stroke) if dashed else [path], ink, stroke)


def lines(canvas: Image.Image, paths: list[np.ndarray], ink: Ink, stroke: float) -> None:
    """Draw lines through (P, 2) points, on a dark halo."""
    points = np.concatenate(paths)
    for width, color, alpha in ((2 * stroke, DARK, 0.5), (stroke, ink, 1)):

        def shape(pen: ImageDraw.ImageDraw, move: Move, finer: int, width: float = width) -> None:
            for path in paths:
                pen.line(move(path), 255, max(round(width * finer), 1), "curve")

        _stamp(canvas, points, width, shape, color, alpha)


def dots(canvas: Image.Image, points: np.ndarray, ink: Ink, radius: float) -> None:
    """Draw discs at (P, 2) points, on a faint dark halo."""
    for reach, color, alpha in ((1.7 * radius, DARK, 0.35), (radius, ink, 0.9)):

        def shape(pen: ImageDraw.ImageDraw, move: Move, finer: int, reach: float = reach) -> None:
            for point in move(points):
                pen.circle(point, reach * finer, 255)

        _stamp(canvas, points, reach, shape, color, alpha)


def chip(canvas: Image.Image, center: tuple[float, float], ink: Ink, radius: float, *, hollow: bool = False) -> None:
    """Draw a disc, or a ring."""

    def shape(pen: ImageDraw.ImageDraw, move: Move, finer: int) -> None:
        (middle,) = move(np.array([center]))
        width = max(round(0.4 * radius * finer), 1)
        pen.circle(middle, radius * finer, 0 if hollow else 255, 255, width)

    _stamp(canvas, np.array([center]), radius, shape, ink, 1)


def _stamp(canvas: Image.Image, points: np.ndarray, reach: float, shape: Shape, ink: Ink, alpha: float) -> None:
    """Blend `ink` through the mask of a shape within `reach` of these points."""
    left, top = (int(low) for low in np.maximum(np.floor(points.min(0) - reach) - 1, 0))
    right, bottom = (int(high) for high in np.minimum(np.ceil(points.max(0) + reach) + 1, canvas.size))
    if right <= left or bottom <= top:
        return
    finer = 4 if (right - left) * (bottom - top) < 500_000 else 2  # finer edges of a large shape are not visible
    mask = Image.new("L", ((right - left) * finer, (bottom - top) * finer))
    shape(ImageDraw.Draw(mask), lambda points: [(x, y) for x, y in ((points - [left, top]) * finer).tolist()], finer)
    mask = mask.reduce(finer)
    canvas.paste(ink, (left, top), mask if alpha == 1 else mask.point([round(value * alpha) for value in range(256)]))


def _outline(box: np.ndarray, radius: float) -> np.ndarray:
    """(P, 2) closed path of a rounded rectangle."""
    corners = []
    for quarter, (x, y) in enumerate([(box[2], box[1]), (box[2], box[3]), (box[0], box[3]), (box[0], box[1])]):
        inward = np.array([-1 if quarter < 2 else 1, 1 if quarter in (0, 3) else -1])
        turn = np.linspace(quarter - 1, quarter, 9) * np.pi / 2
        corners.append(np.array([x, y]) + radius * (inward + np.stack([np.cos(turn), np.sin(turn)], 1)))
    path = np.concatenate(corners)
    return np.concatenate([path, path[:2]])


def _dashes(path: np.ndarray, dash: float, gap: float) -> list[np.ndarray]:
    """Return the dashes of a path, of about this length and evenly spaced."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    count = max(round(along[-1] / (dash + gap)), 4)
    pieces = []
    for start in np.arange(count) * along[-1] / count:
        end = start + along[-1] / count * dash / (dash + gap)
        at = np.concatenate([[start], along[(along > start) & (along < end)], [end]])
        pieces.append(np.stack([np.interp(at, along, path[:, axis]) for axis in (0, 1)], 1))
    return pieces
