"""Probabilities that another package left in a file, as a model under evaluation."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import Dataset
from ..errors import ConfigError, WeightsError
from ..labels import FER2013, canonical
from ..weights import sha256
from .answers import Answers, checked, light
from .faces import Face
from .views import View

PEER = "peer:"
"""`peer:NAME=FILE.npz` is a table of probabilities."""


class StoredPredictor:
    """Probabilities that another package gave for a data set, in a `.npz` file.

    Arrays: `probs` (N, K); `labels` (K,) names, FER2013's seven in their order without it; `names` (N,) of the pictures, or
    else rows in the order of the data set; `y` (N,) labels to check that order by; `speed` pictures a second, `memory_mb`.

    Args:
        name: by which reports call it.
        path: the file.

    Raises:
        WeightsError: the file is missing or holds no such arrays.
    """

    threshold = 0.0
    cuts_faces = False

    def __init__(self, name: str, path: str | Path) -> None:
        self.name = name
        self.arrays = _arrays(name, path)
        if "probs" not in self.arrays:
            raise WeightsError(f"{path} has no array `probs`; it has: {', '.join(self.arrays) or 'nothing'}")
        self.labels = tuple(canonical(str(one)) for one in self.arrays.get("labels", np.array(FER2013)))
        self.probabilities = checked(self.arrays["probs"], self.labels, f"{path}")
        self.path = Path(path)
        self.rows = np.empty(0, np.int64)

    def prepare(self, data: Dataset) -> None:
        """Find the row of every picture.

        Raises:
            WeightsError: the file is about other pictures.
        """
        if "names" in self.arrays:
            place = {str(name): row for row, name in enumerate(self.arrays["names"].tolist())}
            missing = [str(name) for name in data.names.tolist() if str(name) not in place]
            if missing:
                raise WeightsError(
                    f"{self.path} says nothing about {len(missing):,} of {len(data):,} pictures, first {missing[0]}; "
                    "give a row for each"
                )
            self.rows = np.array([place[str(name)] for name in data.names.tolist()], np.int64)
        elif len(self.probabilities) != len(data):
            raise WeightsError(
                f"{self.path} has {len(self.probabilities):,} rows for {len(data):,} pictures and no array `names`; add it"
            )
        else:
            self.rows = np.arange(len(data))
        if "y" in self.arrays:
            self._compare(self.arrays["y"], data)

    def _compare(self, label: np.ndarray, data: Dataset) -> None:
        """Refuse labels (N,) that are others than the data set's; −1 is "no label" in both."""
        fits = label.shape == (len(self.probabilities),) and label.dtype.kind in "iu"
        if not fits or label.min(initial=0) < -1 or label.max(initial=0) >= len(self.labels):
            raise WeightsError(
                f"{self.path}: `y` must hold {len(self.probabilities):,} numbers of its {len(self.labels)} classes, or −1; "
                f"it has the shape {label.shape} and the type {label.dtype}"
            )
        named, known = (*self.labels, "not labelled"), (*data.labels, "not labelled")  # which −1 points at
        theirs = [named[index] for index in label[self.rows].tolist()]
        ours = [known[index] for index in data.label.tolist()]
        if wrong := [row for row, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b]:
            raise WeightsError(
                f"{self.path} is about other pictures: row {wrong[0]} is {theirs[wrong[0]]} there, "
                f"{ours[wrong[0]]} here ({len(wrong):,} rows differ); "
                "give the probabilities of this split"
            )

    def describe(self) -> dict[str, Any]:
        """Return its name, digest of the file, and speed and memory if the file says them."""
        more = {key: float(self.arrays[key]) for key in ("speed", "memory_mb", "parameters") if key in self.arrays}
        version = str(self.arrays.get("version", ""))
        return {"name": self.name, "version": version, "sha256": sha256(self.path), "output": "", **more}

    def __call__(self, faces: Sequence[Face], looks: Sequence[View]) -> Answers:
        """Look the answers up.

        Raises:
            ConfigError: more than one view was asked for.
        """
        if len(looks) > 1:
            raise ConfigError(f"{self.name} is a table of probabilities, which has one view; leave out --tta")
        return Answers(self.probabilities[self.rows[[face.row for face in faces]]], light([face.pixels for face in faces]))


def _arrays(name: str, path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of a `.npz` file of probabilities, by name."""
    try:
        with Path(path).open("rb") as file:  # which numpy leaves open where it cannot read it
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise ValueError("it is a single array, .npy")
            return {key: found[key] for key in found.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"probabilities of {name}: {path} cannot be read ({error}); a .npz with `probs` is needed"
        ) from error
