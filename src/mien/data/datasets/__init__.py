"""Datasets of facial expressions, in the layouts in which they are distributed.

>>> from mien.data.datasets import DATASETS
>>> sorted(DATASETS)[:3]
['affectnet7', 'affectnet8', 'affwild2']
"""

import dataclasses
import functools
import importlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ...cards import ASSETS
from ...errors import DatasetError
from ...labels import label_set
from ...registry import lookup
from . import protocols
from .dataset import Dataset, Sample
from .layout import Damage, Damaged, Layout, Place, find
from .protocols import DEFAULT_DRAW, FOLDED, PREFIX, Draw, Protocol, read_clean

__all__ = ["DATASETS", "Dataset", "Draw", "Reader", "Sample", "open_dataset", "reader"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a reader."""

    says: str
    """Description."""
    choices: tuple[str, ...] = ()
    """Valid values, the default first; empty if any text is valid, with an empty default."""


@dataclass(frozen=True, slots=True)
class Reader:
    """An entry of `mien.data.datasets.DATASETS`."""

    name: str
    """Key in `DATASETS`."""
    title: str
    obtain: str
    """Where the data can be obtained; the last sentence of errors about missing data."""
    labels: tuple[str, ...]
    """Class names in their published order; empty if the files define them."""
    layouts: tuple[Layout, ...]
    """Tried in this order."""
    protocols: Mapping[str, Protocol]
    """The first is the default."""
    options: Mapping[str, Option] = field(default_factory=dict)
    """Options beyond the protocol."""
    published: Mapping[str, int] = field(default_factory=dict)
    """Part → number of images in the published set, for the default options."""
    size: tuple[int, int] | None = None
    """Width and height of the published images, for the default options; None if they differ."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Split of the default protocol → `Dataset.digest` of the original, if known."""

    def open(
        self,
        root: str | Path,
        split: str = "train",
        protocol: str = "",
        *,
        draw: Draw = DEFAULT_DRAW,
        damaged: Damaged = "raise",
        options: Mapping[str, str] | None = None,
    ) -> Dataset:
        """Read one split; see `mien.data.datasets.open_dataset`. A split that the data does not have raises DatasetError."""
        if protocol.startswith(PREFIX):
            path = protocol.removeprefix(PREFIX)
            clean = read_clean(path)
            return clean.apply(self.open(root, split, clean.protocol, draw=draw, damaged=damaged, options=options), path)
        name, chosen, settings = self._chosen(protocol, options)
        whole = self._read(root, damaged, settings)
        default = self._default | dict(chosen.options)
        choices = {key: value for key, value in settings.items() if value != default[key]}
        whole = dataclasses.replace(whole, protocol=name, flaws=chosen.flaws, choices=choices)
        if split == "all":
            return whole
        splits = self.deal(whole, draw)
        if split not in splits:
            has = ", ".join(f"{name} ({len(data)})" for name, data in splits.items()) or "none"
            message = f"{self.title} under {root}: protocol {name!r} has no split {split!r}; it has: {has}, all ({len(whole)})"
            raise DatasetError(message, path=root, value=split, expected=(*splits, "all"))
        return splits[split]

    def check(self, root: str | Path, protocol: str = "", options: Mapping[str, str] | None = None) -> None:
        """Check protocol, options and layout without reading the data; errors as of `open`."""
        if protocol.startswith(PREFIX):
            protocol = read_clean(protocol.removeprefix(PREFIX)).protocol
        self._chosen(protocol, options)
        find(root, self.layouts, self.title, self.obtain)

    def deal(self, whole: Dataset, draw: Draw = DEFAULT_DRAW) -> dict[str, Dataset]:
        """Return the non-empty splits that the protocol of a dataset opened as `"all"` makes."""
        deal = self.protocols[whole.protocol].splits
        fold = (draw.fold, draw.folds) if deal in FOLDED else None
        return {split: whole.take(rows, split=split, fold=fold) for split, rows in deal(whole, draw).items() if len(rows)}

    def _read(self, root: str | Path, damaged: Damaged, options: Mapping[str, str]) -> Dataset:
        """Detect the layout under `root` and read all its parts."""
        layout, base, marked = find(root, self.layouts, self.title, self.obtain)
        damage = Damage(damaged)
        file = Path(root).name if Path(root).is_file() else ""
        data = layout.read(Place(base, self.labels, options, damage, marked, file))
        notes = (*data.notes, *damage.settle(f"{self.title} under {base}"), *self._missing(data, options))
        if not len(data):
            raise DatasetError(f"{self.title}: no images in the layout {layout.name} under {base}. {self.obtain}", path=base)
        return dataclasses.replace(data, name=self.name, layout=layout.name, notes=notes)

    @property
    def _default(self) -> dict[str, str]:
        return {name: option.choices[0] if option.choices else "" for name, option in self.options.items()}

    def _chosen(self, name: str, options: Mapping[str, str] | None) -> tuple[str, Protocol, dict[str, str]]:
        """Return name and object of the protocol, and the values of all options."""
        name = name or next(iter(self.protocols))
        chosen: Protocol = lookup(name, self.protocols, f"protocol of {self.name}", plugins=False)
        options = dict(options or {})
        for key, value in options.items():
            option: Option = lookup(key, self.options, f"option of {self.name}", plugins=False)
            if option.choices and value not in option.choices:
                message = f"{self.name}: {key}={value} is invalid (expected {key}={'|'.join(option.choices)})"
                raise DatasetError(message, value=value, expected=option.choices)
            if chosen.options.get(key, value) != value:
                wanted = chosen.options[key]
                message = f"protocol {name!r} of {self.name} requires {key}={wanted}, got {value!r}"
                raise DatasetError(message, value=value, expected=wanted)
        return name, chosen, self._default | options | dict(chosen.options)

    def _missing(self, data: Dataset, options: Mapping[str, str]) -> tuple[str, ...]:
        """Notes on parts whose size differs from the published one, for default options."""
        if any(option.choices and options[name] != option.choices[0] for name, option in self.options.items()):
            return ()
        counts = {part: int((data.part == part).sum()) for part in self.published}
        return tuple(
            f"{part} has {counts[part]:,} images, the published set {number:,}"
            for part, number in self.published.items()
            if counts[part] not in (0, number)
        )


DATASETS: Mapping[str, Mapping[str, Any]] = tomllib.loads((ASSETS / "datasets.toml").read_text(encoding="utf-8"))
"""Every dataset by name, with its entry in `datasets.toml`."""


@functools.cache
def reader(name: str) -> Reader:
    """Return the reader of a dataset, with its layouts, protocols, options and labels; UnknownName for an unknown one."""
    table = lookup(name, DATASETS, "dataset")
    if isinstance(table, Reader):
        return table
    table = {**DATASETS.get(table.get("like"), {}), **table}
    module = importlib.import_module(f".{table.get('module', name)}", __package__)

    def entry(kind: type[T], values: Mapping[str, Any]) -> T:
        """Return a dataclass; `read` and `splits` name functions, lists become tuples."""
        found: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        for key in {"read", "splits"} & found.keys():
            found[key] = getattr(module, found[key], None) or getattr(protocols, found[key])
        return kind(**found)

    known = {key: value for key, value in table.items() if key not in ("module", "like")}
    known["labels"] = label_set(table["labels"]) if "labels" in table else ()
    known["layouts"] = [entry(Layout, each) for each in table["layouts"]]
    for key, kind in (("protocols", Protocol), ("options", Option)):
        known[key] = {each: entry(kind, values) for each, values in table.get(key, {}).items()}
    return entry(Reader, {"name": name, **known})


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
