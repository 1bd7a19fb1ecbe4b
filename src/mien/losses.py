"""The losses of the published systems, and the field's usual ones, as plain functions of tensors.

* one label per face: label smoothing, class-balanced weights; many annotators per face (FERPlus): five modes
* attention heads: DAN's affinity and partition losses, DDAMFN's attention loss
* centers of classes: center loss, its FAER variant, a reconstruction of MFER's DSF loss, the large-margin Gaussian mixture loss
* valence, arousal and action units, with missing annotations

Every function returns a scalar (0-dimensional) tensor unless its docstring states otherwise, works in float32 and float64, and
is differentiable with respect to every floating-point argument that describes a prediction. Losses with parameters
(centers, covariances) are modules: give `loss.parameters()` to the optimizer.
Under mixed precision, compute them outside autocast, on float32 outputs.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional


def cross_entropy(
    logits: Tensor, labels: Tensor, *, smoothing: float = 0.0, weight: Tensor | None = None, ignore: int = -1
) -> Tensor:
    """Return the mean cross-entropy of logits (N, K) against class indices (N,), weighted by those of the classes (K,).

    The published multi-task net hands over its *softmax* instead of logits: give that to reproduce it (the loss then cannot
    fall below log(1 + 8/e) = 1.371 with its 9 classes). Rows labeled `ignore` (Aff-Wild2 writes -1), or of a class of weight 0,
    do not count; if none counts, the loss is 0. Smoothing s (Szegedy et al., CVPR 2016) gives (1 - s)·NLL + s·mean over classes
    of -log p; Global-ROI Net and MFER use 0.1.
    """
    counted = labels != ignore
    if weight is not None:
        counted = counted & (weight[labels.where(counted, 0)] > 0)
    if not counted.any():
        return logits.sum() * 0
    return functional.cross_entropy(logits, labels, weight=weight, ignore_index=ignore, label_smoothing=smoothing)


def class_balanced_weights(counts: Tensor, *, beta: float = 0.999) -> Tensor:
    """Return (K,) one weight per class with n images, (1 - β) / (1 - β^n), scaled to sum to the number of classes that occur.

    From Cui et al., "Class-Balanced Loss Based on Effective Number of Samples" (CVPR 2019). A class without images gets weight
    0. A β of 0 weighs all classes equally; towards 1 the weights approach 1/n. Raises ValueError: `beta` is outside.

    Example:
        >>> [round(w, 3) for w in class_balanced_weights(torch.tensor([1000, 10, 0])).tolist()]
        [0.031, 1.969, 0.0]
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta is {beta}; it must be at least 0 and less than 1")
    counts = counts.to(torch.float64)
    present = counts > 0
    weights = torch.where(present, (1 - beta) / (1 - beta ** counts.clamp(min=1)), 0.0)
    return (weights * present.sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)).to(torch.get_default_dtype())


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

    The first four are of Barsoum et al. (ICMI 2016, github.com/microsoft/FERPlus), who find "probability" and "cross-entropy"
    about one point of accuracy ahead; for "multi-target" their code accepts every class with a vote, a `threshold` of 0.
    Global-ROI Net trains on FERPlus with "binary". Label smoothing, see `cross_entropy`, is for the first three. Raises
    ValueError: a row without votes, or an unknown mode.

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


EPSILON = 2.22e-16  # float64's machine epsilon, which the published codes of DAN and DDAMFN add to a denominator


