"""What a run minimizes: the recipe's terms over the fields of a network's answer and the targets of a batch.

Targets of a batch, those that the data has:

| name | shape | unknown |
|---|---|---|
| `label` | (N,) int64 | −1 |
| `soft` | (N, classes) float32, rows summing to one | a row of zeros |
| `votes` | (N, vote names) float32 counts | a row of zeros |
| `valence_arousal` | (N, 2) float32 in −1 … 1 | NaN |
| `action_units` | (N, units) float32, 1 or 0 | −1 |
| `dataset` | (N,) int64 index of the sample's dataset, where a run has several | |
| `teacher.OUTPUT` | (N, classes) float32 probabilities of the teacher; `teacher.feature`: (N, D), the first teacher's | |

Rows without the target that a term needs do not count in it; if none has it, the term is 0. A term with `data` is computed on
the rows of these datasets; the others count as zero in its mean over the batch, so that it is the same however a batch is split
among processes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import losses
from ..errors import ConfigError
from ..registry import lookup
from .config import Term

Targets = Mapping[str, Tensor]


class Objective(nn.Module):
    """The sum of a recipe's terms.

    Args:
        terms: the recipe's.
        answer: one answer of the network, for the widths of the fields that the terms read.
        num_classes: classes of the labels.
        counts: (num_classes,) training images of each class, for balanced terms.
        weighting: `"fixed"`: each term times its weight; `"uncertainty"`: times a learned factor exp(−s) too, plus s (Kendall
            et al., "Multi-task learning using uncertainty to weigh losses", CVPR 2018).
        datasets: names of the run's datasets.

    Raises:
        ConfigError: no such term, an option it does not take, or an output that the network does not give.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        answer: Any,
        num_classes: int,
        counts: Tensor,
        weighting: Literal["fixed", "uncertainty"] = "fixed",
        datasets: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if not terms:
            raise ConfigError("loss: a run needs at least one term")
        for name in (name for term in terms for name in term.data):
            if name not in datasets:
                raise ConfigError(f"loss.data: no dataset {name!r}; known: {', '.join(datasets)}")
        self.concerned = [[datasets.index(name) for name in term.data] if {*term.data} < {*datasets} else [] for term in terms]
        self.terms = tuple(terms)
        self.names = _names(terms)
        self.parts = nn.ModuleList(_part(term, field_of(answer, term.output), num_classes, counts) for term in terms)
        self.log_variance = nn.Parameter(torch.zeros(len(terms))) if weighting == "uncertainty" else None

    def forward(self, answer: Any, targets: Targets) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its terms, unweighted, one number each; the answer is brought to float32 before."""
        found: dict[str, Tensor] = {}
        total: Tensor = torch.zeros((), device=next(iter(targets.values())).device)
        for index, (name, term, part) in enumerate(zip(self.names, self.terms, self.parts, strict=True)):
            value = self._value(part, float32(field_of(answer, term.output)), targets, self.concerned[index])
            found[name] = value.detach()
            if self.log_variance is not None:
                value = value * torch.exp(-self.log_variance[index]) + self.log_variance[index]
            total = total + term.weight * value
        return total, found

    @staticmethod
    def _value(part: nn.Module, output: Any, targets: Targets, datasets: Sequence[int]) -> Tensor:
        """Return one term, over the rows of some datasets, or over all rows where none are given."""
        if not datasets:
            return part(output, targets)
        rows = torch.isin(targets["dataset"], torch.tensor(datasets, device=targets["dataset"].device)).nonzero().flatten()
        tensors = [output] if isinstance(output, Tensor) else list(output)
        if not len(rows):
            return sum((tensor.sum() * 0 for tensor in tensors), torch.zeros((), device=tensors[0].device))
        chosen = [tensor[rows] for tensor in tensors]
        value = part(
            chosen[0] if isinstance(output, Tensor) else tuple(chosen), {name: value[rows] for name, value in targets.items()}
        )
        return value * (len(rows) / len(targets["dataset"]))


def ask(model: nn.Module, images: Mapping[str, Tensor]) -> Any:
    """Return a network's answer; the whole image is its first argument, regions of the face go by name."""
    return model(images["image"], **{name: value for name, value in images.items() if name != "image"})


def field_of(answer: Any, path: str) -> Any:
    """Return a field of a network's answer: `logits`, or `heads.0` for the first of several.

    Raises:
        ConfigError: the answer has no such field, or the task is switched off.
    """
    name, _, index = path.partition(".")
    value = getattr(answer, name, None)
    if value is None:
        raise ConfigError(f"the network's answer has no {name!r}; it has {', '.join(answer._fields)}")
    if not index:
        return value
    if not (index.isdigit() and int(index) < len(value)):
        raise ConfigError(f"{name!r} of the network's answer has {len(value)} parts; there is no {path!r}")
    return value[int(index)]


