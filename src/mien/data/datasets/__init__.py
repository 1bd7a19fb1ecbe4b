"""Datasets of facial expressions, read from the files that people really have.

>>> from mien.data.datasets import DATASETS
>>> sorted(DATASETS)[:3]
['affectnet7', 'affectnet8', 'affwild2']
"""

from __future__ import annotations

from pathlib import Path

from ...registry import lookup
from .dataset import Dataset
from .layout import Damaged
from .protocols import DEFAULT_DRAW, Draw
from .reader import Reader
from .sample import Sample

__all__ = ["DATASETS", "Dataset", "Draw", "Reader", "Sample", "open_dataset", "reader"]

DATASETS: dict[str, str] = {
    "fer2013": "mien.data.datasets.fer2013:READER",
    "ferplus": "mien.data.datasets.ferplus:READER",
    "rafdb": "mien.data.datasets.rafdb:READER",
    "affectnet7": "mien.data.datasets.affectnet:AFFECTNET7",
    "affectnet8": "mien.data.datasets.affectnet:AFFECTNET8",
    "ckplus": "mien.data.datasets.ckplus:READER",
    "jaffe": "mien.data.datasets.jaffe:READER",
    "sfew": "mien.data.datasets.sfew:READER",
    "affwild2": "mien.data.datasets.affwild2:READER",
    "london": "mien.data.datasets.london:READER",
    "pooled": "mien.data.datasets.pooled:READER",
    "folder": "mien.data.datasets.folder:READER",
    "csv": "mien.data.datasets.csv:READER",
    "synthetic": "mien.data.datasets.synthetic:READER",
}
"""Every dataset by name."""


def reader(name: str) -> Reader:
    """Return what is known of a dataset: layouts, protocols, options, labels.

    Raises:
        UnknownName: no dataset has that name.
    """
    return lookup(name, DATASETS, "dataset")


def open_dataset(
    name: str,
    root: str | Path = ".",
    split: str = "train",
    protocol: str = "",
    *,
    draw: Draw = DEFAULT_DRAW,
    damaged: Damaged = "raise",
    **options: str,
) -> Dataset:
    """Open one split of a dataset; which of its layouts lies under `root` is found out.

    Args:
        name: entry of `DATASETS`, or `"module:attribute"` of a `Reader` of your own.
        root: the folder that holds the data, or the file that marks the layout.
        split: `"train"`, `"validation"`, `"test"`, or `"all"` for every image.
        protocol: one of the reader's protocols, or `"clean:FILE"` as `mien audit --write-clean` writes it; the
            default is the reader's first.
        draw: seed, fraction and fold of protocols that draw lots.
        damaged: whether damaged rows and missing images raise, or are left out with a note.
        **options: what the reader offers beyond that: `mode="probability"` of FERPlus, `images="original"` of RAF-DB.

    Raises:
        UnknownName: there is no such dataset, protocol or option.
        DatasetError: the data is not there, is damaged, or has no such split.

    Example:
        >>> data = open_dataset("synthetic", split="test")
        >>> data[0].label, data[0].read().shape
        ('anger', (48, 48, 3))
    """
    return reader(name).open(root, split, protocol, draw=draw, damaged=damaged, options=options)
