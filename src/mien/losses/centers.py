"""Losses that pull the features of a class together: center loss, FAER's variant, and a reconstruction of MFER's DSF loss.

Center loss: Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition" (ECCV 2016). FAER:
github.com/XUJ1Er/FAER, by the authors of MFER. MFER: IEEE Trans. Affective Computing 16(2):683–696 (2025).

DSF, a reconstruction
---------------------
MFER's feature-smoothing ("DSF") loss was never released; nothing below is its authors' code or formula. The abstract says that
it will "balance the probability difference of encoded intra-class features and promote intra-class features towards
corresponding centers", and the published training script builds it from the feature width and the number of classes alone. We
derive:

1. "promote intra-class features towards corresponding centers" is a center loss, and width × classes is the shape of its
   centers: pull = mean over faces of ½‖f - c_y‖².
2. "probability … of encoded … features": an encoded feature f has no probability until it is normalized, so p = softmax(f / T).
3. "difference of … intra-class": within one class of the batch, how far the p of its faces are from each other. The measure
   that treats all faces of the class equally and exists for any number of them is the generalized Jensen-Shannon divergence,
   H(mean of p) - mean of H(p): 0 when all agree, at most log n for n faces, 0 for a class with one face.
4. "balance": every class that occurs in the batch counts the same, however many faces it has there.

   DSF = pull + balance · (mean over the classes present of their divergence)

Of these steps only the first has a second witness (FAER, by the same authors, trains with that center loss, weight .01); the
others are the reading we find nearest to the words. Numbers obtained with it are not comparable with MFER's published ones.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function


def center_loss(features: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """Return the mean over faces of ½‖f - c_y‖², for features (N, D), class indices (N,) and centers (K, D).

    Example:
        >>> center_loss(torch.tensor([[3.0, 4.0]]), torch.tensor([1]), torch.zeros(2, 2)).item()
        12.5
    """
    return (features - centers[labels]).square().sum(1).mean() / 2


def faer_center_loss(features: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """Return `center_loss`, of the same arguments, with FAER's gradient for the centers (K, D).

    The center of class j receives Σ_{y=j} (c_j - f) / ((1 + n_j)·N), n_j being the faces of class j in the batch, **whatever
    the loss is multiplied by afterwards**: a weight of .01 slows the features down, not the centers.
    """
    return _FaerCenter.apply(features, labels, centers)  # pyrefly: ignore


class _FaerCenter(Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
        ctx.save_for_backward(features, labels, centers)
        return center_loss(features, labels, centers)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, Tensor]:
        features, labels, centers = ctx.saved_tensors
        offset = features - centers[labels]
        faces = torch.bincount(labels, minlength=len(centers)).to(offset.dtype)
        pull = torch.zeros_like(centers).index_add(0, labels, -offset) / (1 + faces[:, None]) / len(features)
        return upstream[0] * offset / len(features), None, pull


def dsf_reconstruction(
    features: Tensor, labels: Tensor, centers: Tensor, *, balance: float = 1.0, temperature: float = 1.0
) -> Tensor:
    """Return our reconstruction of MFER's unreleased DSF loss, of the arguments of `center_loss`; the module derives it.

    `balance` weighs the divergence within classes against the pull to the centers, `temperature` is T of softmax(f / T).
    """
    log_p = torch.log_softmax(features / temperature, 1)
    p = log_p.exp()
    present, group = labels.unique(return_inverse=True)
    member = nn.functional.one_hot(group, len(present)).to(p.dtype)
    share = member / member.sum(0)
    mean_p = share.T @ p
    entropy_of_mean = -torch.special.xlogy(mean_p, mean_p.clamp(min=torch.finfo(p.dtype).tiny)).sum(1)
    mean_entropy = share.T @ -(p * log_p).sum(1)
    return center_loss(features, labels, centers) + balance * (entropy_of_mean - mean_entropy).mean()


class CenterLoss(nn.Module):
    """`center_loss` with its own centers (Xavier uniform, gain √2, as in FAER); `faer=True` for FAER's gradient."""

    def __init__(self, num_classes: int, features: int, *, faer: bool = False) -> None:
        super().__init__()
        self.centers = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_classes, features), gain=2**0.5))
        self.faer = faer

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of features (N, D) and class indices (N,)."""
        return (faer_center_loss if self.faer else center_loss)(features, labels, self.centers)


class ReconstructedDSF(nn.Module):
    """`dsf_reconstruction` with its own centers: **our reconstruction**, not the loss that MFER was trained with."""

    def __init__(self, num_classes: int, features: int, *, balance: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        self.centers = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_classes, features), gain=2**0.5))
        self.balance, self.temperature = balance, temperature

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of features (N, D) and class indices (N,)."""
        return dsf_reconstruction(features, labels, self.centers, balance=self.balance, temperature=self.temperature)