def float32(value: Any) -> Any:
    """Return a tensor, or a tuple of tensors, in float32."""
    return value.float() if isinstance(value, Tensor) else tuple(float32(item) for item in value)


class CrossEntropy(nn.Module):
    """Of class scores against `label`; against `soft`, shares of the classes, with `soft=True`."""

    def __init__(self, counts: Tensor, smoothing: float = 0.0, balanced: float | None = None, soft: bool = False) -> None:
        super().__init__()
        self.smoothing, self.soft = smoothing, soft
        weight = None if balanced is None else losses.class_balanced_weights(counts, beta=balanced)
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, logits: Tensor, targets: Targets) -> Tensor:
        """Return the loss, one number, of scores (N, classes)."""
        if not self.soft:
            return losses.cross_entropy(logits, targets["label"], smoothing=self.smoothing, weight=self.weight)
        soft = targets["soft"][:, : logits.shape[1]]  # padded where another dataset has more classes
        known = soft.sum(1) > 0
        if not known.any():
            return logits.sum() * 0
        return functional.cross_entropy(logits[known], soft[known], weight=self.weight, label_smoothing=self.smoothing)


class Votes(nn.Module):
    """Of class scores against the votes of FERPlus, single votes dropped, weighted by the share that fell on the classes."""

    def __init__(self, mode: losses.VoteMode = "cross-entropy", smoothing: float = 0.0) -> None:
        super().__init__()
        self.mode, self.smoothing = mode, smoothing

    def forward(self, logits: Tensor, targets: Targets) -> Tensor:
        """Return the loss, one number, of scores (N, classes); votes for what is no class come after those."""
        votes = targets["votes"]
        votes = torch.where(votes > 1, votes, 0.0)
        classes = votes[:, : logits.shape[1]]
        weight = classes.sum(1) / votes.sum(1).clamp(min=1)
        known = classes.sum(1) > 0
        if not known.any():
            return logits.sum() * 0
        if self.mode != "cross-entropy":
            return losses.vote_loss(logits[known], classes[known], self.mode, smoothing=self.smoothing)
        shares = classes / classes.sum(1, keepdim=True).clamp(min=1)
        entropy = functional.cross_entropy(logits, shares, reduction="none", label_smoothing=self.smoothing)
        return (entropy * weight).sum() / weight.sum().clamp(min=1)


class Labeled(nn.Module):
    """A loss of some output and `label`, over the rows whose label is known."""

    def __init__(self, loss: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Any, targets: Targets) -> Tensor:
        """Return the loss, one number, of an output (N, …)."""
        known = targets["label"] >= 0
        if not known.any():
            return output.sum() * 0
        return self.loss(output if known.all() else output[known], targets["label"][known])


class Alone(nn.Module):
    """A loss that needs no target."""

    def __init__(self, loss: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Any, targets: Targets) -> Tensor:
        """Return the loss, one number, of an output, or of several outputs together."""
        return self.loss(output)


class ValenceArousal(nn.Module):
    """1 − the mean concordance of valence and arousal over the batch."""

    def __init__(self, moments: Literal["biased", "mixed"] = "biased") -> None:
        super().__init__()
        self.moments: Literal["biased", "mixed"] = moments

    def forward(self, output: Tensor, targets: Targets) -> Tensor:
        """Return the loss, one number in 0 … 2, of valence and arousal (N, 2)."""
        wanted = targets["valence_arousal"]
        known = wanted.isfinite().all(1)
        return losses.ccc_loss(output, wanted.nan_to_num(), moments=self.moments, valid=known)


class ActionUnits(nn.Module):
    """Binary cross-entropy over the annotated action units."""

    def forward(self, output: Tensor, targets: Targets) -> Tensor:
        """Return the loss, one number, of scores (N, units)."""
        return losses.action_unit_loss(output, targets["action_units"], from_logits=True)


class Distil(nn.Module):
    """Cross-entropy of class scores against the probabilities of an output of the teacher (`distil.teacher`)."""

    def __init__(self, teacher: str = "scores") -> None:
        super().__init__()
        self.target = f"teacher.{teacher}"

    def forward(self, logits: Tensor, targets: Targets) -> Tensor:
        """Return the loss, one number, of scores (N, classes).

        Raises:
            ConfigError: there is no teacher, or it has other classes.
        """
        if self.target not in targets:
            raise ConfigError("loss term 'distil' needs distil.teacher, the network that is learned from")
        if targets[self.target].shape != logits.shape:
            theirs, ours = targets[self.target].shape[1], logits.shape[1]
            raise ConfigError(
                f"loss term 'distil': the teacher's {self.target[8:]!r} has {theirs} classes, this output {ours}; take another"
            )
        return functional.cross_entropy(logits, targets[self.target])


