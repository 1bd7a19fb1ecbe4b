"""Views of an image: overlapping tiles that enlarge it, and a padded view that shrinks it."""

from typing import NamedTuple

import numpy as np

from .resize import resize

OVERLAP = 0.25
"""Overlap of neighboring tiles as a share of their side; larger than the largest face that makes a tile necessary."""
MARGIN = 0.75
"""Padding of the padded view on each side, as a share of the longer side. Of 158 tight portraits that BlazeFace misses in the
plain image, it finds 157 with this margin, 143 with 0.5 and 72 with 0.3."""
BORDER = 2  # a box within this many pixels of a view's edge is taken to be cut off by it


class Region(NamedTuple):
    """A rectangle in pixels of an image; it may extend beyond the image."""

    left: int
    top: int
    width: int
    height: int

    @property
    def long(self) -> int:
        """Longer side in pixels."""
        return max(self.width, self.height)

    def of(self, image: np.ndarray, longest: int) -> np.ndarray:
        """Return the region as (h, w, 3) with a longer side of `longest`; black outside the image.

        A constant border matters: where the border pixels were replicated, one tight portrait in ten was missed, since the
        streaks look like hair or background that continues the face.
        """
        height, width = image.shape[:2]
        right, bottom = self.left + self.width, self.top + self.height
        inside, scale = image[max(self.top, 0) : bottom, max(self.left, 0) : right], longest / self.long
        small = resize(inside, max(round(inside.shape[1] * scale), 1), max(round(inside.shape[0] * scale), 1))
        beyond = [(max(-self.top, 0), max(bottom - height, 0)), (max(-self.left, 0), max(right - width, 0)), (0, 0)]
        if not any(map(any, beyond)):
            return small
        pads = [(round(before * scale), round(after * scale)) for before, after in beyond]
        return np.pad(small, pads)[:longest, :longest]  # Three roundings may add up to one pixel too many.

    def cuts(self, boxes: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Return which boxes (N, 4), in pixels of the region, touch a side of it that is not also a side of the image."""
        height, width = image.shape[:2]
        inner = [self.left > 0, self.top > 0, self.left + self.width < width, self.top + self.height < height]
        distances = np.concatenate([boxes[:, :2], [self.width, self.height] - boxes[:, 2:]], 1)
        return ((distances < BORDER) & inner).any(1)


def tiles(region: Region) -> list[Region]:
    """Return square tiles that nearly double the magnification: two along the longer side, one or two along the other."""
    side = int(np.ceil(region.long / (2 - OVERLAP)))
    return [
        Region(region.left + x, region.top + y, min(side, region.width), min(side, region.height))
        for y in sorted({0, max(region.height - side, 0)})
        for x in sorted({0, max(region.width - side, 0)})
    ]


def padded(region: Region) -> Region:
    """Return the region with a margin around it, for a face that fills it or is cut off by its edge."""
    margin = round(region.long * MARGIN)
    return Region(region.left - margin, region.top - margin, region.width + 2 * margin, region.height + 2 * margin)


def nearest(places: np.ndarray, regions: list[Region]) -> list[Region]:
    """Return, each once, the regions whose center is nearest to one of the places (N, 2) in pixels of the image."""
    corners, sizes = np.array(regions)[:, :2], np.array(regions)[:, 2:]
    off_center = np.abs((places[:, None] - corners) / sizes - 0.5).max(2)
    return [regions[i] for i in np.unique(off_center.argmin(1))]
