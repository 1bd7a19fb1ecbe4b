"""The heads of the bundled classifiers, FER2013's and FERPlus's, as one answer: pooled and calibrated on PublicTest.

The even mean of both carries over better to other photographs than the FER2013 head alone, but costs three points of UAR:
the head of FER2013 has three quarters of it.

Against the labels of FER2013, which differ from the crowd's in a third of the images, that mean is too sure of itself in a
way that no temperature mends: the crowd says neutral more often. So its logarithm is calibrated by a factor that depends on its
entropy (as in Balanya et al., "Adaptive temperature scaling for robust calibration of deep neural networks", 2022) and by an
offset for each class (vector scaling, Guo et al. 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from fer2013_arrays import Fer2013
from mien.data.datasets import ferplus
from mien.faces.preprocessing import Preprocess
from mien.labels import FER2013, FERPLUS
from mien.metrics.calibration import expected_calibration_error, fit_temperature, log_loss, softmax

WEIGHT = 0.75
"""Share of the FER2013 head in the mean."""


@dataclass(frozen=True, slots=True)
class Pool:
    """How the logits of both heads become probabilities."""

    fer2013: float
    """Temperature of the FER2013 head."""
    ferplus: float
    """Temperature of the FERPlus head."""
    scale: tuple[float, float, float]
    """Of the logarithm of the mean: the factor is exp(a + b h + c h²), h its entropy in nats."""
    offset: tuple[float, ...]
    """Added to it, class by class in the order of FER2013; the last is 0."""


class Pooled(nn.Module):
    """(N, 7) and (N, 8) probabilities of both heads → (N, 7) `scores`."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.pool = pool
        self.register_buffer("order", torch.tensor([FERPLUS.index(name) for name in FER2013]))
        self.register_buffer("offset", torch.tensor(pool.offset))

    def forward(self, fer2013: Tensor, ferplus: Tensor) -> Tensor:
        shared = ferplus[:, self.order]
        mean = WEIGHT * fer2013 + (1 - WEIGHT) * shared / shared.sum(1, keepdim=True)
        log = mean.clamp(min=1e-9).log()
        h = -(mean * log).sum(1, keepdim=True)
        a, b, c = self.pool.scale
        return (log * (a + b * h + c * h * h).exp() + self.offset).softmax(1)


class Calibrated(nn.Module):
    """The network with its pool: (N, 1, 48, 48) → probabilities `scores`, `fer2013`, `ferplus`."""

    def __init__(self, model: nn.Module, pool: Pool) -> None:
        super().__init__()
        self.model, self.pool, self.pooled = model, pool, Pooled(pool)

    def forward(self, image_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = self.model(image_NCHW)
        seven = (output.fer2013 / self.pool.fer2013).softmax(1)
        eight = (output.ferplus / self.pool.ferplus).softmax(1)
        return self.pooled(seven, eight), seven, eight


def tensor(preprocess: Preprocess, images: np.ndarray) -> np.ndarray:
    """Return (N, 1, 48, 48) float32 for (N, 48, 48) uint8 images, through the package's own preprocessing."""
    return preprocess.tensor(np.stack([preprocess.whole(image) for image in images]))


@torch.no_grad()
def fit(model: nn.Module, preprocess: Preprocess, split: Fer2013) -> Pool:
    """Fit the temperatures of both heads, then what makes their mean probabilities."""
    outputs = [model(torch.from_numpy(part)) for part in np.array_split(tensor(preprocess, split.pixels), 16)]
    seven, eight = (
        torch.cat([getattr(output, head) for output in outputs]).double().numpy() for head in ("fer2013", "ferplus")
    )
    distribution, kept = ferplus.targets(split.votes, "majority")
    first = fit_temperature(seven, split.label)
    second = fit_temperature(eight[kept], distribution[kept].argmax(1))
    return Pool(first, second, *fit_pool(softmax(seven / first), softmax(eight / second), split.label))


def fit_pool(seven: np.ndarray, eight: np.ndarray, label: np.ndarray) -> tuple[tuple[float, float, float], tuple[float, ...]]:
    """Fit scale and offset of the mean of both heads' probabilities by log loss; print what five folds say of it."""
    given = torch.from_numpy(seven).float(), torch.from_numpy(eight).float()

    def pooled(values: np.ndarray) -> np.ndarray:
        pool = Pool(1, 1, tuple(values[:3]), (*values[3:], 0.0))
        return Pooled(pool)(*given).numpy()

    def fitted(rows: np.ndarray) -> np.ndarray:
        def loss(values: np.ndarray) -> float:
            return log_loss(pooled(values)[rows], label[rows]) + 1e-3 * float((values[3:] ** 2).sum())

        return minimize(loss, np.zeros(9), method="Powell", options={"ftol": 1e-7}).x

    folds = np.random.default_rng(0).permutation(len(label)) % 5
    unseen = np.empty((len(label), 7))
    for fold in range(5):
        unseen[folds == fold] = pooled(fitted(folds != fold))[folds == fold]
    error = expected_calibration_error(unseen, label)
    print(f"scores in five folds of PublicTest: log loss {log_loss(unseen, label):.4f}, calibration error {error:.4f}")
    a, b, c, *offset = np.round(fitted(np.ones(len(label), bool)), 4).tolist()
    return (a, b, c), (*offset, 0.0)
