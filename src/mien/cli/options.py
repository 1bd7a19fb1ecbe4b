"""Options that several commands about datasets and models share, with one help text each."""

# Annotations are not postponed: commands extend these classes in other modules, where their types are resolved.

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from .. import cards
from ..data.datasets import Dataset, Draw, open_dataset
from ..data.datasets.layout import Damaged
from ..errors import ConfigError, MienError
from .terminal import File, note

if TYPE_CHECKING:
    from ..evaluation.report import Report

MODEL = "Name of a bundled model, a card, a weight file, the folder of a run, MODULE:FUNCTION, or peer:NAME=FILE.npz."
Model = Annotated[File, Parameter(help=MODEL)]
"""The argument MODEL of commands that evaluate."""


Head = Annotated[str, Parameter(help="Output (head) of the model; auto takes the one named after the dataset, or else scores.")]
Limit = Annotated[int, Parameter(help="Use only this many images, evenly spread; 0 for all.")]
Batch = Annotated[int, Parameter(help="Images in one call of the network.")]
Replace = Annotated[bool, Parameter(help="Replace the evaluation in the folder.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Source:
    """Location and split of a dataset."""

    root: Path = Path()
    """Folder of the dataset."""
    protocol: str = ""
    """Protocol that makes the splits; by default the dataset's first (audit and prepare: the parts named by the files)."""
    images: str = ""
    """Folder from which the paths of a csv list start, if not that of the csv. Short for --option images=."""
    option: tuple[str, ...] = ()
    """NAME=VALUE, an option of the dataset (see: mien datasets NAME); repeatable."""

    @property
    def options(self) -> dict[str, str]:
        """The options of the dataset."""
        return ({"images": self.images} if self.images else {}) | pairs(self.option, "--option")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Place(Source):
    """A dataset of which invalid rows may be skipped."""

    skip_damaged: bool = False
    """Skip invalid rows and missing images instead of failing."""

    @property
    def damaged(self) -> Damaged:
        """What is done with invalid rows."""
        return "skip" if self.skip_damaged else "raise"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Folds(Place):
    """A dataset that may be split into folds."""

    fold: int | None = None
    """Fold of protocols with folds, from 0; by default the fold that the run was trained with, or else 0."""
    folds: int | None = None
    """Number of folds; by default that of the run, or else 10."""

    def open_split(self, name: str, split: str, model: str = "") -> Dataset:
        """Open one split of a dataset, by default of the fold that a model was trained with."""
        trained = trained_with(model) if model and (self.fold is None or self.folds is None) else {}
        known = {"fold": trained.get("fold"), "folds": trained.get("folds"), "seed": trained.get("draw")}
        known |= {key: value for key, value in (("fold", self.fold), ("folds", self.folds)) if value is not None}
        draw = Draw(**{key: int(value) for key, value in known.items() if value is not None})
        options: Any = self.options
        return open_dataset(name, self.root, split, self.protocol, draw=draw, damaged=self.damaged, **options)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Split(Folds):
    """One split of a dataset."""

    dataset: str
    """Name of the dataset (see: mien datasets)."""
    split: str = "test"
    """train, validation, test or all."""

    def open(self, model: str = "") -> Dataset:
        """Open the split; see `Folds.open_split`."""
        return self.open_split(self.dataset, self.split, model)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Inference:
    """How faces are found in the images of a dataset, and how networks run."""

    threads: int = 1
    """Threads inside one call of a network."""
    device: str = "cpu"
    """Device of the networks: cpu, cuda (cuda:1 is the second GPU), mps, or auto for the fastest one that works."""
    faces: Literal["auto", "whole", "detect"] = "auto"
    """whole: each image is one face; detect: find faces in photographs; auto: by the size of the images."""
    detector: str = "blazeface"
    """Face detector for detect."""

    @property
    def settings(self) -> dict[str, Any]:
        """The fields by name, as the functions of `mien.evaluation` take them."""
        return dataclasses.asdict(self)


def trained_with(model: str) -> dict[str, Any]:
    """Return the training data stated on the card of a model; empty without a readable card."""
    path = Path(model)
    with contextlib.suppress(MienError, OSError, ValueError):
        for place in (path / "best.toml", path if path.suffix == ".toml" else path.with_suffix(".toml")):
            if place.is_file():
                return dict(cards.read(place).training)
    return {}


def total(images: int, limit: int) -> int:
    """Return how many of `images` are used under a limit; 0 means all."""
    return min(limit, images) if limit else images


def check_suffix(path: Path | None, flag: str, suffixes: tuple[str, ...]) -> None:
    """Refuse an output file of an unknown format with ConfigError, before anything is computed."""
    if path is not None and path.suffix.lower() not in suffixes:
        raise ConfigError(f"{flag} {path}: the suffix must be {' or '.join(suffixes)}", value=str(path), expected=suffixes)


def add_image(report: "Report", section: str, title: str, png: bytes, caption: str) -> None:
    """Add an image to the report of an evaluation, and print that."""
    report.add_image(section, title, png, caption)
    report.write()
    note(f"added {title} to {report.folder}", "dim")


def pairs(options: Sequence[str], flag: str) -> dict[str, str]:
    """Return `("mode=probability",)` as `{"mode": "probability"}`; ConfigError for an option without `=`."""
    for option in options:
        if "=" not in option[1:]:
            raise ConfigError(f"{flag} must be NAME=VALUE, got {option!r}", value=option, expected=("NAME=VALUE",))
    return dict(option.split("=", 1) for option in options)