def dan_affinity(feature_map_NCHW: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """Return DAN's affinity loss: the mean squared distance to the own class center, relative to the spread of the centers.

    The feature map (N, D, H, W) is averaged over H and W first; labels are (N,), centers (K, D), K > 1. The distance is divided
    by the sum over D of the unbiased variance over the K centers, so centers that crowd together are punished too. Each of the
    N·(K − 1) entries of the other classes adds the clamp's lower bound, 1e-12, as in the published code (yaoing/DAN; Wen et
    al., "Distract Your Attention", 2021).

    Example:
        >>> round(dan_affinity(torch.ones(1, 1, 2, 2), torch.tensor([0]), torch.tensor([[0.0], [2.0]])).item(), 6)
        0.5
    """
    features = feature_map_NCHW.mean((2, 3))
    squared = features.square().sum(1, keepdim=True) + centers.square().sum(1) - 2 * features @ centers.T
    own = functional.one_hot(labels, len(centers)).to(squared.dtype)
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
    a cross-entropy of 2); `maximum` clamps it, and its gradient is 0 then. None, as published (SainingZhang/DDAMFN), leaves it
    alone. A later paper describes the loss as making the heads consistent; the formula pushes them apart.

    Example:
        >>> ddamfn_attention([torch.zeros(4), torch.full((4,), 2.0)]).item()
        0.25
    """
    pairs = list(combinations(heads, 2))
    if not pairs:
        return heads[0].sum() * 0
    difference = torch.stack([functional.mse_loss(a, b) for a, b in pairs]).sum()
    loss = len(pairs) / (difference + EPSILON)
    return loss if maximum is None else loss.clamp(max=maximum)


def center_loss(features: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """Return the mean over faces of ½‖f - c_y‖², for features (N, D), class indices (N,) and centers (K, D).

    From Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition" (ECCV 2016).

    Example:
        >>> center_loss(torch.tensor([[3.0, 4.0]]), torch.tensor([1]), torch.zeros(2, 2)).item()
        12.5
    """
    return (features - centers[labels]).square().sum(1).mean() / 2


def faer_center_loss(features: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """Return `center_loss`, of the same arguments, with the gradient of github.com/XUJ1Er/FAER for the centers (K, D).

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
    """Return our reconstruction of MFER's unreleased DSF loss, of the arguments of `center_loss`.

    Nothing of it is the authors' code or formula. Their abstract (IEEE Trans. Affective Computing 16(2):683-696, 2025) says
    that the loss will "balance the probability difference of encoded intra-class features and promote intra-class features
    towards corresponding centers", and their training script builds it from the feature width and the number of classes alone.
    We derive:

    1. "promote intra-class features towards corresponding centers" is a center loss, and width × classes is the shape of its
       centers. FAER, by the same authors, trains with one, weight .01; the other steps have no second witness.
    2. "probability … of encoded … features": an encoded feature f has none until it is normalized, so p = softmax(f / T).
    3. "difference of … intra-class": how far the p of the faces of a class are from each other in the batch. The measure that
       treats all faces equally and exists for any number of them is the generalized Jensen-Shannon divergence, H(mean of p) -
       mean of H(p): 0 when all agree, at most log n for n faces, 0 for a class with one face.
    4. "balance": every class that occurs in the batch counts the same, however many faces it has there.

    So it is the center loss + `balance` · (mean over the classes present of their divergence); `temperature` is T. Numbers
    obtained with it are not comparable with MFER's published ones.
    """
    log_p = torch.log_softmax(features / temperature, 1)
    p = log_p.exp()
    present, group = labels.unique(return_inverse=True)
    member = functional.one_hot(group, len(present)).to(p.dtype)
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


