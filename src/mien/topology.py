"""Which points of the face mesh are what: the usual 5 and 68 points, the irises, the inputs of the facial actions.

    points5(mesh)  points68(mesh)  irises(mesh)             mesh: (…, P, 2 or 3), one face or many

The mesh has 468 points, or 478 with the irises; both share their first 468. Left and right are the picture's in the names
of points (a person's right eye is the left one here), as everywhere in this package but in the names of facial actions.
A 68-point scheme laid on the mesh is an approximation: of its points, those of the jaw agree least with hand-set ones.
"""

from __future__ import annotations

import numpy as np

FACE = 468
"""Points of the mesh without irises; in the larger mesh the rest are the irises."""


class View:
    """A smaller set of points, each a mesh point or the mean of several.

    Example:
        >>> nose_and_mouth = View(4, (61, 291))
        >>> nose_and_mouth(np.zeros((3, 478, 3))).shape
        (3, 2, 2)
    """

    def __init__(self, *groups: int | tuple[int, ...]) -> None:
        lists = [(group,) if isinstance(group, int) else group for group in groups]
        self.counts = np.array([len(group) for group in lists], np.float32)[:, None]
        self.indices = np.concatenate([np.array(group, np.intp) for group in lists])
        self._starts = np.cumsum([0, *(len(group) for group in lists[:-1])])

    def __call__(self, mesh: np.ndarray) -> np.ndarray:
        """Return (…, K, 2) x and y for a mesh of (…, P, 2 or 3)."""
        return np.add.reduceat(mesh[..., self.indices, :2], self._starts, -2) / self.counts.astype(mesh.dtype)


EYES = ((33, 133), (263, 362))
"""Outer and inner corner of the left and the right eye. The outer ones say how far a face is turned in the picture."""
SIDES = (234, 454, 10, 152)
"""Left and right edge of the face, top of the forehead, chin: the lines between them give the head's turn in depth."""

points5 = View((33, 133, 159, 145), (263, 362, 386, 374), 4, 61, 291)
"""Left eye, right eye (each the mean of two corners and two lids), nose tip, left and right corner of the mouth."""

# fmt: off
points68 = View(
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # jaw
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lip
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lip
)
"""The 68 points of the iBUG scheme in dlib's order."""

action_points = View(
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80, 81, 82, 84,
    87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159,
    160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283,
    284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361,
    362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415,
    454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)
"""The 146 points that the facial actions are computed from, in their network's order."""
# fmt: on

irises = View(468, 469, 470, 471, 472, 473, 474, 475, 476, 477)
"""Centre of the left iris and four points on its rim, then the right one's; only the 478-point mesh has them."""
