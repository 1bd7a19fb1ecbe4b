"""Fuse models into an ensemble: a card whose scores pool those of its members.

    card = fuse(["runs/global-roi/1", "runs/global/1"], "fused.toml", weights=(0.55, 0.45))
    mien.load("fused.toml")                                       # predict, evaluate, compare and export take the card

Members may have any inputs: each gets the crop, size and value range of its own card. For the rule `"logits"` the pooled scores
are softmax(Σ wᵢ zᵢ / T), as in Global-ROI; for `"probabilities"` they are the weighted mean. Weights are given, equal, or
fitted on validation images by their negative log-likelihood.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .. import cards
from ..cards import ARCHITECTURE, Calibration, Card, Measured, Member, run_name
from ..data.datasets import Dataset
from ..data.labeled_faces import Mode
from ..errors import ConfigError
from ..metrics import log_losses
from ..metrics.calibration import fit_temperature
from ..runtime.devices import Device, use
from ..runtime.open_model import open_model
from ..runtime.pooling import RULES, columns, pooled, selected
from .predict import predict_all
from .predictors import CardPredictor, check_fold, split_output

STEPS = 500  # steps of the fit of weights


def fuse(
    models: Sequence[str | Path],
    out: str | Path,
    *,
    weights: Sequence[float] | str = "equal",
    rule: str = "logits",
    data: Dataset | None = None,
    faces: Mode = "auto",
    detector: str = "blazeface",
    threads: int = 1,
    device: str | Device | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Card:
    """Write the card of an ensemble of models: cards, weight files, folders of runs; `"MODEL@OUTPUT"` pools another output.

    The first model gives the order of the classes; classes that another member lacks are dropped. The card `out`, `.toml`, is
    named like the ensemble (or `best.toml` in a folder of that name) and refers to the members by relative path and digest. The
    weights are one number for each member, `"equal"`, or `"fit"`: minimize the negative log-likelihood on `data`, labeled
    validation images. The rule is `"logits"` or `"probabilities"`; see the module. Other arguments are those of
    `mien.evaluate`; `progress` is called with the next step.

    Raises ConfigError: fewer than two members or common classes, invalid weights, or no validation images for the fit;
    WeightsError: a member cannot be opened.
    """
    out = Path(out)
    if out.suffix.lower() != ".toml":
        raise ConfigError(f"{out}: the card of an ensemble must be a .toml file", value=out.suffix, expected=".toml")
    if len(models) < 2:
        raise ConfigError(f"an ensemble needs two members or more, got {len(models)}", value=len(models), expected=2)
    if rule not in RULES:
        raise ConfigError(f"unknown rule {rule!r} (expected {' or '.join(RULES)})", value=rule, expected=RULES)
    if isinstance(weights, str) and weights not in ("equal", "fit"):
        raise ConfigError(f"weights must be numbers, equal or fit, got {weights!r}", value=weights)
    if weights == "fit" and data is None:
        raise ConfigError("weights are fitted on validation images; name a dataset with --dataset", value="fit")
    with use(device):
        named = [split_output(model) for model in models]
        predictors = [CardPredictor(*open_model(name, threads), output or "scores") for name, output in named]
    labels = tuple(name for name in predictors[0].labels if all(name in each.labels for each in predictors))
    if len(labels) < 2:
        raise ConfigError(f"the members have {len(labels)} classes in common, expected 2 or more", value=labels)
    calibration, measured = Calibration(), ()
    if weights == "fit":
        assert data is not None
        with use(device):
            chosen, temperature, measured = _fitted(predictors, data, labels, rule, faces, detector, progress)
        calibration = Calibration(temperature=temperature, fitted_on=f"{data.name} {data.split}")
    else:
        chosen = np.full(len(models), 1 / len(models)) if weights == "equal" else np.array(weights, np.float64)  # pyrefly: ignore
        if chosen.shape != (len(models),) or not np.isfinite(chosen).all() or chosen.min() < 0 or not chosen.sum():
            given = ", ".join(map(str, weights))
            raise ConfigError(f"expected {len(models)} weights of 0 or more, got {given}", value=tuple(weights))
    members = tuple(_member(each, float(weight), out) for each, weight in zip(predictors, chosen, strict=True))
    stated = weights if isinstance(weights, str) else ", ".join(f"{each:g}" for each in weights)
    parts = [each.card for each in predictors]
    roles = [role for role in ("valence_arousal", "action_units") if all(role in part.outputs for part in parts)]
    identity = [f"{each.sha256} {each.output} {each.weight}" for each in members]
    # Facts that all members share.
    shared = {key: parts[0].training[key] for key in ("fold", "folds", "seed") if key in parts[0].training}
    shared = {key: value for key, value in shared.items() if all(part.training.get(key) == value for part in parts)}
    card = Card(
        name=run_name(out.parent) if out.stem == "best" else out.stem,
        kind="classifier",
        summary=f"Ensemble of {', '.join(part.name for part in parts)}.",
        file="",
        sha256=hashlib.sha256("\n".join([*identity, f"{rule} {calibration.temperature}"]).encode()).hexdigest(),
        license=" AND ".join(dict.fromkeys(part.license for part in parts)),
        license_note=" ".join(dict.fromkeys(part.license_note for part in parts if part.license_note)),
        origin=f"mien fuse, rule {rule}, weights {stated}",
        data="; ".join(dict.fromkeys(part.data for part in parts if part.data)),
        labels=labels,
        outputs={role: role for role in ("scores", *roles)},
        input=parts[0].input,
        crop=parts[0].crop,
        calibration=calibration,
        network={"architecture": ARCHITECTURE, "rule": rule},
        training=shared,
        measured=measured,
        members=members,
    )
    cards.write(card, out)
    return dataclasses.replace(card, path=out)


def fit_weights(probabilities: Sequence[np.ndarray], label: np.ndarray, rule: str) -> tuple[np.ndarray, float]:
    """Return the weights (M,), with sum one, and the temperature that minimize the negative log-likelihood.

    Weights of probabilities, (N, K) of each member, are those of a mixture, fitted by expectation maximization; weights of
    logits and their temperature follow from one convex problem, solved by projected gradient descent.
    """
    stacked = np.stack(probabilities, 1)
    rows = np.arange(len(label))
    weights = np.full(len(probabilities), 1 / len(probabilities))
    if rule == "probabilities":
        likelihood = np.maximum(stacked[rows, :, label], 1e-12)
        for _ in range(STEPS):
            shares = weights * likelihood
            weights = (shares / shares.sum(1, keepdims=True)).mean(0)
        mixture = pooled(probabilities, weights, rule)
        return weights, fit_temperature(np.log(np.maximum(mixture, 1e-12)), label)
    logits = np.log(np.maximum(stacked, 1e-7))
    truth = np.zeros((len(label), stacked.shape[2]))
    truth[rows, label] = 1

    def loss(candidate: np.ndarray) -> float:
        return float(log_losses(pooled(probabilities, candidate), label).mean())

    step, value = 1.0, loss(weights)
    for _ in range(STEPS):
        gradient = np.einsum("nk,nmk->m", pooled(probabilities, weights) - truth, logits) / len(label)
        while step > 1e-9 and (after := loss(candidate := np.maximum(weights - step * gradient, 0))) > value - 1e-12:
            step /= 2
        if step <= 1e-9:
            break
        weights, value, step = candidate, after, step * 2
    total = weights.sum()
    return (weights / total, float(1 / total)) if total > 0 else (np.full_like(weights, 1 / len(weights)), 1.0)


def _fitted(
    predictors: Sequence[CardPredictor],
    data: Dataset,
    labels: Sequence[str],
    rule: str,
    faces: Mode,
    detector: str,
    progress: Callable[[str], None],
) -> tuple[np.ndarray, float, tuple[Measured, ...]]:
    """Return weights, temperature, and the accuracy of the members and the ensemble on the images of the fit."""
    tables = []
    for each in predictors:
        check_fold(each, data)
        progress(f"predicting {data.name} {data.split} with {each.name}")
        tables.append(predict_all(each, data, faces, detector))
    known = np.all([table.counted & np.isfinite(table.probabilities).all(1) for table in tables], 0)
    classes = [name for name in labels if all(name in table.classes for table in tables)]
    truth = np.array([classes.index(name) if name in classes else -1 for name in tables[0].label.tolist()])
    known &= truth >= 0
    if not known.any():
        message = f"{data.name} {data.split} has no image with a label and predictions of all members"
        raise ConfigError(message, value=data.split)
    scores = [selected(table.probabilities[known], columns(classes, table.classes)) for table in tables]
    weights, temperature = fit_weights(scores, truth[known], rule)
    progress(f"fitted on {int(known.sum()):,} images")
    value = float((pooled(scores, weights, rule, temperature).argmax(1) == truth[known]).mean())
    about = {"dataset": data.name, "split": data.split, "metric": "accuracy", "note": "images of the fit"}
    return np.round(weights, 4), round(temperature, 4), (Measured(value=round(value, 6), n=int(known.sum()), **about),)


def _member(predictor: CardPredictor, weight: float, out: Path) -> Member:
    card = predictor.card
    if card.members:
        raise ConfigError(f"{card.name} is an ensemble; name its members instead", value=card.name)
    place = card.path if card.path is not None and card.path.is_file() else card.folder / card.file
    return Member(
        card=Path(os.path.relpath(place.resolve(), out.parent.resolve())).as_posix(),
        sha256=card.sha256,
        weight=weight,
        output=predictor.output,
        labels=predictor.labels,
        input=card.input,
        crop=card.crop,
        regions={name: int(side) for name, side in predictor.preprocess.regions.items()},
    )
