"""How good the network of an epoch is on the validation split: the figures by which the best epoch is chosen.

Every image counts exactly once, whatever the number of processes, and an image that cannot be read counts as wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from .. import metrics
from ..cards import Calibration
from ..data.datasets import ferplus
from ..errors import ConfigError
from ..faces.preprocessing import Preprocess
from ..metrics.au_thresholds import UnitThresholds, tune_units
from ..metrics.calibration import abstention_threshold, fit_temperature, softmax
from .config import TrainConfig
from .criterion import ask, field_of, target_of
from .data import Mixture, Split, card_input, evaluation_batches

SMALLER_IS_BETTER = ("nll",)
CLASSIFYING = ("cross-entropy", "focal", "votes", "binary")
"""Kinds of loss terms whose output is scores of classes."""
CLASSIFIED = ("accuracy", "uar", "macro_f1", "nll")
"""Figures of `classified`."""
ENOUGH = 100
"""Labeled images from which on a calibration is fitted."""
CONCORDANCE = ("ccc_valence", "ccc_arousal")
"""Figures of `concordance`."""


def heads(config: TrainConfig, index: int = 0) -> dict[str, str]:
    """Return the outputs that are measured on a dataset, by its index, and the target of each.

    They are the classifying heads and the regressions that have a loss term on it; on the first dataset also the scores.
    """
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


def figures_of(config: TrainConfig) -> list[str]:
    """Return the names of the figures that a run measures; see `measure`."""
    every: list[str] = []
    for index in range(len(config.data)):
        found: list[str] = []
        for name, target in heads(config, index).items():
            if target == "valence_arousal":
                found += CONCORDANCE
            elif target == "action_units":
                found += ["au_f1"] if index else ["au_f1", "au_f1_at_thresholds"]
            else:
                found += [prefix_of(config, index, name) + figure for figure in CLASSIFIED]
        every += [*found, "p"] if {"ccc_valence", "au_f1"} <= {*found} else found
    return every


def prefix_of(config: TrainConfig, index: int, head: str) -> str:
    """Return what the metrics of a classifying head on a dataset, by its index, begin with."""
    if index:
        return f"{config.data[index].name or config.data[index].dataset}.{head}."
    return "" if head == config.model.scores else f"{head}."


def check_metrics(config: TrainConfig) -> None:
    """Refuse a metric that the run will not measure, rather than at the end of its first epoch.

    Raises:
        ConfigError: there is no such metric.
    """
    chosen, known = config.validation.metric, figures_of(config)
    asked = {"validation.metric": "" if chosen == "last" else chosen}
    if config.schedule.kind == "plateau":
        asked["schedule.metric"] = config.schedule.metric or chosen
    for field, metric in asked.items():
        for name in map(str.strip, metric.split("+") if metric else ()):
            if name not in known:
                raise ConfigError(f"{field}: there is no {name!r}; this run measures {', '.join(known)}")


@torch.no_grad()
def predict(
    model: nn.Module, split: Mixture, config: TrainConfig, process: int = 0, processes: int = 1, batch: int = 128
) -> dict[str, np.ndarray]:
    """Return the answers of a network, in evaluation mode, on this process's share of a split: rows `process::processes`.

    Returns:
        Output name → (n, …) float32: scores before softmax, the mean over the views. Rows that cannot be read are NaN.
    """
    model.eval()
    preprocess = Preprocess(card_input(config.input))
    device = next(model.parameters()).device
    rows = np.arange(process, len(split), processes)
    parts: dict[str, list[np.ndarray]] = {name: [] for index in range(len(config.data)) for name in heads(config, index)}
    for _, images, readable in evaluation_batches(split, preprocess, batch, rows):
        views = [images]
        if config.validation.views > 1:
            views.append({name: value.flip(3) for name, value in images.items()})
        found: dict[str, list[np.ndarray]] = {name: [] for name in parts}
        for view in views:
            fed = {name: value.to(device) for name, value in view.items()}
            if config.channels_last:
                fed = {name: value.contiguous(memory_format=torch.channels_last) for name, value in fed.items()}
            answer = ask(model, fed)
            for name in parts:
                found[name].append(field_of(answer, name).float().cpu().numpy())
        for name in parts:
            mean = np.mean(found[name], 0)
            mean[~readable] = np.nan
            parts[name].append(mean)
    return {name: np.concatenate(values) if values else np.empty((0,)) for name, values in parts.items()}


def interleave(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Put the shares of all processes, each (n, …), back into the order of the split."""
    whole = {}
    for name, first in parts[0].items():
        total = sum(len(part[name]) for part in parts)
        values = np.empty((total, *first.shape[1:]), first.dtype)
        for process, part in enumerate(parts):
            if len(part[name]):  # a process without rows does not know how long one is
                values[process :: len(parts)] = part[name]
        whole[name] = values
    return whole


def measure(outputs: dict[str, np.ndarray], splits: Mixture, config: TrainConfig) -> dict[str, float]:
    """Return the metrics of predictions on the splits of a run.

    `accuracy`, `uar`, `macro_f1` and `nll` of the scores; the same of another head as `HEAD.accuracy` …, of another dataset as
    `NAME.HEAD.accuracy` …; `ccc_valence`, `ccc_arousal`, `au_f1` (mean over units at one half) and, where the first dataset has
    all three tasks, ABAW's `p`.
    """
    figures: dict[str, float] = {}
    for index, split in enumerate(splits.parts):
        rows = splits.rows(index)
        own = {name: outputs[name][rows] for name in heads(config, index)}
        found = _measured(own, split, config, index)
        figures |= found if not index else {key: value for key, value in found.items() if key not in figures}
    return figures


