"""Recipes: found by name, read, and checked: kinds of loss terms with their options, the targets they need, and metrics.

Everything that a recipe can name is checked here, without torch, so that errors come at once; `criterion` computes the terms.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import config as tables
from .. import models
from ..cards import ASSETS
from ..config import Amount, Count, Fraction
from ..errors import ConfigError, did_you_mean, reason
from ..labels import FERPLUS, label_set
from ..models.info import described
from ..registry import lookup
from . import augmentation

EXTENDS = "extends"  # key of the recipe that a recipe is based on: a name, or a path relative to the file

# Short names of fields in overrides.
ALIASES = {
    "lr": "optim.lr", "weight_decay": "optim.weight_decay", "size": "input.size",
    "fold": "data.fold", "folds": "data.folds", "protocol": "data.protocol",
}  # fmt: skip


def folder() -> Path:
    """Return the folder of the recipes: inside the installed package, or in the source tree."""
    packaged = ASSETS / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "recipes"


def names() -> list[str]:
    """Return the names of all recipes in alphabetical order."""
    return sorted(path.stem for path in folder().glob("*.toml"))


def find(recipe: str | Path, beside: Path | None = None) -> Path:
    """Return the file of a recipe: a path, relative to `beside`, or a name of the package; ConfigError: there is none."""
    path = Path(recipe) if beside is None else beside / recipe
    if path.is_file():
        return path
    packaged = folder() / f"{recipe}.toml"
    if len(Path(recipe).parts) == 1 and packaged.is_file():
        return packaged
    known = [*names(), *(each.name for each in path.parent.glob("*.toml"))]
    hint = did_you_mean(path.name, known, "; mien recipes lists those of the package")
    raise ConfigError(f"recipe {recipe} not found{hint}", path=path, value=str(recipe), expected=tuple(known))


def read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the tables of a recipe, merged key by key into those it extends; ConfigError: unreadable, invalid, circular."""
    if path.resolve() in above:
        raise ConfigError(f"recipe {path}: {EXTENDS} leads back to the recipe itself", path=path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path} cannot be read: {reason(error)}", path=path) from error
    table = tables.parse(text, f"recipe {path}")
    base = table.pop(EXTENDS, None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise ConfigError(f"recipe {path}: {EXTENDS} must be the name or path of a recipe, got {base!r}", path=path, value=base)
    return _merged(read(find(base, path.parent), (*above, path.resolve())), table)


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(base[key], value) if isinstance(value, Mapping) and isinstance(base.get(key), Mapping) else value
        for key, value in changes.items()
    }
    return {**base, **both}


def override(table: dict[str, Any], changes: Sequence[str] | Mapping[str, Any]) -> None:
    """Set fields of a recipe, `["optim.lr=5e-4"]` or `{"optim.lr": 5e-4}`; raises ConfigError if that is impossible."""
    given = changes if isinstance(changes, Mapping) else dict(map(_assignment, changes))
    for key, value in given.items():
        _assign(table, ALIASES.get(key.replace("-", "_"), key), value)


def _assignment(text: str) -> tuple[str, Any]:
    """Parse `a.b=value`. Values that are not valid TOML are text."""
    key, equals, value = text.removeprefix("--").partition("=")
    if not equals:
        raise ConfigError(f"{text!r} has no value; write {text}=VALUE", value=text)
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return key, value


