"""Datasets of facial expressions, in the layouts in which they are distributed.

>>> from mien.data.datasets import DATASETS
>>> sorted(DATASETS)[:3]
['affectnet7', 'affectnet8', 'affwild2']
"""

import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...cards import ASSETS
from ...registry import lookup
from .dataset import Dataset, Sample
from .layout import Damaged
from .protocols import DEFAULT_DRAW, Draw
from .reader import Reader, described

__all__ = ["DATASETS", "Dataset", "Draw", "Reader", "Sample", "open_dataset", "reader"]

DATASETS: Mapping[str, Mapping[str, Any]] = tomllib.loads((ASSETS / "datasets.toml").read_text(encoding="utf-8"))
"""Every dataset by name, with its entry in `datasets.toml`."""


@functools.cache
def reader(name: str) -> Reader:
    """Return the reader of a dataset, with its layouts, protocols, options and labels; UnknownName for an unknown one."""
    table = lookup(name, DATASETS, "dataset")
    return table if isinstance(table, Reader) else described(name, {**DATASETS.get(table.get("like"), {}), **table})


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
    """Open one split of a dataset; the layout under `root` is detected.

    Args:
        name: entry of `DATASETS`, or `"module:attribute"` of a `Reader` of your own.
        root: folder of the data, or the file that identifies the layout.
        split: `"train"`, `"validation"`, `"test"`, or `"all"` for every image.
        protocol: one of the reader's protocols, by default the first, or `"clean:FILE"` as written by
            `mien audit --write-clean`.
        draw: seed, fraction and fold of protocols with random splits.
        damaged: whether invalid rows and missing images raise, or are skipped with a note.
        **options: options of the reader, such as `mode="probability"` of FERPlus or `images="original"` of RAF-DB.

    Raises:
        UnknownName: unknown dataset, protocol or option.
        DatasetError: the data is missing or invalid, or has no such split.

    Example:
        >>> data = open_dataset("synthetic", split="test")
        >>> data[0].label, data[0].read().shape
        ('anger', (48, 48, 3))
    """
    return reader(name).open(root, split, protocol, draw=draw, damaged=damaged, options=options)
