"""Splits of datasets into training, validation and test.

There are three families of protocols, and every reported metric names its protocol:

* `official`: the split of the dataset itself.
* `author:<system>`: the split of a published system's code, including its flaws, which are reported with every metric.
* ours: `held-out` takes the validation split from the training images, so the test images are never used for selection;
  `subject-folds` has no subject in two splits; `leak-free` and `clean:FILE` keep images of one origin together.

Random splits are drawn by a hash of each image's name and a seed: the same on every machine, and adding an image moves no
other.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ...errors import DatasetError
from ...io.files import write_file
from .dataset import Dataset

Rows = dict[str, np.ndarray]
"""Split → row numbers of the complete dataset."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Parameters of protocols with random splits."""

    seed: int = 0
    fraction: float = 0.1
    """Fraction of the training images that `held-out` uses for validation."""
    folds: int = 10
    fold: int = 0
    """Index of the test fold; the next one is the validation split."""


DEFAULT_DRAW = Draw()


@dataclass(frozen=True, slots=True)
class Protocol:
    """A named way of splitting a dataset."""

    says: str
    """Description in one sentence."""
    splits: Callable[[Dataset, Draw], Rows]
    """Returns the rows of each split."""
    flaws: tuple[str, ...] = ()
    """Known flaws, reported with every metric."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of the reader that it requires."""


def official(data: Dataset, draw: Draw) -> Rows:
    """The parts named by the files."""
    return {part: np.flatnonzero(data.part == part) for part in ("train", "validation", "test") if (data.part == part).any()}


def named_parts(data: Dataset, draw: Draw) -> Rows:
    """The parts named by the files; without any, every image is a test image."""
    return official(data, draw) or all_test(data, draw)


def held_out(data: Dataset, draw: Draw) -> Rows:
    """The part that results are published on is the test split; validation is taken from training.

    The cut is stratified by class, and takes all images of a subject or recording together where those are known. Without a
    part for training it raises DatasetError.
    """
    parts = official(data, draw)
    if "test" not in parts or not (data.label[parts["test"]] >= 0).any():  # AffectNet and others publish on validation
        parts["test"] = parts.pop("validation", np.empty(0, np.int64))
    if "train" not in parts:
        raise DatasetError(f"{data.name} has no training part to hold out from; choose another protocol")
    train = parts["train"]
    chosen = cut(data, train, draw)
    return {"train": np.setdiff1d(train, chosen), "validation": chosen, "test": parts["test"]}


def subject_folds(data: Dataset, draw: Draw) -> Rows:
    """Folds of whole subjects, about equally large: fold `fold` is the test split, the next one the validation split.

    Unknown subjects, too many folds for them, and a fold that does not exist raise DatasetError.
    """
    if data.subject is None:
        raise DatasetError(f"{data.name} has no subjects, so folds by subject are impossible; choose another protocol")
    people, count = np.unique(data.subject, return_counts=True)
    folds = _checked(draw, len(people), "subjects", 3)  # one for each split
    load, home = np.zeros(folds), {}
    for person in sorted(range(len(people)), key=lambda p: (-count[p], _lot(people[p], draw.seed))):
        home[people[person]] = fold = int(load.argmin())
        load[fold] += count[person]
    fold, validation = np.array([home[person] for person in data.subject]), (draw.fold + 1) % draw.folds
    return {
        "train": np.flatnonzero((fold != draw.fold) & (fold != validation)),
        "validation": np.flatnonzero(fold == validation),
        "test": np.flatnonzero(fold == draw.fold),
    }


def image_folds(data: Dataset, draw: Draw) -> Rows:
    """Folds of single images, regardless of the subject; validation is the test split."""
    folds = _checked(draw, len(data), "images")
    order = np.random.default_rng(draw.seed).permutation(len(data))
    test = np.sort(np.array_split(order, folds)[draw.fold])
    return {"train": np.setdiff1d(np.arange(len(data)), test), "validation": test, "test": test}


FOLDED = (subject_folds, image_folds)
"""Functions whose splits depend on fold and number of folds."""


def validation_is_test(data: Dataset, draw: Draw) -> Rows:
    """The best epoch is selected on the images that results are reported on: those of `test`, else those of `validation`.

    Without these or without `train` it raises DatasetError.
    """
    parts = official(data, draw)
    test = parts.get("test", parts.get("validation"))
    if test is None or "train" not in parts:
        has = ", ".join(parts) or "none"
        raise DatasetError(f"this protocol needs the parts train and test (or validation); the files name: {has}", value=has)
    return {"train": parts["train"], "validation": test, "test": test}


