"""Kinds of loss terms with their options, the targets they need, and the metrics of a run.

Everything that a recipe can name is checked here, without torch, so that errors come at once; `criterion` computes the terms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .. import config as tables
from .. import models
from ..config import Amount, Count, Fraction
from ..errors import ConfigError, did_you_mean
from ..labels import FERPLUS, label_set
from ..models.info import described
from ..registry import lookup
from . import augmentation

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
    """Check the names and options of a recipe: architecture, crop, augmentation, loss terms and metrics.

    Objects named `module:attribute` are checked when they are used. Raises ConfigError, UnknownName: unknown name, or unknown,
    missing or invalid option.
    """
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
