"""Frames of films and videos: SFEW and Aff-Wild2.

**SFEW 2.0** (Dhall et al. 2015): single frames of films in seven classes, 958 for training and 436 for validation. The labels
of the test frames were never published. A name such as `AlexEmma_000435486_00000021.png` contains film, time and face; two
frames of one time are one recording.

**s-Aff-Wild2** (Kollias et al., 7th ABAW challenge): video frames with valence, arousal, expression and twelve action units.
Each line of an annotation file is `video/frame.jpg` and 15 numbers; −5 marks a missing valence or arousal, −1 a missing
expression or action unit. `filter=strict` keeps the fully annotated frames (52,154 of 142,382 for training, 15,440 of 26,876
for validation), the other filters those that have one task's numbers.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import ConfigError, DatasetError
from ...io.files import csv_text, write_file
from ...labels import ACTION_UNITS, AFFWILD2, ALPHABETICAL7, canonical
from . import reader
from .dataset import Dataset
from .folders import ListedImages, read_class_folders
from .layout import Damage, Place, child, children
from .listing import affect, single_precision, subfolders, texts

SFEW_FOLDERS = {
    "aligned": {"train": "Train_Aligned_Faces*", "validation": "Val_Aligned_Faces*"},
    "whole": {"train": "Train", "validation": "Val"},
}


def read_sfew(place: Place) -> Dataset:
    """Read the class folders of one of the two versions; DatasetError if the requested one is missing."""
    wanted = place.options["images"]
    found = {kind: _folders(place, patterns) for kind, patterns in SFEW_FOLDERS.items() if wanted in (kind, "auto")}
    kind = next((kind for kind, folders in found.items() if folders), None)
    if kind is None:
        looked = " or ".join(pattern for kind in found for pattern in SFEW_FOLDERS[kind].values())
        message = f"SFEW under {place.base} has no class folders in {looked}; images=aligned|whole chooses the other version"
        raise DatasetError(message)
    data = read_class_folders(place, found[kind], ALPHABETICAL7)
    stems = [str(name).rpartition("/")[2].rpartition(".")[0].rsplit("_", 2) for name in data.names]
    return dataclasses.replace(
        data,
        sequence=texts("_".join(stem[:2]) if len(stem) == 3 else "" for stem in stems),
        groups={"film": texts(stem[0] if len(stem) == 3 else "" for stem in stems)},
        notes=(f"images={kind}",) if wanted == "auto" else (),
    )


def _folders(place: Place, patterns: Mapping[str, str]) -> dict[str, str]:
    """Folder → part: for each part the first folder that fits, or is in or around one that fits, and holds class folders."""
    found = {}
    for part, pattern in patterns.items():
        for folder in (path for way in (pattern, f"*/{pattern}", f"{pattern}/*") for path in children(place.base, way)):
            wanted = folder.is_dir() and ("aligned" in folder.name.lower()) == ("Aligned" in pattern)
            if wanted and any(canonical(name) in ALPHABETICAL7 for name in subfolders(folder)):
                found[folder.relative_to(place.base).as_posix()] = part
                break
    return found


FILES = {"train": "training_set_annotations.txt", "validation": "validation_set_annotations.txt", "test": "test_set*.txt"}
FOLDERS = ("", "annotations/", "*/")
COMPLETE = {"train": 52154, "validation": 15440}  # part → rows of the published file that the strict filter leaves


@dataclass(frozen=True, slots=True)
class Annotations:
    """One annotation file; row i is line i + 2."""

    frames: np.ndarray  # (N,) str: `video/frame.jpg`
    affect: np.ndarray  # (N, 2) float32 valence and arousal, NaN where missing
    expression: np.ndarray  # (N,) int64 index into `mien.labels.AFFWILD2`, −1 where missing
    units: np.ndarray  # (N, 12) int8: 1, 0, or −1 where missing

    def valid(self, which: str) -> np.ndarray:
        """Return (N,) bool: the rows that a value of the option `filter` keeps."""
        tasks = {
            "valence-arousal": ~np.isnan(self.affect).any(1),
            "expression": self.expression >= 0,
            "action-units": (self.units >= 0).all(1),
        }
        if which == "none":
            return np.ones(len(self.frames), bool)
        wanted = list(tasks) if which == "strict" else [which]
        return np.asarray(np.stack([tasks[task] for task in wanted]).all(0))


def read_annotations(path: Path, damage: Damage) -> Annotations:
    """Read an annotation file, or the list of test frames; lines that are neither are reported to `damage` and dropped."""
    frames, numbers = [], []
    for line, text in enumerate(path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines(), 1):
        fields = [field.strip() for field in text.split(",")]
        if not text.strip() or (line == 1 and fields[0].lower() in ("image", "image_location")):
            continue
        try:
            if len(fields) not in (1, 16):
                raise ValueError(f"{len(fields)} fields instead of 16")
            numbers.append([float(field) for field in fields[1:]] or [-5.0, -5.0] + [-1.0] * 13)
            frames.append(fields[0])
        except ValueError as error:
            damage(f"{path.name} line {line}: {error}")
    table = single_precision(numbers).reshape(-1, 15)
    expression, units = table[:, 2], table[:, 3:]
    return Annotations(
        texts(frames),
        affect(table[:, :2]),
        np.where(np.isin(expression, range(len(AFFWILD2))), expression, -1).astype(np.int64),
        np.where((units == 0) | (units == 1), units, -1).astype(np.int8),
    )


def annotation_files(base: Path) -> dict[str, Path]:
    """Return part → annotation file for those in `base` or in a folder of it."""
    ways = {part: [f"{folder}{name}" for folder in FOLDERS] for part, name in FILES.items()}
    return {part: path for part, names in ways.items() if (path := child(base, *names))}


def read_affwild2(place: Place) -> Dataset:
    """Read the annotated frames that the option `filter` keeps; DatasetError if none is left."""
    listed = ListedImages(place, place.marked[0])
    for part, path in annotation_files(place.base).items():
        table = read_annotations(path, place.damage)
        kept = table.valid(place.options["filter"]) if part != "test" else np.ones(len(table.frames), bool)
        for row in np.flatnonzero(kept):
            values = {"affect": table.affect[row], "units": table.units[row]}
            listed.add(str(table.frames[row]), path.name, label=table.expression[row], part=part, **values)
    if not listed.names:
        raise DatasetError(
            f"the annotation files of s-Aff-Wild2 under {place.base} leave no frame with filter={place.options['filter']}; "
            "take another filter"
        )
    valence, arousal = np.array(listed.rows["affect"]).T
    units, videos = np.array(listed.rows["units"]), texts(name.rpartition("/")[0] for name in listed.names)
    annotations = {"valence": valence, "arousal": arousal, "action_units": units, "unit_names": ACTION_UNITS}
    return listed.dataset(AFFWILD2, sequence=videos, **annotations)


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
    lines: list[list[object]] = [["image", "valence", "arousal", "expression", *ACTION_UNITS]]
    for row in np.flatnonzero(kept).tolist():
        affect_of = [-5 if np.isnan(value) else f"{value:g}" for value in table.affect[row]]
        lines.append([table.frames[row], *affect_of, int(table.expression[row]), *table.units[row].tolist()])
    write_file(target, csv_text(lines), errors="surrogateescape")
    return Curated(part, target.name, rows, number, _reasons(table, kept), len(damage.found), True if full else None)


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
