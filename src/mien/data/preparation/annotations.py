"""Annotations of s-Aff-Wild2 reduced to the frames that can be used for training, with the reasons of the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import ConfigError, DatasetError
from ...io.files import csv_text, write_file
from ...labels import ACTION_UNITS
from ..datasets import reader
from ..datasets.films import COMPLETE, Annotations, annotation_files, read_annotations
from ..datasets.layout import Damage

NAMES = {"train": "filtered_training_set_annotations.csv", "validation": "filtered_validation_set_annotations.csv"}
"""Part → file written; the names that the multi-task authors use."""


@dataclass(frozen=True, slots=True)
class Curated:
    """What became of one annotation file."""

    part: str
    """`"train"` or `"validation"`."""
    file: str
    """The file written."""
    rows: int
    """Rows read."""
    kept: int
    """Rows written."""
    dropped: Mapping[str, int]
    """What a row lacked → rows that lacked exactly that: `"expression, action units"`."""
    unreadable: int
    """Invalid lines."""
    published: bool | None
    """Whether rows and kept rows are those of the published set; None where the file is not the full one, or the filter
    not the published one."""


def curate(root: str | Path, out: str | Path, filter: str = "strict") -> tuple[Curated, ...]:  # noqa: A002 - the option's name
    """Filter the annotation files of s-Aff-Wild2 below `root`; the images are not needed.

    Writes `filtered_{training,validation}_set_annotations.csv` to `out`: a header, then image, valence, arousal, expression and
    twelve action units in the columns of the original; a value that is missing stays −5 or −1. `filter` is `"strict"` (all
    annotations, as the published systems do), `"valence-arousal"`, `"expression"`, `"action-units"`, or `"none"`. Raises
    ConfigError: unknown filter, the disk is full, or the folder is not writable; DatasetError: annotation file not found, or
    unexpected counts in a complete file.
    """
    known = reader("affwild2")
    if filter not in (filters := known.options["filter"].choices):
        raise ConfigError(f"unknown filter {filter!r}; expected one of {', '.join(filters)}", value=filter, expected=filters)
    files = {part: path for part, path in annotation_files(Path(root)).items() if part in NAMES} if Path(root).is_dir() else {}
    if not files:
        raise DatasetError(f"no training_set_annotations.txt or validation_set_annotations.txt under {root}. {known.obtain}")
    return tuple(_curate(part, path, Path(out), filter, known.published[part]) for part, path in files.items())


def _curate(part: str, source: Path, out: Path, which: str, published: int) -> Curated:
    damage = Damage("skip")
    table = read_annotations(source, damage)
    kept = table.valid(which)
    rows, number = len(kept), int(kept.sum())
    full = which == "strict" and rows == published
    if full and number != COMPLETE[part]:
        counts = f"the {rows:,} rows of the full file, but {number:,} instead of {COMPLETE[part]:,} are complete"
        raise DatasetError(f"{source} has {counts}; download it again", path=source, value=number, expected=COMPLETE[part])
    target = out / NAMES[part]
    lines = [["image", "valence", "arousal", "expression", *ACTION_UNITS]]
    lines += [_row(table, row) for row in np.flatnonzero(kept).tolist()]
    write_file(target, csv_text(lines), errors="surrogateescape")
    return Curated(part, target.name, rows, number, _reasons(table, kept), len(damage.found), True if full else None)


def _row(table: Annotations, index: int) -> list[object]:
    affect = [-5 if np.isnan(value) else f"{value:g}" for value in table.affect[index]]
    return [table.frames[index], *affect, int(table.expression[index]), *table.units[index].tolist()]


def _reasons(table: Annotations, kept: np.ndarray) -> dict[str, int]:
    lacking = {
        "valence and arousal": ~table.valid("valence-arousal"),
        "expression": ~table.valid("expression"),
        "action units": ~table.valid("action-units"),
    }
    code = sum(lack.astype(int) << bit for bit, lack in enumerate(lacking.values()))
    counts = np.bincount(np.asarray(code)[~kept], minlength=8)
    names = [", ".join(name for bit, name in enumerate(lacking) if number >> bit & 1) for number in range(8)]
    return {name: int(count) for name, count in zip(names, counts, strict=True) if count}
