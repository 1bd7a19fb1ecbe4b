"""One labeled image of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...io.images import read_image


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its annotations; missing ones are None or empty.

    Example:
        >>> Sample("00007", np.zeros((48, 48), np.uint8), label="fear").read().shape
        (48, 48, 3)
    """

    name: str
    """Identity inside the dataset: the path below its root, with `/`, or the row number of a csv."""
    image: Path | np.ndarray = field(compare=False, repr=False)
    """Path of the image, or its pixels: (H, W) or (H, W, 3) uint8. Files are decoded by `read`."""
    label: str | None = None
    """Class name, as `mien.labels` spells it."""
    distribution: Mapping[str, float] | None = None
    """Soft label: class → probability, summing to one."""
    votes: Mapping[str, int] | None = None
    """Number of annotators per class, which may include classes beyond the labels (`unknown`, `NF`)."""
    valence: float | None = None
    """−1 (unpleasant) … 1 (pleasant)."""
    arousal: float | None = None
    """−1 (calm) … 1 (excited)."""
    action_units: Mapping[str, bool] | None = None
    """Facial action units: `{"AU12": True, …}`, only those that were annotated for this image."""
    box: tuple[float, float, float, float] | None = None
    """Left, top, right and bottom of the face in pixels, if annotated."""
    subject: str | None = None
    """Identity of the person."""
    sequence: str | None = None
    """Recording of which the image is a frame."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Other columns for comparing results: gender, age range, film …"""

    def read(self) -> np.ndarray:
        """Decode the image to (H, W, 3) uint8 RGB.

        Raises:
            SourceError: the file cannot be read as an image.
        """
        return read_image(self.image).pixels
