"""Label placement: labels of faces that cover no face and not one another.

Each label has candidate positions around its face, nearest first, then in wider rings, with a cost. After a greedy pass, each
label moves to its cheapest position while the others stay, until none moves: a local minimum. The cheapest of several starting
orders is used.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..metrics.boxes import area, intersection

TOUCH = 30.0  # cost of touching another plate or face; the covered share is added

ON_PLATE, ON_FACE, ON_OWN, ON_FEATURES = 1000.0, 300.0, 60.0, 300.0
"""Costs of covering all of another plate, another face, the own face, and the brows, eyes, nose and mouth of the own face."""

AWAY, CROSSING, AMBIGUOUS = 6.0, 6.0, 2.0
"""Costs per plate height of distance, per crossing of a leader line with a plate or face, and of a position about as near to
another face as to the own one."""

ROUNDS = 6
MANY = 100  # number of faces from which one round from one order is run, to bound the time
OWN_SHARE = 0.1  # share of its own face that a plate may cover and still count as clean: corners of the box are background


@dataclass(frozen=True, slots=True)
class Placement:
    """Positions of the plates."""

    plates: np.ndarray  # (N, 4) left, top, right, bottom
    clean: np.ndarray  # (N,) whether the plate is inside the canvas, beside its face, and covers no other face and no plate


def place(faces: np.ndarray, sizes: np.ndarray, canvas: tuple[float, float], gap: float) -> Placement:
    """Return a position for one plate per face.

    Faces (N, 4) are left, top, right, bottom; `sizes` (N, 2) are width and height of the plates, `canvas` those of the image;
    `gap` is the space between a face and its plate.

    Example:
        >>> import numpy as np
        >>> place(np.array([[40, 40, 80, 80.0]]), np.array([[30, 10.0]]), (200, 200), 2).plates.tolist()
        [[40.0, 28.0, 70.0, 38.0]]
    """
    faces = np.clip(faces, 0, [*canvas, *canvas]).astype(float)
    spots = [_Spots(i, faces, size, canvas, gap) for i, size in enumerate(sizes)]
    near = _gaps(faces, faces).clip(0, 4 * sizes[:, 1].max()).sum(1)
    orders = [near.argsort(), near.argsort()[::-1], faces[:, 1].argsort(), faces[:, 0].argsort()]
    found = [_settle(spots, order) for order in (orders if len(faces) < MANY else orders[:1])]
    _, chosen = min(found, key=lambda outcome: outcome[0])
    plates = np.array([spot.rectangles[at] for spot, at in zip(spots, chosen, strict=True)])
    return Placement(plates, np.array([spot.clean(plates, canvas, gap) for spot in spots], bool))


def leader(face: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """Return the shortest lines from face boxes (…, 4) to plates (…, 4): (…, 2, 2), from the face to the plate."""
    ends = []
    for low, high in ((0, 2), (1, 3)):
        middle = (np.maximum(face[..., low], plate[..., low]) + np.minimum(face[..., high], plate[..., high])) / 2
        after, before = plate[..., low] > face[..., high], plate[..., high] < face[..., low]
        start = np.where(after, face[..., high], np.where(before, face[..., low], middle))
        ends.append((start, np.where(after, plate[..., low], np.where(before, plate[..., high], middle))))
    return np.stack([np.stack(end, -1) for end in ends], -1)


class _Spots:
    """Candidate positions of one plate, with their costs before the other plates are placed."""

    def __init__(self, index: int, faces: np.ndarray, size: np.ndarray, canvas: tuple[float, float], gap: float) -> None:
        self.index, self.faces = index, faces
        self.own, others = faces[index : index + 1], np.delete(faces, index, 0)
        # A tall plate leaves room for hair and ears, which a face box does not include.
        tall = size[1] > (self.own[0, 3] - self.own[0, 1]) / 2
        self.aside = max(gap, (self.own[0, 2] - self.own[0, 0]) / 5) if tall else gap
        self.rectangles = self._rectangles(size, canvas, gap, sides_first=tall)
        self.area = size[0] * size[1]
        self.lines = leader(self.own, self.rectangles)
        away = _gaps(self.rectangles, self.own)[:, 0]
        self.lines[away <= size[1] / 2] = np.nan  # too short to be drawn or to cross anything
        self.cost = np.linspace(0, 0.9, len(away)) + AWAY * (away - self.aside).clip(0) / size[1]
        across, along = self.own[0, 2] - self.own[0, 0], self.own[0, 3] - self.own[0, 1]
        features = self.own + np.array([0.2 * across, 0.15 * along, -0.2 * across, -0.1 * along])
        for weight, part in ((ON_OWN, self.own), (ON_FEATURES, features)):
            self.cost += weight * intersection(self.rectangles, part) / max(area(self.own)[0], 1)
        covered = intersection(self.rectangles[:, None], others)
        self.cost += TOUCH * (covered > 0).sum(1) + ON_FACE * (covered / np.minimum(area(others), self.area).clip(1)).sum(1)
        self.cost += CROSSING * _crossings(self.lines, others).sum(1)
        if len(others):
            self.cost += AMBIGUOUS * (_gaps(self.rectangles, others).min(1) < away + size[1] / 2)

    def costs(self, plates: np.ndarray, lines: np.ndarray) -> np.ndarray:
        """Return what each place costs among these plates and their leader lines."""
        covered = intersection(self.rectangles[:, None], plates)
        crossed = _crossings(self.lines, plates).sum(1) + _crossings(lines, self.rectangles).sum(0)
        return self.cost + TOUCH * (covered > 0).sum(1) + ON_PLATE * covered.sum(1) / self.area + CROSSING * crossed

    def clean(self, plates: np.ndarray, canvas: tuple[float, float], gap: float) -> bool:
        plate, others = plates[self.index : self.index + 1], np.arange(len(plates)) != self.index
        covered = intersection(plate, np.concatenate([self.faces[others], plates[others]])).sum()
        own = intersection(plate, self.own)[0] / max(area(self.own)[0], 1)
        near = _gaps(plate, self.own)[0, 0] <= self.aside + 2 * gap
        return bool(near and covered == 0 and own <= OWN_SHARE and (plate[0, 2:] <= canvas).all())

    def _rectangles(self, size: np.ndarray, canvas: tuple[float, float], gap: float, *, sides_first: bool) -> np.ndarray:
        """(C, 4) places to try, the preferred first."""
        left, top, right, bottom = self.own[0]
        width, height = size
        above, below, before, after = top - gap - height, bottom + gap, left - self.aside - width, right + self.aside
        middle, center = (left + right - width) / 2, (top + bottom - height) / 2
        upright = [(x, y) for x in (left, middle, right - width) for y in (above, below)]
        beside = [(x, y) for x in (after, before) for y in (top, center, bottom - height)]
        spots = beside + upright if sides_first else upright + beside
        for ring in (1, 2, 3, 4, 6, 8, 11):
            reach_x, reach_y = (right - left + width) / 2 + ring * height, (bottom - top + height) / 2 + ring * height
            turns = [turn * math.pi / 12 for turn in range(24)]
            spots += [(middle + math.cos(turn) * reach_x, center + math.sin(turn) * reach_y) for turn in turns]
        spots += [(x, y) for y in (0, canvas[1]) for x in (0, canvas[0])]
        corners = np.clip(spots, gap, np.maximum(np.array(canvas) - size - gap, gap))
        return np.hstack([corners, corners + size])


def _settle(spots: list[_Spots], order: np.ndarray) -> tuple[float, list[int]]:
    """Place the plates one after the other, then let each move until none gains; return the total cost and the choices."""
    chosen, total = [-1] * len(spots), 0.0
    plates, lines = np.full((len(spots), 4), np.nan), np.full((len(spots), 2, 2), np.nan)
    for _ in range(ROUNDS if len(spots) < MANY else 1):
        before, total = list(chosen), 0.0
        for i in order:
            plates[i], lines[i] = np.nan, np.nan
            cost = spots[i].costs(plates, lines)
            chosen[i] = int(cost.argmin())
            total += float(cost[chosen[i]])
            plates[i], lines[i] = spots[i].rectangles[chosen[i]], spots[i].lines[chosen[i]]
        if chosen == before:
            break
    return total, chosen


def _crossings(lines: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(L, M) whether each line enters each rectangle, by clipping the line at the sides; lines and boxes of NaN never do."""
    start, way = lines[:, None, 0], lines[:, None, 1] - lines[:, None, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = (boxes[None, :, [[0, 1], [2, 3]]] - start[:, :, None]) / np.where(way == 0, 1e-9, way)[:, :, None]
    entry, leave = sides.min(2).max(-1), sides.max(2).min(-1)
    return (entry < leave) & (leave > 1e-6) & (entry < 1 - 1e-6)


def _gaps(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """(N, M) distances between rectangles, 0 where they touch."""
    x = np.maximum(one[:, None, 0] - many[None, :, 2], many[None, :, 0] - one[:, None, 2]).clip(0)
    y = np.maximum(one[:, None, 1] - many[None, :, 3], many[None, :, 1] - one[:, None, 3]).clip(0)
    return np.hypot(x, y)
