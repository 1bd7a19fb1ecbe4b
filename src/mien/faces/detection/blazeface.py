"""BlazeFace, full range: MediaPipe's small detector, trained by Google on its own data (Apache-2.0).

Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019 (arXiv:1907.05047). Boxes extend from
the brow to the chin; the six keypoints are the eyes, the tip of the nose, the center of the mouth and the tragions of the ears.

The network's input is a square of 192 pixels: it finds faces of a tenth of the image's longer side and more, few below a
fifteenth, and misses faces that fill the image. But it responds to them: five of six faces that are too small for the threshold
still score above `HINT`, down to a twentieth of the side. So the whole image is searched once, and then

* tiles around small detections between `HINT` and the threshold, apart from the faces found, are searched: each view is divided
  into two to four overlapping tiles, in up to `ROUNDS` rounds;
* where no face was found, every tile is searched, and the image with a black margin, for a face that fills it;
* the image with a margin is also searched where a large detection stayed below the threshold or all faces found are small, so
  that the largest face is not missed because a smaller one was found;
* tiles never enlarge the image's own pixels, and never search for faces smaller than `min_size`. `small_faces` searches every
  tile, and one round more.

Differences from MediaPipe: tiles and the margin (MediaPipe searches the image once); neighbors that refine a box need half its
score instead of the threshold.
"""

import functools
from collections.abc import Callable

import numpy as np

from ...cards import bundled_file
from ...metrics.boxes import centers, containment, sides
from ...runtime.onnx import OnnxRuntime
from .detections import Detections
from .nms import average, suppress
from .tiling import Region, nearest, padded, tiles

SIDE, CELLS = 192, 48  # side of the network's input in pixels, and number of output cells along each side
SAME_FACE = 0.3  # IoU above which two detections of one view are one face
SAME_IN_VIEWS = 0.5  # share of the smaller box above which detections of two views are one face

THRESHOLD, THRESHOLD_TILES = 0.5, 0.65
"""Score thresholds of the whole image and of its tiles, which show more that can be mistaken for a face."""
HINT = 0.1  # score above which a detection below the threshold hints at a face that another view may show better
SMALL, LARGE = 0.15, 0.4  # a hint at a small face is at most, one at a large face at least this share of the view's longer side
ON_FACE = 0.3  # a hint with more than this share on a face that was found is part of that face
FEW = 0.2  # where no face found is larger than this share of the longer side, a larger one may fill the image
ROUNDS, ROUNDS_SMALL_FACES = 2, 3  # rounds of tiling by default, and with `small_faces`


