"""Metrics on the validation split, by which the best epoch is selected.

Every image counts exactly once for any number of processes, and unreadable images count as wrong.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from .. import metrics
from ..cards import Calibration
from ..data.datasets.fer2013 import label_votes
from ..faces.preprocessing import Preprocess
from ..metrics.affect import UnitThresholds, mean_unit_f1, tune_units
from ..metrics.calibration import abstention_threshold, fit_temperature, softmax
from ..models.torch_runtime import run_network
from .config import TrainConfig
from .criterion import Criterion, field_of
from .data import UNKNOWN, Mixture, Split, card_input, evaluation_batches, placed
from .recipes import CLASSIFIED, CONCORDANCE, LOSS, heads, prefix_of

MIN_CALIBRATION = 100  # minimum number of labeled images for calibration
BATCH = 128
SMALLER_IS_BETTER = ("nll", LOSS)


@torch.no_grad()
def predict(
    model: nn.Module, split: Mixture, config: TrainConfig, share: tuple[int, int] = (0, 1), criterion: Criterion | None = None
) -> dict[str, np.ndarray]:
    """Run a network in evaluation mode over this process's part of a split: rows `share[0] :: share[1]`.

    Returns output name → (n, …) float32: scores before softmax, averaged over the views; NaN for unreadable images. With a
    `criterion`, `LOSS` is the loss of each image's batch.
    """
    model.eval()
    if criterion is not None:
        criterion.eval()
    preprocess = Preprocess(card_input(config.input))
    device = next(model.parameters()).device
    rows = np.arange(share[0], len(split), share[1])
    names = dict.fromkeys(name for index in range(len(config.data)) for name in heads(config, index))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names} | ({} if criterion is None else {LOSS: []})
    for taken, images, readable in evaluation_batches(split, preprocess, BATCH, rows):
        inputs = {name: placed(image, device, config) for name, image in images.items()}
        outputs = [run_network(model, inputs)]
        if config.validation.views > 1:
            outputs.append(run_network(model, {name: image.flip(3) for name, image in inputs.items()}))
        for name in names:
            mean = np.mean([field_of(output, name).float().cpu().numpy() for output in outputs], 0)
            mean[~readable] = np.nan
            parts[name].append(mean)
        if criterion is not None:
            parts[LOSS].append(np.full(len(taken), _loss(criterion, outputs[0], split, taken, readable, device)))
    return {name: np.concatenate(values) if values else np.empty((0,)) for name, values in parts.items()}


def _loss(
    criterion: Criterion, output: Any, split: Mixture, rows: np.ndarray, readable: np.ndarray, device: torch.device
) -> float:
    targets = {name: value[rows] for name, value in split.targets.items()}
    for name, value in targets.items():
        value[~torch.from_numpy(readable)] = UNKNOWN.get(name, 0)
    loss, terms = criterion(output, {name: value.to(device) for name, value in targets.items()})
    return float(loss) if terms else float("nan")


def interleave(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the outputs of all processes, each (n, …), in the order of the split."""
    whole = {}
    for name, first in parts[0].items():
        values = np.empty((sum(len(part[name]) for part in parts), *first.shape[1:]), first.dtype)
        for process, part in enumerate(parts):
            if len(part[name]):  # The shape of an empty part is unknown.
                values[process :: len(parts)] = part[name]
        whole[name] = values
    return whole


def measure(outputs: dict[str, np.ndarray], splits: Mixture, config: TrainConfig) -> dict[str, float]:
    """Return the metrics of predictions on the splits of a run.

    `validation_loss`, if `predict` computed it; `accuracy`, `uar`, `macro_f1` and `nll` of the scores; the same of another head
    as `HEAD.accuracy` …, of another dataset as `NAME.HEAD.accuracy` …; `ccc_valence`, `ccc_arousal`, `au_f1` (mean over units
    at a threshold of 0.5) and, if the first dataset has all three tasks, the `p` of ABAW.
    """
    losses = outputs.get(LOSS, np.empty(0))
    figures = {LOSS: float(np.nanmean(losses))} if np.isfinite(losses).any() else {}
    for index, split in enumerate(splits.parts):
        found: dict[str, float] = {}
        for name, target in heads(config, index).items():
            values = outputs[name][splits.rows(index)]
            if target == "valence_arousal":
                wanted = split.targets["valence_arousal"].numpy()
                found |= {name: metrics.concordance(values[:, k], wanted[:, k]) for k, name in enumerate(CONCORDANCE)}
            elif target == "action_units":
                found["au_f1"] = mean_unit_f1(values > 0, split.targets["action_units"].numpy())
            else:
                prefix = prefix_of(config, index, name)
                found |= {prefix + key: value for key, value in classified(values, truth(split, target)).items()}
        if {"ccc_valence", "au_f1", "macro_f1"} <= found.keys():
            found["p"] = metrics.abaw_p(*(found[key] for key in ("ccc_valence", "ccc_arousal", "macro_f1", "au_f1")))
        figures |= {key: value for key, value in found.items() if key not in figures}
    return figures


