"""What a model under evaluation is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..datasets import Dataset
from ..errors import WeightsError
from ..metrics import checked_probabilities
from ..preprocessing import grey
from .faces import Face
from .views import View


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model says about N faces."""

    probabilities: np.ndarray
    """(N, K) in the order of the predictor's labels."""
    light: np.ndarray
    """(N, 2) mean and standard deviation of the grey levels that it was fed, 0 … 255."""
    valence_arousal: np.ndarray | None = None
    """(N, 2)."""
    action_units: np.ndarray | None = None
    """(N, U) probabilities."""


@runtime_checkable
class Predictor(Protocol):
    """A model under evaluation; one of your own is asked as it is.

    One that answers with more than classes names it in an attribute `roles`: `"valence_arousal"`, `"action_units"`.
    """

    name: str
    """By which reports call it."""
    labels: tuple[str, ...]
    """Classes in the order of its probabilities."""
    threshold: float
    """Confidence below which it abstains."""
    cuts_faces: bool
    """Whether it can be asked about faces in photographs."""

    def prepare(self, data: Dataset) -> None:
        """Look at the data set before the first question."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what identifies it, as plain values: name, version, digest, output, card."""
        ...

    def __call__(self, faces: Sequence[Face], looks: Sequence[View]) -> Answers:
        """Answer, as the mean over the views."""
        ...


def checked(values: np.ndarray, labels: Sequence[str], name: str) -> np.ndarray:
    """Return probabilities as (N, K) float64.

    Raises:
        WeightsError: they are none, or of other classes; see `mien.metrics.checked_probabilities`.
    """
    try:
        return checked_probabilities(values, labels, name)
    except ValueError as error:
        raise WeightsError(str(error)) from error


def light(crops: Sequence[np.ndarray]) -> np.ndarray:
    """Return (N, 2) mean and standard deviation of the grey levels of (h, w, channels) uint8 pictures, 0 … 255."""
    levels = [grey(crop) if crop.ndim == 3 and crop.shape[2] == 3 else crop for crop in crops]
    return np.array([[level.mean(), level.std()] for level in levels]).reshape(-1, 2)