def _assign(table: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.replace("-", "_").split(".")
    inner: Any = table
    for name in path:
        if isinstance(inner, list):
            if not (name.isdecimal() and int(name) < len(inner)):
                raise ConfigError(f"{key}: {name!r} must be an index from 0 to {len(inner) - 1}", value=key)
            inner = inner[int(name)]
        else:
            inner = inner.setdefault(name, {})
        if not isinstance(inner, (dict, list)):
            raise ConfigError(f"{key} cannot be set: {name} is not a table", value=key)
    if not isinstance(inner, dict):
        expected = ".".join([*path, "0", last])
        raise ConfigError(f"{key}: {path[-1]} is a list of {len(inner)} tables; write {expected}", value=key, expected=expected)
    inner[last] = value


if TYPE_CHECKING:
    from .config import Term, TrainConfig

TERMS: dict[str, dict[str, Any]] = {
    "cross-entropy": {"smoothing": Fraction, "balanced": Fraction | None, "soft": bool, "class_weights": tuple[Amount, ...]},
    "votes": {"mode": Literal["cross-entropy", "majority", "probability", "multi-target", "binary"], "smoothing": Fraction},
    "distil": {"teacher": str},
    "binary": {},
    "affinity": {"centers": Count, "frozen": bool},
    "partition": {},
    "attention": {"maximum": Amount | None},
    "center": {"faer": bool},
    "faer-center": {},
    "dsf": {"balance": Amount, "temperature": Amount},
    "lgm": {"margin": Amount, "likelihood_weight": Amount, "likelihood": Literal["euclidean", "gaussian"]},
    "valence-arousal": {"moments": Literal["biased", "mixed"]},
    "action-units": {},
}
"""Kind → option → type; `mien.training.criterion` has their meaning and defaults."""

TAUGHT = ("distil",)  # kinds whose targets are predictions of a teacher
TARGETS: dict[str, str] = {
    "votes": "votes",
    "binary": "soft",
    "valence-arousal": "valence_arousal",
    "action-units": "action_units",
    "distil": "",
    "partition": "",
    "attention": "",
}
"""Target of a kind, if not `label`."""

CLASSIFYING = ("cross-entropy", "votes", "binary")  # kinds of loss terms on class scores
CLASSIFIED = ("accuracy", "uar", "macro_f1", "nll")  # metrics of class scores
CONCORDANCE = ("ccc_valence", "ccc_arousal")  # metrics of valence and arousal
LOSS = "validation_loss"  # the loss of the recipe without terms of a teacher, as a metric


def check(config: TrainConfig) -> None:
    """Check all names and options of a recipe except for `module:attribute`; ConfigError, UnknownName: unknown or invalid."""
    from ..faces.alignment import TEMPLATES

    name, options = config.model.name, config.model.options
    if ":" not in name:
        known = models.option_names(name)
        for option in options:
            if option not in known:
                hint = did_you_mean(option, known, f"; known: {', '.join(known)}")
                raise ConfigError(f"model.options: {name} has no option {option!r}{hint}", value=option, expected=known)
    _check_heads(config)
    if config.input.crop:
        lookup(config.input.crop, TEMPLATES, "crop template", plugins=False)
    augmentation.check(config.augment)
    for index, term in enumerate(config.loss):
        if term.kind not in TERMS and ":" in term.kind:
            continue
        where, types = f"loss [{index}] ({term.kind})", lookup(term.kind, TERMS, "loss term", plugins=False)
        for name, value in term.options.items():
            if name not in types:
                hint = did_you_mean(name, types, f"; known: {', '.join(types) or 'none'}")
                raise ConfigError(f"{where}: unknown option {name!r}{hint}", value=name, expected=tuple(types))
            tables.convert(types[name], value, f"{where}: {name}")
    _check_metrics(config)


def _check_heads(config: TrainConfig) -> None:
    """Check names, label sets and loss terms of further heads; ConfigError, UnknownName."""
    taken = ("scores", "feature", "action_units", *described().get(config.model.name, {}).get("outputs", ()))
    for name, labels in config.model.heads.items():
        classes = label_set(labels)
        if not name.isidentifier() or name in taken or name.startswith("_"):
            message = f"model.heads: {name!r} must be a name, and not that of another output: {', '.join(taken)}"
            raise ConfigError(message, value=name, expected=taken)
        terms = [term for term in config.loss if term.output == name]
        if not terms:
            raise ConfigError(f"model.heads: no loss term trains the output {name!r}", value=name)
        if classes != FERPLUS and any(target_of(term) == "votes" for term in terms):
            raise ConfigError(f"model.heads: votes train a head of the label set ferplus, got {labels!r}", value=labels)


def _check_metrics(config: TrainConfig) -> None:
    """Check the metrics of model selection before training instead of after the first epoch; ConfigError: unknown metric."""
    chosen, known = config.validation.metric, metrics_of(config)
    wanted = {"validation.metric": "" if chosen == "last" else chosen}
    if config.schedule.kind == "plateau":
        wanted["schedule.metric"] = config.schedule.metric or chosen
    for field, metric in wanted.items():
        for name in map(str.strip, metric.split("+") if metric else ()):
            if name not in known:
                message = f"{field}: unknown metric {name!r}; the metrics of this run are {', '.join(known)}"
                raise ConfigError(message, value=name, expected=tuple(known))


def target_of(term: Term) -> str:
    """Return the name of a term's target, "" if it has none or is an own term."""
    if term.kind == "cross-entropy" and term.options.get("soft"):
        return "soft"
    return TARGETS.get(term.kind, "label" if term.kind in TERMS else "")


def heads(config: TrainConfig, index: int = 0) -> dict[str, str]:
    """Return output → target of what is evaluated on a dataset, by index: outputs with a loss term, on the first the scores."""
    found = {} if index else {config.model.scores: "label"}
    name = config.data[index].name or config.data[index].dataset
    for term in config.loss:
        if term.data and name not in term.data:
            continue
        if term.kind in CLASSIFYING and "." not in term.output and term.output != "expression":
            found[term.output] = "votes" if target_of(term) == "votes" else "label"
        if term.kind in ("valence-arousal", "action-units"):
            found[term.output] = target_of(term)
    return found


def metrics_of(config: TrainConfig) -> list[str]:
    """Return the names of the metrics of a run; see `validation.measure`."""
    every = [LOSS] if any(term.kind not in TAUGHT for term in config.loss) else []
    for index in range(len(config.data)):
        found: list[str] = []
        for name, target in heads(config, index).items():
            if target == "valence_arousal":
                found += CONCORDANCE
            elif target == "action_units":
                found += ["au_f1"] if index else ["au_f1", "au_f1_at_thresholds"]
            else:
                found += [prefix_of(config, index, name) + metric for metric in CLASSIFIED]
        every += [*found, "p"] if {"ccc_valence", "au_f1"} <= {*found} else found
    return every


def prefix_of(config: TrainConfig, index: int, head: str) -> str:
    """Return the prefix of the metrics of a classification head on a dataset, by its index."""
    if index:
        return f"{config.data[index].name or config.data[index].dataset}.{head}."
    return "" if head == config.model.scores else f"{head}."
