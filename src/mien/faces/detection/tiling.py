"""Regions of an image to look at: overlapping squares to see closer, a border around it to see from farther."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .resize import resize

OVERLAP = 0.25  # of a tile's side: more than the largest face that asks for a closer look
MARGIN = 0.3  # of the longer side, added all around for a look from farther
BORDER = 2  # pixels: a box this near to the edge of a region goes on beyond it


class Region(NamedTuple):
    """A rectangle in the pixels of an image; it may reach beyond the image."""

    left: int
    top: int
    width: int
    height: int

    @property
    def long(self) -> int:
        """The longer side."""
        return max(self.width, self.height)

    def of(self, image: np.ndarray, longest: int) -> np.ndarray:
        """Return (h, w, 3) what the region shows, its longer side `longest`; beyond the image the border pixels go on."""
        height, width = image.shape[:2]
        right, bottom = self.left + self.width, self.top + self.height
        inside, scale = image[max(self.top, 0) : bottom, max(self.left, 0) : right], longest / self.long
        small = resize(inside, max(round(inside.shape[1] * scale), 1), max(round(inside.shape[0] * scale), 1))
        beyond = [(max(-self.top, 0), max(bottom - height, 0)), (max(-self.left, 0), max(right - width, 0)), (0, 0)]
        if not np.any(beyond):
            return small
        pads = [(round(before * scale), round(after * scale)) for before, after in beyond]
        return np.pad(small, pads, "edge")[:longest, :longest]  # three roundings may add up to a pixel too many

    def cuts(self, boxes: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Return which boxes (N, 4), in the region's pixels, reach a side of it that is not the image's own."""
        height, width = image.shape[:2]
        return (
            ((boxes[:, 0] < BORDER) & (self.left > 0))
            | ((boxes[:, 1] < BORDER) & (self.top > 0))
            | ((boxes[:, 2] > self.width - BORDER) & (self.left + self.width < width))
            | ((boxes[:, 3] > self.height - BORDER) & (self.top + self.height < height))
        )


def closer(region: Region) -> list[Region]:
    """Return the squares that show the region nearly twice as large: two along its longer side, one or two along the other."""
    side = int(np.ceil(region.long / (2 - OVERLAP)))
    return [
        Region(region.left + x, region.top + y, min(side, region.width), min(side, region.height))
        for y in sorted({0, max(region.height - side, 0)})
        for x in sorted({0, max(region.width - side, 0)})
    ]


def farther(region: Region) -> Region:
    """Return the region with a border around it, for a face that fills it."""
    margin = round(region.long * MARGIN)
    return Region(region.left - margin, region.top - margin, region.width + 2 * margin, region.height + 2 * margin)


def nearest(places: np.ndarray, regions: list[Region]) -> list[Region]:
    """Return the regions in whose middle the places (N, 2), in pixels of the image, lie best; each once."""
    corners, sizes = np.array(regions)[:, :2], np.array(regions)[:, 2:]
    off_center = np.abs((places[:, None] - corners) / sizes - 0.5).max(2)
    return [regions[i] for i in np.unique(off_center.argmin(1))]
