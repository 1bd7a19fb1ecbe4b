"""Compare the outputs of a file with those of its source, on faces of the bundled photograph at batch sizes 1, 2 and 7."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..cards import FOUND, Card
from ..errors import ExportError
from ..faces.preprocessing import Preprocess
from ..io.images import read_image, sample
from ..models.torch_runtime import FEATURE
from ..runtime.onnx import Batch
from ..runtime.open_model import Runtime

BATCHES = (1, 2, 7)
TOLERANCES: Mapping[str | None, float | None] = {"fp32": 1e-4, "fp16": 1e-2, "int8": None, None: 1e-4}
"""Precision → maximum difference of an output: absolute, or relative to the largest value for the feature. int8 is judged by
accuracy instead. None: unchanged precision."""
ROUNDED = 5e-2
"""The same for 8-bit networks in another runtime."""
FACE = (190, 40, 150)
"""Left, top and side of the face in the bundled photograph."""


def faces(count: int) -> list[np.ndarray]:
    """Return (S, S, 3) uint8 RGB images: windows of several places and sizes around the face of the bundled photograph."""
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
    """Return role → largest difference between the outputs of two networks, each with the preprocessing of its card.

    Raises:
        ExportError: NaN, another shape, or another number of classes than on the card.
    """
    found: dict[str, float] = {}
    for batch in BATCHES:
        images = faces(batch)
        wanted, given = (
            run(_batch(preprocess, images))
            for run, preprocess in ((source, Preprocess.of(card)), (file, Preprocess.of(exported)))
        )
        width = wanted[card.outputs["scores"]].shape[-1]
        if width != len(card.labels):
            raise ExportError(
                f"the card of {card.name} names {len(card.labels)} classes, but the network has {width}; fix its labels",
                value=width,
                expected=len(card.labels),
            )
        pairs = [(role, wanted[name], given[exported.outputs[role]]) for role, name in _roles(card, wanted)]
        if Preprocess.of(exported).raw and not Preprocess.of(exported).regions:  # Images may have any size.
            own = [file(image[None])[exported.outputs["scores"]] for image in images]
            pairs.append(("scores", wanted[card.outputs["scores"]], np.concatenate(own)))
        for role, left, right in pairs:
            if left.shape != right.shape or not np.isfinite(right).all():
                shape = "NaN" if left.shape == right.shape else f"the shape {right.shape} instead of {left.shape}"
                message = f"the exported {role} have {shape} at batch size {batch}; nothing was written"
                raise ExportError(message, value=role)
            unit = max(1.0, float(np.abs(left).max())) if role == FEATURE else 1.0
            found[role] = max(found.get(role, 0.0), float(np.abs(left - right).max()) / unit)
    return found


def _batch(preprocess: Preprocess, images: Sequence[np.ndarray]) -> Batch:
    """Return the inputs for these faces; of ensembles with regions, every second face counts as one with landmarks."""
    batch = preprocess.batch([preprocess.take(image) for image in images])
    if isinstance(batch, dict) and FOUND in batch:
        batch[FOUND] = (np.arange(len(images)) % 2).astype(np.float32)
    return batch


def _roles(card: Card, outputs: Mapping[str, np.ndarray]) -> Sequence[tuple[str, str]]:
    roles = dict(card.outputs)
    if FEATURE in outputs:
        roles.setdefault(FEATURE, FEATURE)
    return list(roles.items())


def check(differences: Mapping[str, float], limit: float | None) -> None:
    """Raise if a difference exceeds the limit.

    Raises:
        ExportError: the largest difference exceeds it.
    """
    role, worst = max(differences.items(), key=lambda each: each[1])
    if limit is not None and not worst <= limit:
        raise ExportError(
            f"the file differs from its source by {worst:.1e} in {role}, more than {limit:.0e}; nothing was written. "
            "Export it with more precision",
            value=worst,
            expected=limit,
        )