def _measured(outputs: dict[str, np.ndarray], split: Split, config: TrainConfig, index: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, target in heads(config, index).items():
        prefix = prefix_of(config, index, name)
        if target == "valence_arousal":
            figures |= concordance(outputs[name], split.targets["valence_arousal"].numpy())
        elif target == "action_units":
            figures["au_f1"] = unit_f1(outputs[name] > 0, split.targets["action_units"].numpy())
        else:
            figures |= {prefix + key: value for key, value in classified(outputs[name], truth(split, target)).items()}
    if {"ccc_valence", "au_f1", "macro_f1"} <= figures.keys():
        figures["p"] = metrics.abaw_p(*(figures[key] for key in ("ccc_valence", "ccc_arousal", "macro_f1", "au_f1")))
    return figures


def unit_thresholds(outputs: dict[str, np.ndarray], splits: Mixture, config: TrainConfig) -> UnitThresholds | None:
    """Return thresholds of the action units, chosen on half of the videos, persons or images of the first dataset, or None."""
    split = splits.parts[0]
    for name, target in heads(config).items():
        if target == "action_units":
            data = split.data
            known = (column for column in (data.sequence, data.subject) if column is not None and (column != "").all())
            scores = np.clip(outputs[name][splits.rows(0)].astype(np.float64), -60, 60)
            return tune_units(
                1 / (1 + np.exp(-scores)),
                split.targets["action_units"].numpy(),
                data.unit_names,
                next(known, data.names).tolist(),
            )
    return None


def calibration(outputs: dict[str, np.ndarray], splits: Mixture, config: TrainConfig) -> Calibration:
    """Return temperature and abstention threshold of the scores, fitted on the validation split of the first dataset.

    Fewer than `ENOUGH` labeled images say nothing of either: nothing is fitted then.
    """
    split = splits.parts[0]
    scores, label = outputs[config.model.scores][splits.rows(0)], truth(split, heads(config)[config.model.scores])
    usable = (label >= 0) & np.isfinite(scores).all(1)
    if usable.sum() < ENOUGH:
        return Calibration()
    scores, label = scores[usable].astype(np.float64), label[usable]
    temperature = round(fit_temperature(scores, label), 4)
    wanted = config.validation.certain
    threshold = abstention_threshold(softmax(scores / temperature), label, wanted) if wanted else 0.0
    return Calibration(
        temperature=temperature, threshold=round(threshold, 4), fitted_on=f"{split.data.name} {split.data.split}"
    )


def truth(split: Split, target: str) -> np.ndarray:
    """Return (N,) class indices, −1 where unknown; votes give their majority by Microsoft's rule, soft labels their largest."""
    if target == "votes":
        distribution, kept = ferplus.targets(split.targets["votes"].numpy(), "majority")
        return np.where(kept, distribution.argmax(1), -1)
    label = split.targets["label"].numpy()
    if (label >= 0).any() or "soft" not in split.targets:
        return label
    soft = split.targets["soft"].numpy()
    return np.where(soft.sum(1) > 0, soft.argmax(1), -1)


def classified(scores: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Return accuracy, UAR, macro-F1 over the classes that occur, and mean negative log-likelihood of (N, K) scores."""
    scores, label = scores[label >= 0].astype(np.float64), label[label >= 0]
    if not len(label):
        return dict.fromkeys(CLASSIFIED, float("nan"))
    readable = np.asarray(np.isfinite(scores).all(1))
    counts = metrics.confusion(label, np.where(readable, np.nan_to_num(scores).argmax(1), -1), scores.shape[1])
    # What cannot be read is answered by equal scores.
    scores = np.where(readable[:, None], scores, 0.0)
    top = scores.max(1, keepdims=True)
    log_p = scores - top - np.log(np.exp(scores - top).sum(1, keepdims=True))
    return {
        "accuracy": float(metrics.accuracy(counts)),
        "uar": float(metrics.uar(counts)),
        "macro_f1": float(metrics.macro_f1(counts)),
        "nll": float(-log_p[np.arange(len(label)), label].mean()),
    }


def concordance(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Return Lin's CCC of valence and arousal, (N, 2) each, over the rows that have them."""
    return {name: metrics.concordance(prediction[:, k], target[:, k]) for k, name in enumerate(CONCORDANCE)}


def unit_f1(active: np.ndarray, target: np.ndarray) -> float:
    """Return the mean over action units, (N, U) each, of the F1 of "present", over the faces where the unit is annotated."""
    found = metrics.unit_f1(active.astype(np.float64), target)
    return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")


def quality(figures: dict[str, Any], metric: str) -> float:
    """Return the number that selection maximizes: a metric that `check_metrics` has passed, or `A + B`."""
    total = 0.0
    for key in map(str.strip, metric.split("+")):
        total += -figures[key] if key.rpartition(".")[2] in SMALLER_IS_BETTER else figures[key]
    return total