def all_test(data: Dataset, draw: Draw) -> Rows:
    """Every image is a test image: for models trained on another dataset."""
    return {"test": np.arange(len(data))}


def cut(data: Dataset, rows: np.ndarray, draw: Draw) -> np.ndarray:
    """Return about `draw.fraction` of `rows` and of every class, whole subjects or recordings; DatasetError if not in 0 … 1."""
    if not 0 < draw.fraction < 1:
        raise DatasetError(f"fraction must be between 0 and 1, got {draw.fraction}", value=draw.fraction)
    units, unit = np.unique(origins(data)[rows], return_inverse=True)
    lot = np.argsort(np.argsort([_lot(name, draw.seed).hex() for name in units]))[unit]
    taken = np.zeros(len(units), bool)
    for label in np.unique(data.label[rows]):
        mine = np.flatnonzero(data.label[rows] == label)
        fresh = mine[~taken[unit[mine]]]
        wanted = round(draw.fraction * len(mine)) - (len(mine) - len(fresh))
        taken[unit[fresh[np.argsort(lot[fresh])][: max(wanted, 0)]]] = True
    return rows[taken[unit]]


def origins(data: Dataset) -> np.ndarray:
    """Return (N,) str: key of the images that must stay together: the subject, else the recording, else the image itself.

    Splits are drawn by a hash of these keys, so their words must never change.
    """
    origin = np.array([f"picture {name}" for name in data.names], dtype=object)
    for kind, column in (("recording", data.sequence), ("subject", data.subject)):
        if column is not None:
            origin = np.where(column != "", np.array([f"{kind} {name}" for name in column], dtype=object), origin)
    return origin.astype(str)


def _lot(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}/{name}".encode(errors="surrogateescape"), digest_size=8).digest()


def _checked(draw: Draw, available: int, what: str, least: int = 2) -> int:
    if not least <= draw.folds <= available:
        valid = f"between {least} and {available} for {available} {what}"
        raise DatasetError(f"folds (data.folds in a recipe) must be {valid}, got {draw.folds}", value=draw.folds)
    if not 0 <= draw.fold < draw.folds:
        raise DatasetError(f"fold must be between 0 and {draw.folds - 1}, got {draw.fold}", value=draw.fold)
    return draw.folds


PREFIX = "clean:"
"""`open_dataset(…, protocol="clean:FILE")` uses such a file."""


@dataclass(frozen=True, slots=True)
class Clean:
    """Images to exclude from the splits of another protocol."""

    dataset: str
    """Entry of `mien.data.datasets.DATASETS`."""
    protocol: str
    """The protocol whose splits are cleaned."""
    digests: Mapping[str, str]
    """Split → digest before cleaning: the file applies to this copy of the data only."""
    drop: Mapping[str, Sequence[str]]
    """Split → names of the images to exclude."""
    why: Mapping[str, str]
    """Split → rule by which they were selected."""

    def write(self, path: str | Path) -> None:
        """Write the file as JSON."""
        write_file(path, json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")

    def apply(self, data: Dataset, path: str) -> Dataset:
        """Return one split without the excluded images; DatasetError if `data` is another copy or dataset."""
        if data.name != self.dataset or data.digest != self.digests.get(data.split):
            digest = self.digests.get(data.split, "absent")[:12]
            raise DatasetError(
                f"{path} was made from another copy of {self.dataset} (split {data.split}, digest {digest}, here "
                f"{data.digest[:12]}); run mien audit --write-clean on this copy"
            )
        kept = np.flatnonzero(~np.isin(data.names, list(self.drop.get(data.split, ()))))
        note = f"{len(data) - len(kept)} of {len(data)} images excluded: {self.why[data.split]}"
        return data.take(kept, protocol=f"{PREFIX}{Path(path).name}", notes=(*data.notes, note))


def read_clean(path: str | Path) -> Clean:
    """Read a clean protocol; DatasetError if the file does not exist or is invalid."""
    try:
        return Clean(**json.loads(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise DatasetError(f"{path} does not exist; mien audit --write-clean writes clean protocols", path=path) from error
    except (ValueError, TypeError) as error:
        message = f"{path} is not a clean protocol ({error}); mien audit --write-clean writes one"
        raise DatasetError(message, path=path) from error
