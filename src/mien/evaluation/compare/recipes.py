"""Names of compared models, and training runs grouped by configuration."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...config import flattened
from ...errors import ConfigError
from ..report import Report

# Fields of a run's configuration that do not make another recipe.
VARIED = {
    "seed", "data.fold", "out", "resume", "workers", "threads", "device", "devices", "name", "about", "data.root", "data.cache",
}  # fmt: skip
SHOWN = 3  # maximum number of differing fields in a name


@dataclass(frozen=True, slots=True)
class Entry:
    """One evaluation in a comparison."""

    report: Report
    head: str  # requested output, or empty
    column: str
    folder: str  # name of the folder of its evaluations

    @property
    def card(self) -> Mapping[str, Any]:
        """The card of the model; empty for one without."""
        return self.report.about["model"].get("card", {})

    @property
    def seed(self) -> Any:
        """Seed of the run, None if unknown."""
        return self.card.get("training", {}).get("seed")

    @property
    def configuration(self) -> dict[str, Any]:
        """Fields of the run's configuration, without `VARIED`; those of the card for a model outside a run's folder."""
        run = (self.report.about.get("run") or {}).get("config")
        own = ("network", "input", "crop", "labels", "data", *(("origin",) if "members" in self.card else ()))
        stated = run or {key: self.card[key] for key in own if key in self.card}
        fields = {key: value for key, value in flattened(stated).items() if key not in VARIED}
        return fields | {"output": self.head} if self.head else fields


def named(entries: Sequence[Entry]) -> list[str]:
    """Return a name for each entry, equal for the entries of one model on several datasets.

    Models with the same name are distinguished by seed, fold and the fields of their configurations that differ; ConfigError:
    two models cannot be distinguished.
    """
    plain = [entry.report.about["model"]["name"] for entry in entries]
    found = [f"{name}, output {entry.head}" if entry.head else name for name, entry in zip(plain, entries, strict=True)]
    tags = (
        lambda group: _differences([entry.configuration for entry in group]),
        lambda group: _tags("seed", [entry.seed for entry in group]),
        lambda group: _tags("fold", [entry.card.get("training", {}).get("fold") for entry in group]),
    )
    for tag in tags:
        for name, rows in _groups(found).items():
            if len({entries[row].folder for row in rows}) > 1:
                for row, text in zip(rows, tag([entries[row] for row in rows]), strict=True):
                    found[row] = f"{name}, {text}" if text else name
    for name, rows in _groups(found).items():
        if len({entries[row].folder for row in rows}) > 1:
            raise ConfigError(f"two models are named {name!r}; give them different names in their cards", value=name)
    return found


def recipes(names: Sequence[str], entries: Sequence[Entry]) -> dict[str, tuple[str, ...]]:
    """Return name of a recipe → its models: the runs of one configuration; every other model is its own recipe."""
    groups: dict[str, list[str]] = {}
    first: dict[str, str] = {}
    for name, entry in zip(names, entries, strict=True):
        trained = entry.seed is not None  # A training run, or an ensemble of runs of one seed, may belong to a recipe.
        key = json.dumps(entry.configuration, sort_keys=True, default=str) if trained else name
        first.setdefault(key, name.partition(", seed ")[0].partition(", fold ")[0] if trained else name)
        if name not in groups.setdefault(key, []):
            groups[key].append(name)
    taken: dict[str, int] = {}
    found = {}
    for key, members in groups.items():
        taken[first[key]] = taken.get(first[key], 0) + 1
        suffix = f" ({taken[first[key]]})" if taken[first[key]] > 1 else ""
        found[first[key] + suffix] = tuple(members)
    return found


def _groups(names: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        found.setdefault(name, []).append(row)
    return found


def _tags(what: str, values: Sequence[Any]) -> list[str]:
    return [f"{what} {value}" if len(set(values)) > 1 else "" for value in values]


def _differences(configurations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the fields that distinguish configurations, as `optim.lr=0.001`: as few as needed, the network first."""
    keys = dict.fromkeys(["model.name", *(key for each in configurations for key in each)])
    unlike = [key for key in keys if len({str(each.get(key)) for each in configurations}) > 1]
    shown: list[str] = []
    texts = [""] * len(configurations)
    for key in unlike[: 10 * SHOWN]:
        more = [", ".join(f"{name}={each.get(name)}" for name in [*shown, key]) for each in configurations]
        if len(set(more)) > len(set(texts)) and len(shown) < SHOWN:
            shown, texts = [*shown, key], more
    return texts
