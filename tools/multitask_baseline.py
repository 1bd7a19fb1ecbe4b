"""What a multi-task network must beat: the best answers that do not look at the image.

    python tools/multitask_baseline.py --root ../data/fer2013-multitask --results results/multitask.csv

Of every face it says the same: the shares of the expressions among the training faces, the mean of their valence and arousal,
and that every action unit is present, which for a rare unit gives a better F1 than guessing. A concordance of 0 follows.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import mien
from mien.data.datasets import Dataset, open_dataset
from mien.data.labeled_faces import Face
from mien.evaluation.compare.rows import write_row
from mien.evaluation.predictors import Answers
from mien.evaluation.tta import View
from mien.labels import ACTION_UNITS


class Constant:
    """The same answer to every image, learned from the training split."""

    name, threshold, cuts_faces = "constant", 0.0, False
    roles = ("scores", "valence_arousal", "action_units")

    def __init__(self, train: Dataset) -> None:
        counts = np.array([train.counts.get(label, 0) for label in train.labels], np.float64)
        self.labels, self.shares = train.labels, counts / counts.sum()
        assert train.valence is not None and train.arousal is not None
        self.affect = np.array([np.nanmean(train.valence), np.nanmean(train.arousal)])

    def prepare(self, data: Dataset) -> None:
        """Nothing is needed."""

    def describe(self) -> dict[str, Any]:
        """Return what the evaluation is known by."""
        return {"name": self.name, "version": "1", "sha256": "", "output": "scores", "parameters": 0, "card": {}}

    def __call__(self, faces: Sequence[Face], looks: Sequence[View]) -> Answers:
        """Say the same of each."""
        present, unlit = np.ones(len(ACTION_UNITS)), np.zeros(2)  # how light the images are is not looked at
        shares, light, affect, units = (
            np.tile(values, (len(faces), 1)) for values in (self.shares, unlit, self.affect, present)
        )
        return Answers(shares, light, valence_arousal=affect, action_units=units)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="what tools/make_multitask_fer2013.py made")
    parser.add_argument("--results", type=Path, required=True, help="csv for the row")
    given = parser.parse_args()
    train, test = (open_dataset("csv", given.root, split, labels="ferplus") for split in ("train", "test"))
    with tempfile.TemporaryDirectory() as folder:
        report = mien.evaluate(Constant(train), test, out=folder, faces="whole", page=False)
        write_row(given.results, report)


if __name__ == "__main__":
    main()
