"""The large-margin Gaussian mixture loss: one Gaussian per class instead of a linear classifier.

Wan et al., "Rethinking Feature Distribution for Loss Functions in Image Classification" (CVPR 2018). MFER compares itself with
it.

Differences from the paper: `likelihood="euclidean"`, the default, measures the likelihood term's distance without the
covariance, as the common re-implementation does that the field compares with; `"gaussian"` is the paper's. Class priors are
equal in both.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Likelihood = Literal["euclidean", "gaussian"]


class GaussianMixtureLoss(nn.Module):
    """Classify features by K Gaussians with diagonal covariances, widened by a margin for the true class.

    With d_k = Σ (f - μ_k)² / σ_k², the logits are -½(d_k + log|Σ_k|). The loss is the cross-entropy of the logits after d_y was
    multiplied by 1 + margin, plus `likelihood_weight` times the mean over faces of ½‖f - μ_y‖² + ½ log|Σ_y|.

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
        likelihood: Likelihood = "euclidean",
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
        own = nn.functional.one_hot(labels, len(self.centers)).to(distances.dtype)
        log_determinant = self.log_variance.sum(1)
        with_margin = -(distances * (1 + self.margin * own) + log_determinant) / 2
        if self.likelihood == "gaussian":
            own_distance = (distances * own).sum(1)
        else:
            own_distance = (features - self.centers[labels]).square().sum(1)
        likelihood = (own_distance + log_determinant[labels]).mean() / 2
        return nn.functional.cross_entropy(with_margin, labels) + self.likelihood_weight * likelihood

    def _distances(self, features: Tensor) -> Tensor:
        offset = features[:, None] - self.centers
        return (offset.square() * torch.exp(-self.log_variance)).sum(2)
