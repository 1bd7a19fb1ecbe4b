"""Does the file answer what its source answers? Asked with faces of the bundled photograph, at batches of 1, 2 and 7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..cards import Card
from ..errors import ExportError
from ..faces.preprocessing import Preprocess
from ..io.images import read_image, sample
from ..models.torch_runtime import FEATURE
from ..runtime.open_model import Runtime

BATCHES = (1, 2, 7)
TOLERANCES: Mapping[str | None, float | None] = {"fp32": 1e-4, "fp16": 1e-2, "int8": None, None: 1e-4}
"""Precision → largest difference of an output. Of probabilities, valence, arousal and the like it is absolute, of the feature
relative to its largest value. int8 has none: it is judged by accuracy. None: the precision did not change."""
ROUNDED = 5e-2
"""The same for 8-bit networks that go from one runtime to another."""
FACE = (190, 40, 150)
"""Left, top and side of the face in the bundled photograph."""


def faces(count: int) -> list[np.ndarray]:
    """Return (S, S, 3) uint8 RGB images: windows of the bundled photograph around the face, of different places and sizes."""
    pixels = read_image(sample()).pixels
    left, top, side = FACE
    found = []
    for number in range(count):
        wide = side + 23 * (number % 4)
        x, y = left - 11 * (number % 3), top + 7 * (number % 5)
        window = pixels[y : y + wide, x : x + wide]
        found.append(np.ascontiguousarray(window[:, ::-1] if number % 2 else window))
    return found


def largest_difference(card: Card, source: Runtime, exported: Card, file: Runtime) -> dict[str, float]:
    """Return role → largest difference between the answers of two networks, each fed as its own card says.

    Raises:
        ExportError: the file gives NaN, or another number of answers, or the network has other classes than its card.
    """
    found: dict[str, float] = {}
    for batch in BATCHES:
        images = faces(batch)
        wanted, given = (
            run(preprocess.batch([preprocess.take(image) for image in images]))
            for run, preprocess in ((source, Preprocess.of(card)), (file, Preprocess.of(exported)))
        )
        width = wanted[card.outputs["scores"]].shape[-1]
        if width != len(card.labels):
            raise ExportError(
                f"the card of {card.name} names {len(card.labels)} classes, but the network has {width}; mend its labels"
            )
        pairs = [(role, wanted[name], given[exported.outputs[role]]) for role, name in _roles(card, wanted)]
        if Preprocess.of(exported).raw and not Preprocess.of(exported).regions:  # images of their own size
            own = [file(image[None])[exported.outputs["scores"]] for image in images]
            pairs.append(("scores", wanted[card.outputs["scores"]], np.concatenate(own)))
        for role, left, right in pairs:
            if left.shape != right.shape or not np.isfinite(right).all():
                shape = "NaN" if left.shape == right.shape else f"the shape {right.shape} instead of {left.shape}"
                raise ExportError(f"the exported {role} have {shape} at batch {batch}; nothing was written")
            unit = max(1.0, float(np.abs(left).max())) if role == FEATURE else 1.0
            found[role] = max(found.get(role, 0.0), float(np.abs(left - right).max()) / unit)
    return found


def _roles(card: Card, answers: Mapping[str, np.ndarray]) -> Sequence[tuple[str, str]]:
    roles = dict(card.outputs)
    if FEATURE in answers:
        roles.setdefault(FEATURE, FEATURE)
    return list(roles.items())


def check(differences: Mapping[str, float], limit: float | None) -> None:
    """Raise where a difference is larger than it may be.

    Raises:
        ExportError: it is.
    """
    role, worst = max(differences.items(), key=lambda each: each[1])
    if limit is not None and not worst <= limit:
        raise ExportError(
            f"the file differs from its source by {worst:.1e} in {role}, more than {limit:.0e}; nothing was written. "
            "Export it with more precision"
        )