class GaussianMixtureLoss(nn.Module):
    """Classify features by K Gaussians with diagonal covariances, widened by a margin for the true class.

    With d_k = Σ (f - μ_k)² / σ_k², the logits are -½(d_k + log|Σ_k|). The loss is the cross-entropy of the logits after d_y was
    multiplied by 1 + margin, plus `likelihood_weight` times the mean over faces of ½‖f - μ_y‖² + ½ log|Σ_y|.

    The large-margin Gaussian mixture loss of Wan et al., "Rethinking Feature Distribution for Loss Functions in Image
    Classification" (CVPR 2018), with which MFER compares itself. The likelihood "euclidean" measures the second distance
    without the covariance, as the re-implementation does that the field compares with; "gaussian" is the paper's. Class priors
    are equal.

    Attributes:
        centers: (K, D), μ, drawn from N(0, 1).
        log_variance: (K, D), log σ², starts at 0.

    Example:
        >>> loss = GaussianMixtureLoss(num_classes=7, features=512)
        >>> loss(torch.zeros(2, 512), torch.tensor([0, 6])).shape
        torch.Size([])
    """

    def __init__(
        self,
        num_classes: int,
        features: int,
        *,
        margin: float = 1.0,
        likelihood_weight: float = 0.1,
        likelihood: Literal["euclidean", "gaussian"] = "euclidean",
    ) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(num_classes, features))
        self.log_variance = nn.Parameter(torch.zeros(num_classes, features))
        self.margin, self.likelihood_weight, self.likelihood = margin, likelihood_weight, likelihood

    def logits(self, features: Tensor) -> Tensor:
        """Return the classifier's logits (N, K) for features (N, D), without margin: what a trained model predicts with."""
        return -(self._distances(features) + self.log_variance.sum(1)) / 2

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of features (N, D) and class indices (N,)."""
        distances = self._distances(features)
        own = functional.one_hot(labels, len(self.centers)).to(distances.dtype)
        log_determinant = self.log_variance.sum(1)
        with_margin = -(distances * (1 + self.margin * own) + log_determinant) / 2
        if self.likelihood == "gaussian":
            own_distance = (distances * own).sum(1)
        else:
            own_distance = (features - self.centers[labels]).square().sum(1)
        likelihood = (own_distance + log_determinant[labels]).mean() / 2
        return functional.cross_entropy(with_margin, labels) + self.likelihood_weight * likelihood

    def _distances(self, features: Tensor) -> Tensor:
        offset = features[:, None] - self.centers
        return (offset.square() * torch.exp(-self.log_variance)).sum(2)


Moments = Literal["biased", "mixed"]


def ccc(prediction: Tensor, target: Tensor, *, moments: Moments = "biased") -> Tensor:
    """Return Lin's concordance correlation coefficient over the first axis: (N,) gives a scalar, (N, K) gives (K,), in [-1, 1].

    2·cov / (var_target + var_prediction + (mean_target - mean_prediction)² + 1e-8), N > 1. Give the whole set's predictions to
    evaluate: the mean of per-batch coefficients is another, usually smaller, number. The moments "biased" divide covariance and
    variances by N: perfect agreement is 1. "mixed" is the ABAW authors' form (arXiv 2407.12390), biased covariance but unbiased
    variances: perfect agreement is (N - 1) / N, .969 in their batches of 32.

    Example:
        >>> scores = torch.tensor([-0.5, 0.0, 0.5, 1.0])
        >>> round(ccc(scores, scores).item(), 4), round(ccc(scores, scores, moments="mixed").item(), 4)
        (1.0, 0.75)
    """
    correction = {"biased": 0, "mixed": 1}[moments]
    offset = prediction.mean(0) - target.mean(0)
    covariance = ((prediction - prediction.mean(0)) * (target - target.mean(0))).mean(0)
    variances = prediction.var(0, correction=correction) + target.var(0, correction=correction)
    return 2 * covariance / (variances + offset.square() + 1e-8)


def ccc_loss(prediction: Tensor, target: Tensor, *, moments: Moments = "biased", valid: Tensor | None = None) -> Tensor:
    """Return 1 - the mean CCC of the K columns (N, K) in [-1, 1], in [0, 2]; "mixed" moments reproduce the ABAW authors.

    Rows that are not `valid` (N,), those without annotation, are excluded; the authors drop every frame that lacks any field
    (63 % of their training set). With fewer than two rows left the loss and its gradients are 0.
    """
    if valid is not None:
        prediction, target = prediction[valid], target[valid]
    if len(prediction) < 2:
        return prediction.sum() * 0
    return 1 - ccc(prediction, target, moments=moments).mean()


def action_unit_loss(prediction: Tensor, target: Tensor, *, from_logits: bool = False) -> Tensor:
    """Return the mean binary cross-entropy over the annotated units of (N, K) probabilities, or logits.

    Targets are 1 active, 0 not active, negative (the dataset writes -1) not annotated: excluded from the mean. Without any
    annotation the loss is 0.

    Example:
        >>> round(action_unit_loss(torch.tensor([[0.5, 0.9]]), torch.tensor([[1, -1]])).item(), 4)
        0.6931
    """
    known = target >= 0
    if not known.any():
        return prediction.sum() * 0
    entropy = functional.binary_cross_entropy_with_logits if from_logits else functional.binary_cross_entropy
    return entropy(prediction[known], target[known].to(prediction.dtype))
