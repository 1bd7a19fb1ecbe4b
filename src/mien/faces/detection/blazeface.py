"""BlazeFace, full range: MediaPipe's small detector, trained by Google on its own data (Apache-2.0).

Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019 (arXiv:1907.05047). Boxes run from
the brow to the chin; the six points are the eyes, the tip of the nose, the center of the mouth and the tragions of the ears.

When one look is enough. The network sees a square of 192 pixels: in one look it finds faces of a tenth of the image's longer
side and more, and few below a fifteenth. But it notices them: a face too small to pass the threshold still scores above `SIGN`
in five cases of six down to a twentieth. So the whole image is looked at once, and then

* small answers between `SIGN` and the threshold, apart from the faces found, are looked at closer: each region is divided into
  two to four overlapping squares, and those around such signs are looked at, in up to `ROUNDS` rounds;
* where nothing at all was found, every square is looked at, and the image once more from farther, with a border around it,
  for a face that fills it;
* never closer than the image's own pixels, nor for faces smaller than the caller wants. `small_faces` looks at every square,
  and one round further.

Measured (docs/log.md, "Detector: when to tile"): 204 of 204 portraits have exactly one face, 195 after one look (3.9 ms at
512 × 512, one thread); the Solvay photo of 29 faces gives 28 in 8 looks (38 ms); 64 images without a face give none, in 6.2.

Differences from MediaPipe: the closer and farther looks (MediaPipe has one); neighbors that refine a box need half its score
instead of the threshold.
"""

from __future__ import annotations

import numpy as np

from ...cards import bundled_file
from ...runtime.onnx import OnnxRuntime
from .detections import Detections
from .nms import average, containment, suppress
from .tiling import Region, closer, farther, nearest

SIDE, CELLS = 192, 48  # the network sees a square of SIDE pixels and answers once for each of CELLS × CELLS cells
SAME_FACE = 0.3  # intersection over union from which two answers of one look are one face
SAME_IN_LOOKS = 0.5  # share of the smaller box from which two boxes of different looks are one face

THRESHOLD, THRESHOLD_CLOSER = 0.5, 0.65  # of the first look, and of the closer ones, where there is more to mistake
SIGN = 0.1  # score from which an answer below the threshold is the sign of a small face, …
SMALL = 0.15  # … if it is no larger than this share of the region's longer side …
ON_FACE = 0.3  # … and no more than this share of it lies on a face that was found
ROUNDS, ROUNDS_SMALL_FACES = 2, 3  # of closer looks


class BlazeFace:
    """The whole image first, then closer looks where it shows signs of more."""

    def __init__(
        self, *, threshold: float | None = None, min_size: float = 0, small_faces: bool = False, threads: int = 1
    ) -> None:
        self.network = Network(threads)
        self.thresholds = (THRESHOLD, THRESHOLD_CLOSER) if threshold is None else (threshold, threshold)
        self.min_size, self.small_faces = min_size, small_faces

    def __call__(self, image: np.ndarray) -> Detections:
        """Return the faces of a uint8 RGB image."""
        whole = Region(0, 0, image.shape[1], image.shape[0])
        regions, looks = [whole], []
        for closeness in range(1 + (ROUNDS_SMALL_FACES if self.small_faces else ROUNDS)):
            following: list[Region] = []
            for region, seen in zip(regions, self._see(regions, image), strict=True):
                faces, signs = self._sort(seen, region, image, self.thresholds[region.long < whole.long])
                looks.append(faces.shifted(region.left, region.top))
                following += self._next(region, faces, signs.shifted(region.left, region.top), closeness)
            regions = list(dict.fromkeys(following))
        found = Detections.join(looks)
        return found.select(suppress(found.boxes, found.scores, SAME_IN_LOOKS, containment))

    def _see(self, regions: list[Region], image: np.ndarray) -> list[Detections]:
        floor = min(SIGN, *self.thresholds)
        step = self.network.network.together
        batches = (regions[i : i + step] for i in range(0, len(regions), step))
        return [seen for batch in batches for seen in self.network(image, batch, floor)]

    def _sort(self, seen: Detections, region: Region, image: np.ndarray, threshold: float) -> tuple[Detections, Detections]:
        """Return the faces, and the signs of small faces apart from them, that one look showed."""
        seen = seen.select(~region.cuts(seen.boxes, image))
        faces, rest = seen.select(seen.scores > threshold), seen.select(seen.scores <= threshold)
        small = (rest.boxes[:, 2:] - rest.boxes[:, :2]).max(1, initial=0) < SMALL * region.long
        apart = [small[i] and not (containment(box, faces.boxes) > ON_FACE).any() for i, box in enumerate(rest.boxes)]
        return faces, rest.select(np.array(apart, bool))

    def _next(self, region: Region, faces: Detections, signs: Detections, closeness: int) -> list[Region]:
        """Return where to look after this look at `region`; see the module's docstring."""
        first = closeness == 0
        following = [farther(region)] if first and not len(faces) else []
        inside = region.left >= 0 and region.top >= 0
        if not inside or region.long <= SIDE or self.min_size > SMALL * region.long:
            return following  # there is nothing smaller to be seen, or none is wanted
        if first and (self.small_faces or not len(faces)):
            return following + closer(region)
        return nearest((signs.boxes[:, :2] + signs.boxes[:, 2:]) / 2, closer(region)) if len(signs) else []


class Network:
    """One look at one or several regions of an image, each fitted into a square of 192 pixels."""

    def __init__(self, threads: int = 1) -> None:
        self.network = OnnxRuntime(bundled_file("blazeface.onnx"), threads)
        centers = (np.arange(CELLS, dtype=np.float32) + 0.5) / CELLS
        self.cells = np.stack(np.meshgrid(centers, centers), -1).reshape(-1, 2)

    def __call__(self, image: np.ndarray, regions: list[Region], threshold: float) -> list[Detections]:
        """Return the answers above `threshold` (0 to 1) for each region of a uint8 RGB image, in the region's pixels."""
        squares, corners = zip(*(_square(region.of(image, SIDE)) for region in regions), strict=True)
        offsets, logits = self.network(np.stack(squares)).values()
        return [
            self._decode(offset, logit, corner, SIDE / region.long, threshold)
            for offset, logit, corner, region in zip(offsets, logits[..., 0], corners, regions, strict=True)
        ]

    def _decode(
        self, offsets: np.ndarray, logits: np.ndarray, corner: np.ndarray, scale: float, threshold: float
    ) -> Detections:
        scores = 1 / (1 + np.exp(-logits.clip(-80, 80)))
        found = np.flatnonzero(scores > threshold)
        if not found.size:
            return Detections.none(6)
        values, scores = offsets[found].reshape(-1, 8, 2) / SIDE, scores[found]  # center, size, six points
        values[:, [0, 2, 3, 4, 5, 6, 7]] += self.cells[found, None]
        half = values[:, 1] / 2
        values[:, 0], values[:, 1] = values[:, 0] - half, values[:, 0] + half
        flat = values.reshape(-1, 16)
        means, scores = average(flat[:, :4], scores, flat, SAME_FACE)
        pixels = (means.reshape(-1, 8, 2) * SIDE - corner) / scale
        return Detections.from_points(pixels[:, :2].reshape(-1, 4), scores, pixels[:, 2:])


def _square(small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the image in the middle of a black square, as the network's input, and the place of its corner there."""
    height, width = small.shape[:2]
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    square = np.full((SIDE, SIDE, 3), -1, np.float32)
    square[top : top + height, left : left + width] = small / np.float32(127.5) - 1
    return square, np.array([left, top], np.float32)
