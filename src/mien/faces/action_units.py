"""FACS action units estimated from blendshapes and the face mesh.

Blendshape-derived, not FACS-coded: intensities 0 … 1 of the blendshape that published tables agree on (py-feat, Py-Feat-Live,
Ozel's ARKit table), for the units whose blendshape the network activates. No open dataset exists to validate them against human
FACS coders. `UNSUPPORTED` lists what cannot be estimated; it is missing in the output, never zero.
"""

import math
from collections.abc import Mapping

import numpy as np

SIDED: Mapping[str, str] = {
    "AU2": "browOuterUp", "AU4": "browDown", "AU7": "eyeSquint", "AU10": "mouthUpperUp", "AU12": "mouthSmile",
    "AU15": "mouthFrown", "AU16": "mouthLowerDown", "AU20": "mouthStretch", "AU24": "mouthPress", "AU45": "eyeBlink",
}  # fmt: skip
"""Action unit → blendshape with a left and a right side."""
CENTRAL: Mapping[str, tuple[str, ...]] = {
    "AU1": ("browInnerUp",), "AU17": ("mouthShrugLower",), "AU18": ("mouthPucker",), "AU26": ("jawOpen",),
    "AU28": ("mouthRollLower", "mouthRollUpper"),
}  # fmt: skip
"""Action unit → blendshapes without sides; of several, the mean."""
UNSUPPORTED: Mapping[str, str] = {
    "AU5": "eyeWide stays below 0.5",
    "AU6": "cheekSquint is never activated, not even by broad smiles",
    "AU9": "noseSneer is never activated",
    "AU14": "mouthDimple does not follow dimples",
    "AU22": "mouthFunnel stays below 0.3",
    "AU23": "no blendshape corresponds to it",
}
"""Action unit → why it cannot be estimated. The maxima are over 1,644 news portraits."""

UNITS = tuple(sorted({*SIDED, *CENTRAL, "AU25"}, key=lambda name: int(name[2:])))  # the action units that are estimated
COLUMNS = tuple(name for unit in UNITS for name in (unit, *([f"{unit}_left", f"{unit}_right"] if unit in SIDED else [])))
"""The keys of `estimate`, in order."""

LIPS, EYES = (13, 14), (33, 263)
CLOSED, OPEN = 0.02, 0.22
"""Gap between the inner lips, in distances of the outer eye corners, that means AU25 of 0 and of 1: the 99th percentile of
neutral faces of the London set, and the 95th of news portraits."""


def estimate(blendshapes: Mapping[str, float], points: np.ndarray) -> dict[str, float]:
    """Return the intensity of each unit, 0 … 1, for the 52 blendshapes and mesh points (P, 3).

    A unit with sides, the person's, has three: `"AU12"`, `"AU12_left"` and `"AU12_right"`; the first is that of the stronger
    side, as FACS codes it.
    """
    found: dict[str, float] = {}
    for unit, blendshape in SIDED.items():
        left, right = blendshapes[f"{blendshape}Left"], blendshapes[f"{blendshape}Right"]
        found |= {unit: max(left, right), f"{unit}_left": left, f"{unit}_right": right}
    for unit, names in CENTRAL.items():
        found[unit] = sum(blendshapes[name] for name in names) / len(names)
    upper, lower, left, right = (points[i].tolist() for i in (*LIPS, *EYES))
    gap = math.dist(upper, lower) / max(math.dist(left, right), 1e-9)
    found["AU25"] = min(max((gap - CLOSED) / (OPEN - CLOSED), 0.0), 1.0)
    return {name: found[name] for name in COLUMNS}
