"""The training loss: a weighted sum of terms over the output fields of a network and the targets of a batch.

Targets of a batch, as far as the dataset has them:

| name | shape | unknown |
|---|---|---|
| `label` | (N,) int64 | −1 |
| `soft` | (N, classes) float32, rows summing to one | a row of zeros |
| `votes` | (N, vote names) float32 counts | a row of zeros |
| `valence_arousal` | (N, 2) float32 in −1 … 1 | NaN |
| `action_units` | (N, units) float32, 1 or 0 | −1 |
| `dataset` | (N,) int64 index of the sample's dataset, in runs with several | |
| `teacher.OUTPUT` | (N, classes) float32 probabilities of the teacher | |

Samples without the target of a term are ignored by it; if no sample has the target, the term is 0. A
term with `data` is computed on the samples of these datasets; other samples count as zero in its mean over the batch, so that
it does not depend on how a batch is divided among processes.

Own terms are named `module:function`, with the signature of the functions in `BUILDERS`.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import losses
from ..errors import ConfigError
from ..registry import lookup
from .config import Term
from .recipes import TAUGHT

Targets = Mapping[str, Tensor]


class Criterion(nn.Module):
    """The weighted sum of the terms of a recipe.

    An output of the network defines the widths of its fields; `counts` (num_classes,) are the training images of each class,
    for class-balanced terms; `datasets` are the names of the datasets of the run. Raises ConfigError for an unknown option,
    output field, dataset or term (UnknownName).
    """

    def __init__(
        self, terms: Sequence[Term], output: Any, num_classes: int, counts: Tensor, datasets: Sequence[str] = ()
    ) -> None:
        super().__init__()
        if not terms:
            raise ConfigError("loss: expected at least one term")
        for name in (name for term in terms for name in term.data):
            if name not in datasets:
                known = ", ".join(datasets)
                raise ConfigError(f"loss.data: unknown dataset {name!r}; known: {known}", value=name, expected=tuple(datasets))
        # Dataset indices of each term; empty for terms on all samples.
        self.datasets = [[datasets.index(name) for name in term.data] if {*term.data} < {*datasets} else [] for term in terms]
        self.terms = tuple(terms)
        kinds = [term.kind for term in terms]
        self.names = [t.kind if kinds.count(t.kind) == 1 else f"{t.kind} {t.output}" for t in terms]
        self.parts = nn.ModuleList(_build(term, field_of(output, term.output), num_classes, counts) for term in terms)

    def forward(self, output: Any, targets: Targets) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its unweighted terms, scalars in float32; evaluation skips terms that need a teacher."""
        values: dict[str, Tensor] = {}
        total: Tensor = torch.zeros((), device=next(iter(targets.values())).device)
        for name, term, part, datasets in zip(self.names, self.terms, self.parts, self.datasets, strict=True):
            if not self.training and term.kind in TAUGHT:
                continue
            value = _on_datasets(part, float32(field_of(output, term.output)), targets, datasets)
            values[name] = value.detach()
            total = total + term.weight * value
        return total, values


def _on_datasets(part: nn.Module, output: Any, targets: Targets, datasets: Sequence[int]) -> Tensor:
    """Return a term over the samples of some datasets, or over all samples if none are given."""
    if not datasets:
        return part(output, targets)
    rows = torch.isin(targets["dataset"], torch.tensor(datasets, device=targets["dataset"].device)).nonzero().flatten()
    tensors = (output,) if isinstance(output, Tensor) else tuple(output)
    if not len(rows):
        return sum((tensor.sum() * 0 for tensor in tensors), torch.zeros((), device=tensors[0].device))
    chosen = tuple(tensor[rows] for tensor in tensors)
    value = part(chosen[0] if isinstance(output, Tensor) else chosen, {name: value[rows] for name, value in targets.items()})
    return value * (len(rows) / len(targets["dataset"]))


def field_of(output: Any, path: str) -> Any:
    """Return a field of an output: `logits`, or `heads.0` for the first of several tensors; ConfigError: it does not exist."""
    name, _, index = path.partition(".")
    value = getattr(output, name, None)
    if value is None:
        known = tuple(each for each in output._fields if getattr(output, each) is not None)
        advice = f"choose one with loss.output and model.scores: {', '.join(known)}"
        raise ConfigError(f"the network has no output {name!r}; {advice}", value=name, expected=known)
    if not index:
        return value
    if not (index.isdigit() and int(index) < len(value)):
        raise ConfigError(f"output {name!r} has {len(value)} tensors, got index {index!r}", value=path, expected=len(value))
    return value[int(index)]


def float32(value: Any) -> Any:
    """Return a tensor, or a tuple of tensors, in float32."""
    return value.float() if isinstance(value, Tensor) else tuple(float32(item) for item in value)


class Labeled(nn.Module):
    """A loss of an output and `label`, over the labeled samples."""

    def __init__(self, loss: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Any, targets: Targets) -> Tensor:
        """Return the loss, a scalar, of an output (N, …)."""
        return _over(targets["label"] >= 0, self.loss, output, targets["label"])


class Function(nn.Module):
    """A term without parameters: a function of an output, the targets and options, such as those below."""

    def __init__(self, function: Callable[..., Tensor], **options: Any) -> None:
        super().__init__()
        inspect.signature(function).bind(None, None, **options)  # Raises TypeError for an unknown option.
        self.function = partial(function, **options)

    def forward(self, output: Any, targets: Targets) -> Tensor:
        """Return the loss, a scalar."""
        return self.function(output, targets)


def _over(known: Tensor, loss: Callable[..., Tensor], output: Tensor, target: Tensor) -> Tensor:
    """Return a loss of the `known` samples (N,), 0 if there are none."""
    if not known.any():
        return output.sum() * 0
    return loss(output, target) if known.all() else loss(output[known], target[known])