class Hint(nn.Module):
    """Mean squared error between a learned linear map of an output and the first teacher's `feature`.

    The hints of FitNets (Romero et al., ICLR 2015) where both networks have pooled; the map only serves training. Each number
    of the teacher's is brought to mean 0 and variance 1 over the batch, so that a map that knows nothing is at 1.

    Args:
        width: of the output.
        size: of the teacher's feature.
    """

    def __init__(self, width: int, *, size: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, size)

    def forward(self, feature: Tensor, targets: Targets) -> Tensor:
        """Return the loss, one number, of features (N, width).

        Raises:
            ConfigError: there is no teacher, its feature is not exported, or is of another size.
        """
        wanted = targets.get("teacher.feature")
        if wanted is None:
            raise ConfigError("loss term 'hint' needs distil.teacher, an exported network with an output 'feature'")
        if wanted.shape[1] != self.map.out_features:
            raise ConfigError(f"loss term 'hint': size is {self.map.out_features}, the teacher's feature has {wanted.shape[1]}")
        return functional.mse_loss(self.map(feature), functional.batch_norm(wanted, None, None, training=True))


class Binary(nn.Module):
    """Binary cross-entropy of each class against `soft`, as Global-ROI Net learns FERPlus."""

    def forward(self, logits: Tensor, targets: Targets) -> Tensor:
        """Return the loss, one number, of scores (N, classes)."""
        soft = targets["soft"][:, : logits.shape[1]]
        known = soft.sum(1) > 0
        if not known.any():
            return logits.sum() * 0
        return functional.binary_cross_entropy_with_logits(logits[known], soft[known])


def _affinity(width: int, classes: int, *, centers: int = 0, frozen: bool = False) -> nn.Module:
    loss = losses.AffinityLoss(centers or classes, width)
    return Labeled(loss.requires_grad_(not frozen))


def _centers(kind: type, width: int, classes: int, **options: Any) -> nn.Module:
    return Labeled(kind(classes, width, **options))


TERMS: dict[str, Callable[..., nn.Module]] = {
    "cross-entropy": lambda width, classes, counts, **options: CrossEntropy(counts, **options),
    "focal": lambda width, classes, counts, **options: Labeled(partial(losses.focal_loss, **options)),
    "votes": lambda width, classes, counts, **options: Votes(**options),
    "distil": lambda width, classes, counts, **options: Distil(**options),
    "hint": lambda width, classes, counts, **options: Hint(width, **options),
    "binary": lambda width, classes, counts: Binary(),
    "affinity": lambda width, classes, counts, **options: _affinity(width, classes, **options),
    "partition": lambda width, classes, counts: Alone(losses.dan_partition),
    "attention": lambda width, classes, counts, **options: Alone(partial(losses.ddamfn_attention, **options)),
    "center": lambda width, classes, counts, **options: _centers(losses.CenterLoss, width, classes, **options),
    "faer-center": lambda width, classes, counts: _centers(losses.CenterLoss, width, classes, faer=True),
    "dsf": lambda width, classes, counts, **options: _centers(losses.ReconstructedDSF, width, classes, **options),
    "lgm": lambda width, classes, counts, **options: _centers(losses.GaussianMixtureLoss, width, classes, **options),
    "valence-arousal": lambda width, classes, counts, **options: ValenceArousal(**options),
    "action-units": lambda width, classes, counts: ActionUnits(),
}
"""Kind of a term → function of (width of the output, classes, images of each class, the term's options)."""

TARGETS: dict[str, str] = {
    "votes": "votes",
    "binary": "soft",
    "valence-arousal": "valence_arousal",
    "action-units": "action_units",
    "distil": "",
    "hint": "",
    "partition": "",
    "attention": "",
}
"""Target that a kind reads, where it is not `label`."""


def target_of(term: Term) -> str:
    """Return the target that a term reads, "" for none."""
    soft = term.kind == "cross-entropy" and bool(term.options.get("soft"))
    return "soft" if soft else TARGETS.get(term.kind, "label")


def _part(term: Term, output: Any, classes: int, counts: Tensor) -> nn.Module:
    factory = lookup(term.kind, TERMS, "loss term", plugins=False)
    tensor = output if isinstance(output, Tensor) else output[0]
    width = tensor.shape[1] if tensor.ndim > 1 else 1
    try:
        inspect.signature(factory).bind(width, classes, counts, **term.options)
        return factory(width, classes, counts, **term.options)
    except TypeError as error:
        raise ConfigError(f"loss term {term.kind!r}: {str(error).removeprefix('<lambda>() ')}") from error


def _names(terms: Sequence[Term]) -> list[str]:
    """Name terms by kind, and by output where several are of a kind."""
    kinds = [term.kind for term in terms]
    return [term.kind if kinds.count(term.kind) == 1 else f"{term.kind} {term.output}" for term in terms]
