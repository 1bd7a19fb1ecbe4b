"""Losses on attention heads: DAN's affinity and partition losses, DDAMFN's attention loss.

DAN: Wen et al., "Distract Your Attention: Multi-head Cross Attention Network for Facial Expression Recognition" (2021),
github.com/yaoing/DAN. DDAMFN: Zhang et al., "A Dual-Direction Attention Mixed Feature Network for Facial Expression
Recognition", Electronics 12 (2023), github.com/SainingZhang/DDAMFN.

Differences from the papers: the formulas are those of the published code, constants and clamps included. A later paper that
builds on DDAMFN describes its attention loss as making the heads consistent; the formula does the opposite and pushes them
apart.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

EPSILON = 2.22e-16  # float64's machine epsilon, which both published codes add to a denominator


def dan_affinity(feature_map_NCHW: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """Return DAN's affinity loss: the mean squared distance to the own class center, relative to the spread of the centers.

    The feature map (N, D, H, W) is averaged over H and W first; labels are (N,), centers (K, D), K > 1. The distance is divided
    by the sum over D of the unbiased variance over the K centers, so centers that crowd together are punished too. Each of the
    N·(K − 1) entries of the other classes adds the clamp's lower bound, 1e-12, as in the published code.

    Example:
        >>> round(dan_affinity(torch.ones(1, 1, 2, 2), torch.tensor([0]), torch.tensor([[0.0], [2.0]])).item(), 6)
        0.5
    """
    features = feature_map_NCHW.mean((2, 3))
    squared = features.square().sum(1, keepdim=True) + centers.square().sum(1) - 2 * features @ centers.T
    own = nn.functional.one_hot(labels, len(centers)).to(squared.dtype)
    return (squared * own / centers.var(0).sum()).clamp(1e-12, 1e12).sum() / len(features)


class AffinityLoss(nn.Module):
    """`dan_affinity` with its own centers, drawn from N(0, 1).

    The centers are a parameter: hand it to the optimizer with the network's (yaoing/DAN does), or freeze it with
    `requires_grad_(False)` to train as hyunyongPark/Emotion-Recognition does.
    """

    def __init__(self, num_classes: int, features: int = 512) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(num_classes, features))

    def forward(self, feature_map_NCHW: Tensor, labels: Tensor) -> Tensor:
        """Return `dan_affinity` of a feature map (N, D, H, W) and class indices (N,)."""
        return dan_affinity(feature_map_NCHW, labels, self.centers)


def dan_partition(heads_NKD: Tensor) -> Tensor:
    """Return DAN's partition loss, log(1 + K / mean variance over the K heads): small when they differ; 0 with one head.

    Example:
        >>> round(dan_partition(torch.tensor([[[0.0], [2.0]]])).item(), 4)  # unbiased variance 2, K = 2
        0.6931
    """
    count = heads_NKD.shape[1]
    if count < 2:
        return heads_NKD.sum() * 0
    return torch.log(1 + count / (heads_NKD.var(1).mean() + EPSILON))


def ddamfn_attention(heads: Sequence[Tensor], *, maximum: float | None = None) -> Tensor:
    """Return DDAMFN's attention loss of maps of one shape: pairs of heads / sum over pairs of their mean squared difference.

    With one head it is 0. It has no bound as heads coincide and dominates the first steps (about 50 on untrained heads against
    a cross-entropy of 2); `maximum` clamps it, and its gradient is 0 then. None, as published, leaves it alone.

    Example:
        >>> ddamfn_attention([torch.zeros(4), torch.full((4,), 2.0)]).item()
        0.25
    """
    pairs = list(combinations(heads, 2))
    if not pairs:
        return heads[0].sum() * 0
    difference = torch.stack([nn.functional.mse_loss(a, b) for a, b in pairs]).sum()
    loss = len(pairs) / (difference + EPSILON)
    return loss if maximum is None else loss.clamp(max=maximum)
