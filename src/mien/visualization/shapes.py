"""Anti-aliased shapes on a Pillow image.

Pillow draws shapes with hard edges and without transparency. Here a shape is drawn larger into a mask, the mask is reduced,
and a color is blended through it.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageDraw

Ink = tuple[int, int, int]  # red, green and blue, 0 … 255
DARK: Ink = (18, 21, 26)  # color of plates and of the halo around lines, which keeps them visible on any background
Move = Callable[[np.ndarray], list[tuple[float, float]]]  # points (P, 2) of the canvas → points of a finer mask


def rectangle(canvas: Image.Image, box: np.ndarray, ink: Ink, radius: float, alpha: float = 1) -> None:
    """Fill a rectangle (left, top, right, bottom) with round corners."""
    corners = np.reshape(box, (2, 2))
    with _mask(canvas, corners, 0, ink, alpha) as (pen, move, finer):
        (left, top), (right, bottom) = move(corners)
        pen.rounded_rectangle((left, top, max(right - 1, left), max(bottom - 1, top)), radius * finer, 255)


def frame(canvas: Image.Image, box: np.ndarray, ink: Ink, stroke: float, *, dashed: bool = False) -> None:
    """Draw the outline of a rectangle (left, top, right, bottom) with round corners, on a dark halo."""
    path = _outline(box, 0.06 * float(min(box[2] - box[0], box[3] - box[1])))
    lines(canvas, _dashes(path, 4 * stroke, 2.6 * stroke) if dashed else [path], ink, stroke)


def lines(canvas: Image.Image, paths: list[np.ndarray], ink: Ink, stroke: float) -> None:
    """Draw lines through (P, 2) points, on a dark halo."""
    for width, color, alpha in ((2 * stroke, DARK, 0.5), (stroke, ink, 1)):
        with _mask(canvas, np.concatenate(paths), width, color, alpha) as (pen, move, finer):
            for path in paths:
                pen.line(move(path), 255, max(round(width * finer), 1), "curve")


def dots(canvas: Image.Image, points: np.ndarray, ink: Ink, radius: float) -> None:
    """Draw discs at (P, 2) points, on a faint dark halo."""
    for reach, color, alpha in ((1.7 * radius, DARK, 0.35), (radius, ink, 0.9)):
        with _mask(canvas, points, reach, color, alpha) as (pen, move, finer):
            for point in move(points):
                pen.circle(point, reach * finer, 255)


def chip(canvas: Image.Image, center: tuple[float, float], ink: Ink, radius: float, *, hollow: bool = False) -> None:
    """Draw a disc, or a ring."""
    with _mask(canvas, np.array([center]), radius, ink) as (pen, move, finer):
        (middle,) = move(np.array([center]))
        pen.circle(middle, radius * finer, 0 if hollow else 255, 255, max(round(0.4 * radius * finer), 1))


@contextmanager
def _mask(
    canvas: Image.Image, points: np.ndarray, reach: float, ink: Ink, alpha: float = 1
) -> Generator[tuple[ImageDraw.ImageDraw, Move, int]]:
    """Yield a pen for a mask within `reach` of these points, which is finer by a factor, and blend `ink` through it."""
    left, top = (int(low) for low in np.maximum(np.floor(points.min(0) - reach) - 1, 0))
    right, bottom = (int(high) for high in np.minimum(np.ceil(points.max(0) + reach) + 1, canvas.size))
    width, height = max(right - left, 1), max(bottom - top, 1)  # all of it may be outside
    finer = 4 if width * height < 500_000 else 2  # finer edges of a large shape are not visible
    mask = Image.new("L", (width * finer, height * finer))
    yield ImageDraw.Draw(mask), lambda points: [(x, y) for x, y in ((points - [left, top]) * finer).tolist()], finer
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