def cross_entropy(
    counts: Tensor,
    *,
    smoothing: float = 0.0,
    balanced: float | None = None,
    soft: bool = False,
    class_weights: Sequence[float] = (),
) -> nn.Module:
    """Return the cross-entropy of class scores and `label`, or `soft`; ConfigError: `class_weights` of other classes."""
    weight = None if balanced is None else losses.class_balanced_weights(counts, beta=balanced)
    if class_weights:
        if len(class_weights) != (expected := len(counts)) or balanced is not None:
            message = f"class_weights must be {expected} numbers, without balanced, got {len(class_weights)}"
            raise ConfigError(message, value=tuple(class_weights), expected=expected)
        weight = torch.tensor(class_weights, dtype=torch.float32)

    def loss(logits: Tensor, targets: Targets) -> Tensor:
        own = None if weight is None else weight.to(logits.device)
        if not soft:
            return losses.cross_entropy(logits, targets["label"], smoothing=smoothing, weight=own)
        return soft_loss(logits, targets, partial(nn.functional.cross_entropy, weight=own, label_smoothing=smoothing))

    return Function(loss)


def soft_loss(logits: Tensor, targets: Targets, loss: Callable[..., Tensor]) -> Tensor:
    """Return a loss of class scores and `soft`, which is padded if another dataset has more classes."""
    soft = targets["soft"][:, : logits.shape[1]]
    return _over(soft.sum(1) > 0, loss, logits, soft)


def votes(logits: Tensor, targets: Targets, *, mode: losses.VoteMode = "cross-entropy", smoothing: float = 0.0) -> Tensor:
    """Loss of class scores and FERPlus votes, without single votes, weighted by the share of votes for the classes."""
    counts = torch.where(targets["votes"] > 1, targets["votes"], 0.0)
    classes = counts[:, : logits.shape[1]]
    weight = classes.sum(1) / counts.sum(1).clamp(min=1)
    if mode != "cross-entropy":
        return _over(classes.sum(1) > 0, partial(losses.vote_loss, mode=mode, smoothing=smoothing), logits, classes)
    shares = classes / classes.sum(1, keepdim=True).clamp(min=1)
    entropy = nn.functional.cross_entropy(logits, shares, reduction="none", label_smoothing=smoothing)
    return (entropy * weight).sum() / weight.sum().clamp(min=1)


def valence_arousal(output: Tensor, targets: Targets, *, moments: Literal["biased", "mixed"] = "biased") -> Tensor:
    """1 − the mean concordance correlation coefficient (CCC) of valence and arousal, (N, 2), over the batch."""
    wanted = targets["valence_arousal"]
    return losses.ccc_loss(output, wanted.nan_to_num(), moments=moments, valid=wanted.isfinite().all(1))


def distil(logits: Tensor, targets: Targets, *, teacher: str = "scores") -> Tensor:
    """Cross-entropy with the probabilities of an output of the teacher; ConfigError: no teacher, or one of other classes."""
    wanted = targets.get(f"teacher.{teacher}")
    if wanted is None:
        raise ConfigError("loss term 'distil' requires distil.teacher")
    if wanted.shape != logits.shape:
        theirs, ours = wanted.shape[1], logits.shape[1]
        message = f"loss term 'distil': {teacher!r} of the teacher has {theirs} classes, expected {ours}"
        raise ConfigError(message, value=theirs, expected=ours)
    return nn.functional.cross_entropy(logits, wanted)


def _plain(function: Callable[..., Tensor]) -> Callable[..., nn.Module]:
    return lambda width, classes, counts, **options: Function(function, **options)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "cross-entropy": lambda width, classes, counts, **options: cross_entropy(counts, **options),
    "votes": _plain(votes),
    "distil": _plain(distil),
    # Binary cross-entropy of each class and `soft`, as Global-ROI Net uses for FERPlus.
    "binary": _plain(lambda logits, targets: soft_loss(logits, targets, nn.functional.binary_cross_entropy_with_logits)),
    "affinity": lambda width, classes, counts, *, centers=0, frozen=False: Labeled(
        losses.AffinityLoss(centers or classes, width).requires_grad_(not frozen)
    ),
    "partition": _plain(lambda heads, targets: losses.dan_partition(heads)),
    "attention": _plain(lambda heads, targets, *, maximum=None: losses.ddamfn_attention(heads, maximum=maximum)),
    "center": lambda width, classes, counts, **options: Labeled(losses.CenterLoss(classes, width, **options)),
    "faer-center": lambda width, classes, counts: Labeled(losses.CenterLoss(classes, width, faer=True)),
    "dsf": lambda width, classes, counts, **options: Labeled(losses.ReconstructedDSF(classes, width, **options)),
    "lgm": lambda width, classes, counts, **options: Labeled(losses.GaussianMixtureLoss(classes, width, **options)),
    "valence-arousal": _plain(valence_arousal),
    "action-units": _plain(lambda logits, targets: losses.action_unit_loss(logits, targets["action_units"], from_logits=True)),
}
"""Kind → function of (width of the output, classes, training images of each class, options) that returns a module; the module
maps (output, targets) to a scalar."""


def _build(term: Term, output: Any, classes: int, counts: Tensor) -> nn.Module:
    factory = lookup(term.kind, BUILDERS, "loss term")
    tensor = output if isinstance(output, Tensor) else output[0]
    width = tensor.shape[1] if tensor.ndim > 1 else 1
    try:
        inspect.signature(factory).bind(width, classes, counts, **term.options)
        return factory(width, classes, counts, **term.options)
    except TypeError as error:
        reason = str(error).removeprefix("<lambda>() ")
        raise ConfigError(f"loss term {term.kind!r}: {reason}", value=term.options) from error
