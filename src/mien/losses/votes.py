"""Learn from the votes of several annotators, as FERPlus offers them.

Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label Distribution" (ICMI 2016,
github.com/microsoft/FERPlus) compares the first four modes; "binary" is what Global-ROI Net trains on FERPlus with.

Differences from the paper: "multi-target" takes the paper's threshold θ = 0.3, where the published code accepts every class
with a vote (pass `threshold=0`). The paper finds "probability" and "cross-entropy" about one point of accuracy ahead of the
other two.
"""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

VoteMode = Literal["cross-entropy", "majority", "probability", "multi-target", "binary"]
VOTE_MODES: tuple[VoteMode, ...] = get_args(VoteMode)


def vote_loss(
    logits: Tensor,
    votes: Tensor,
    mode: VoteMode = "cross-entropy",
    *,
    smoothing: float = 0.0,
    threshold: float = 0.3,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the mean loss of logits (N, K) against votes (N, K), counts or shares.

    With q the shares, scaled to sum to 1, and p the softmax of the logits, the modes are

    * "cross-entropy": -Σ q·log p, the whole distribution;
    * "majority": the class with most votes (the first of equals) is the label;
    * "probability": a label is drawn from q in every call, by the `generator`;
    * "multi-target": any class with q > `threshold` is right: -max log p over those (the most voted one if there is none);
    * "binary": mean over N·K of the binary cross-entropy of sigmoid(logits) against q.

    Label smoothing, see `cross_entropy`, is for the first three. Raises ValueError: a row without votes, or an unknown mode.

    Example:
        >>> logits = torch.zeros(1, 4)
        >>> round(vote_loss(logits, torch.tensor([[7, 3, 0, 0]])).item(), 4)  # log 4
        1.3863
    """
    shares = votes.to(logits.dtype)
    total = shares.sum(1, keepdim=True)
    if not (total > 0).all():
        row = int((~(total[:, 0] > 0)).nonzero()[0])
        raise ValueError(f"row {row} of the votes has none: {votes[row].tolist()}; leave such faces out")
    shares = shares / total
    if mode == "cross-entropy":
        return functional.cross_entropy(logits, shares, label_smoothing=smoothing)
    if mode == "majority":
        return functional.cross_entropy(logits, shares.argmax(1), label_smoothing=smoothing)
    if mode == "probability":
        drawn = torch.multinomial(shares, 1, generator=generator)[:, 0]
        return functional.cross_entropy(logits, drawn, label_smoothing=smoothing)
    if mode == "multi-target":
        accepted = (shares > threshold) | functional.one_hot(shares.argmax(1), shares.shape[1]).bool()
        return -functional.log_softmax(logits, 1).masked_fill(~accepted, -torch.inf).amax(1).mean()
    if mode == "binary":
        return functional.binary_cross_entropy_with_logits(logits, shares)
    raise ValueError(f"unknown mode {mode!r}; one of {', '.join(VOTE_MODES)}")