def unit_thresholds(outputs: dict[str, np.ndarray], splits: Mixture, config: TrainConfig) -> UnitThresholds | None:
    """Return action unit thresholds tuned on half of the videos, subjects or images of the first dataset, or None."""
    split = splits.parts[0]
    for name, target in heads(config).items():
        if target == "action_units":
            data = split.data
            known = (column for column in (data.sequence, data.subject) if column is not None and (column != "").all())
            scores = np.clip(outputs[name][splits.rows(0)].astype(np.float64), -60, 60)
            present, identity = split.targets["action_units"].numpy(), next(known, data.names).tolist()
            return tune_units(1 / (1 + np.exp(-scores)), present, data.unit_names, identity)
    return None


def calibration(outputs: dict[str, np.ndarray], splits: Mixture, config: TrainConfig) -> Calibration:
    """Return the calibration fitted on the first dataset, or the default for fewer than `MIN_CALIBRATION` images."""
    split = splits.parts[0]
    scores, label = _scored(outputs, splits, config)
    usable = (label >= 0) & np.isfinite(scores).all(1)
    if usable.sum() < MIN_CALIBRATION:
        return Calibration()
    scores, label = scores[usable].astype(np.float64), label[usable]
    temperature = round(fit_temperature(scores, label), 4)
    wanted = config.validation.certain
    threshold = abstention_threshold(softmax(scores / temperature), label, wanted) if wanted else 0.0
    fitted_on = f"{split.data.name} {split.data.split}"
    return Calibration(temperature=temperature, threshold=round(threshold, 4), fitted_on=fitted_on)


def confusion(outputs: dict[str, np.ndarray], splits: Mixture, config: TrainConfig) -> np.ndarray:
    """Return the confusion matrix of the scores on the first dataset, (K, K + 1), the last column for unreadable images."""
    scores, label = _scored(outputs, splits, config)
    return _confusion(scores[label >= 0, : len(splits.labels)], label[label >= 0])


def truth(split: Split, target: str) -> np.ndarray:
    """Return (N,) class indices, −1 if unknown: labels, the majority of votes by Microsoft's rule, or the top soft label."""
    if target == "votes":
        distribution, kept = label_votes(split.targets["votes"].numpy(), "majority")
        return np.where(kept, distribution.argmax(1), -1)
    label = split.targets["label"].numpy()
    if (label >= 0).any() or "soft" not in split.targets:
        return label
    soft = split.targets["soft"].numpy()
    return np.where(soft.sum(1) > 0, soft.argmax(1), -1)


def _scored(outputs: dict[str, np.ndarray], splits: Mixture, config: TrainConfig) -> tuple[np.ndarray, np.ndarray]:
    scores = config.model.scores
    return outputs[scores][splits.rows(0)], truth(splits.parts[0], heads(config)[scores])


def _confusion(scores: np.ndarray, label: np.ndarray) -> np.ndarray:
    answer = np.where(np.isfinite(scores).all(1), np.nan_to_num(scores).argmax(1), -1)
    return metrics.confusion(label, answer, scores.shape[1])


def classified(scores: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Return accuracy, UAR, macro-F1 over the classes present, and mean negative log-likelihood of (N, K) scores."""
    scores, label = scores[label >= 0].astype(np.float64), label[label >= 0]
    if not len(label):
        return dict.fromkeys(CLASSIFIED, float("nan"))
    readable = np.asarray(np.isfinite(scores).all(1))
    counts = _confusion(scores, label)
    # Unreadable images get equal probabilities in the likelihood.
    scores = np.where(readable[:, None], scores, 0.0)
    top = scores.max(1, keepdims=True)
    log_p = scores - top - np.log(np.exp(scores - top).sum(1, keepdims=True))
    formulas = {"accuracy": metrics.accuracy, "uar": metrics.uar, "macro_f1": metrics.macro_f1}
    found = {name: float(formula(counts)) for name, formula in formulas.items()}
    return found | {"nll": float(-log_p[np.arange(len(label)), label].mean())}


def quality(figures: dict[str, Any], metric: str) -> float:
    """Return the value that model selection maximizes: a metric, negated if smaller is better, or a sum `A + B`."""
    keys = map(str.strip, metric.split("+"))
    return sum(-figures[key] if key.rpartition(".")[2] in SMALLER_IS_BETTER else figures[key] for key in keys)