class BlazeFace:
    """Searches the whole image, then further views where it hints at more faces."""

    def __init__(self, *, threshold: float | None, min_size: float, small_faces: bool, threads: int) -> None:
        self.network = Network(threads)
        self.thresholds = (THRESHOLD, THRESHOLD_TILES) if threshold is None else (threshold, threshold)
        self.min_size, self.small_faces = min_size, small_faces

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of a uint8 RGB image."""
        return self._search(image, ROUNDS_SMALL_FACES if self.small_faces else ROUNDS)

    @property
    def quick(self) -> Callable[[np.ndarray], Detections] | None:
        """The search of the whole image alone; None with `small_faces`."""
        return None if self.small_faces else functools.partial(self._search, rounds=0)

    def _search(self, image: np.ndarray, rounds: int) -> Detections:
        whole = Region(0, 0, image.shape[1], image.shape[0])
        regions, parts = [whole], []
        for depth in range(1 + rounds):
            following: list[Region] = []
            for region, seen in zip(regions, self._detect(regions, image), strict=True):
                faces, hints = self._split(seen, region, image, self.thresholds[region.long < whole.long])
                parts.append(faces.shifted(region.left, region.top))
                following += self._next(region, faces, hints.shifted(region.left, region.top), depth)
            regions = list(dict.fromkeys(following))
        found = Detections.join(parts) if len(parts) > 1 else parts[0]
        return found.select(suppress(found.boxes, found.scores, SAME_IN_VIEWS, containment))

    def _detect(self, regions: list[Region], image: np.ndarray) -> list[Detections]:
        floor = min(HINT, *self.thresholds)
        step = self.network.network.together
        batches = (regions[i : i + step] for i in range(0, len(regions), step))
        return [seen for batch in batches for seen in self.network(image, batch, floor)]

    def _split(self, seen: Detections, region: Region, image: np.ndarray, threshold: float) -> tuple[Detections, Detections]:
        """Return the faces of one view, and the hints at other faces."""
        seen = seen.select(~region.cuts(seen.boxes, image))
        count = int((seen.scores > threshold).sum())  # the best come first
        faces, rest = seen[:count], seen[count:]
        apart = [not (containment(box, faces.boxes) > ON_FACE).any() for box in rest.boxes]
        return faces, rest.select(np.array(apart, bool))

    def _next(self, region: Region, faces: Detections, hints: Detections, depth: int) -> list[Region]:
        """Return the views to search after this one; see the docstring of the module."""
        size = sides(hints.boxes).max(1, initial=0) / region.long
        following = []
        if depth == 0 and (sides(faces.boxes).max(initial=0) < FEW * region.long or (size > LARGE).any()):
            following.append(padded(region))
        inside = region.left >= 0 and region.top >= 0
        if not inside or region.long <= SIDE or self.min_size > SMALL * region.long:
            return following  # Tiles would show no smaller faces, or none are wanted.
        if depth == 0 and (self.small_faces or not len(faces)):
            return following + tiles(region)
        small = hints.select(size < SMALL)
        return following + (nearest(centers(small.boxes), tiles(region)) if len(small) else [])


class Network:
    """The network on one or several regions of an image, each scaled into a square of 192 pixels."""

    def __init__(self, threads: int = 1) -> None:
        self.network = OnnxRuntime(bundled_file("blazeface.onnx"), threads)
        middles = (np.arange(CELLS, dtype=np.float32) + 0.5) / CELLS
        self.cells = np.stack(np.meshgrid(middles, middles), -1).reshape(-1, 2)

    def __call__(self, image: np.ndarray, regions: list[Region], threshold: float) -> list[Detections]:
        """Return the detections above `threshold` (0 to 1) in each region of a uint8 RGB image, in the region's pixels."""
        squares = np.full((len(regions), SIDE, SIDE, 3), -1, np.float32)
        corners = np.empty((len(regions), 2), np.float32)
        for square, corner, region in zip(squares, corners, regions, strict=True):
            small = region.of(image, SIDE)
            height, width = small.shape[:2]
            top, left = (SIDE - height) // 2, (SIDE - width) // 2
            inside = square[top : top + height, left : left + width]
            np.divide(small, np.float32(127.5), out=inside)
            inside -= 1
            corner[:] = left, top
        offsets, logits = self.network(squares).values()
        return [
            self._decode(offset, logit, corner, SIDE / region.long, threshold)
            for offset, logit, corner, region in zip(offsets, logits[..., 0], corners, regions, strict=True)
        ]

    def _decode(
        self, offsets: np.ndarray, logits: np.ndarray, corner: np.ndarray, scale: float, threshold: float
    ) -> Detections:
        found = np.flatnonzero(logits > (np.log(threshold / (1 - threshold)) if threshold > 0 else -np.inf))
        if not found.size:
            return Detections.none(6)
        # A cell outputs center, size and six keypoints in pixels of the input; all but the size are relative to the cell.
        values, scores = offsets[found].reshape(-1, 8, 2) / SIDE, 1 / (1 + np.exp(-logits[found].clip(-80, 80)))
        half, cells = values[:, 1] / 2, self.cells[found]
        values[:, 1] = 0
        values += cells[:, None]
        values[:, 1] = values[:, 0] + half
        values[:, 0] -= half
        flat = values.reshape(-1, 16)
        means, scores = average(flat[:, :4], scores, flat, SAME_FACE)
        pixels = (means.reshape(-1, 8, 2) * SIDE - corner) / scale
        return Detections.from_points(pixels[:, :2].reshape(-1, 4), scores, pixels[:, 2:])
