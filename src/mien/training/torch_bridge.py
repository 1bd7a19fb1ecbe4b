"""`mien.torch`: datasets, networks and features for training loops of your own.

    import torch, mien

    network = mien.torch.model("runs/mine/1")
    data = mien.torch.dataset("folder", "faces", "train", model="runs/mine/1", augment=[{"op": "flip"}])
    loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)

Networks return a NamedTuple of outputs (`output.logits`); images are preprocessed as the card of the model specifies.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from .. import models
from ..cards import Card
from ..data.datasets import Dataset, Draw, open_dataset
from ..data.datasets.layout import Damaged
from ..data.datasets.protocols import DEFAULT_DRAW
from ..errors import ConfigError, WeightsError
from ..faces.preprocessing import Preprocess
from ..io.images import read_image
from ..labels import index_map
from ..models.torch_runtime import open_network, run_network
from ..runtime.open_model import open_model
from . import augmentation
from .augmentation import BatchRng, augment
from .config import InitConfig
from .init_weights import bundled_network, load_initial_weights
from .loader import normalize, to_unit

SAMPLES = 256  # images from which BatchNorm statistics are measured


class FaceDataset(TorchDataset[tuple[Tensor, int]]):
    """Face crops of a dataset as (image, label): float32 (C, H, W) as the model expects, and the class index, −1 if unknown.

    The card of the model defines preprocessing and class order; `transforms` is augmentation as in recipes, whose random
    numbers follow torch's seed. `labels` (N,) int64 are the class indices in the order of the card.
    """

    def __init__(self, data: Dataset, card: Card, transforms: Sequence[Mapping[str, Any]] = ()) -> None:
        augmentation.check(transforms)
        self.data, self.card, self.transforms = data, card, tuple(transforms)
        self.preprocess = Preprocess.of(card)
        self.labels = np.where(data.label >= 0, index_map(data.labels, card.labels)[data.label], -1)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        crop = np.array(self.preprocess.whole(read_image(self.data.images[index]).pixels))[None]  # Pillow's are read-only.
        if not self.transforms:
            return torch.from_numpy(self.preprocess.tensor(crop))[0], int(self.labels[index])
        rng = BatchRng(int(torch.randint(1 << 62, ())), 1, slice(0, 1))
        size = {"image": crop.shape[1]}
        images = augment(
            {"image": to_unit(crop)}, self.transforms, rng,
            normalize=lambda image: normalize(image, self.preprocess), size=size, together=True,
        )  # fmt: skip
        return images["image"][0], int(self.labels[index])


def dataset(
    name: str,
    root: str | Path = ".",
    split: str = "train",
    protocol: str = "",
    *,
    model: str | Path | Card = "mien-base",
    augment: Sequence[Mapping[str, Any]] = (),
    draw: Draw = DEFAULT_DRAW,
    damaged: Damaged = "raise",
    **options: str,
) -> FaceDataset:
    """Return a split of a dataset, as `mien.open_dataset` opens it, as a map-style `torch.utils.data.Dataset`.

    `model` is a bundled model, card or run that defines preprocessing and class order; `augment` is augmentation, as in
    recipes. `damaged` is whether images that cannot be read raise, or are skipped with a note. Raises UnknownName,
    DatasetError, ConfigError: unknown dataset or model, missing files, invalid augmentation.

    Example:
        >>> import mien
        >>> image, label = mien.torch.dataset("synthetic")[0]
        >>> image.shape, label
        (torch.Size([1, 64, 64]), 0)
    """
    return FaceDataset(open_dataset(name, root, split, protocol, draw=draw, damaged=damaged, **options), _card(model), augment)


def model(source: str | Path | Card, *, data: TorchDataset[tuple[Tensor, int]] | None = None) -> nn.Module:
    """Return the network of a bundled model, card or run with its weights, in evaluation mode.

    `data` are training images, from which the BatchNorm statistics of a bundled model are measured: they are needed to train
    it, but not for inference. Raises WeightsError if the network cannot be built from the card.

    Example:
        >>> import mien, torch
        >>> mien.torch.model("mien-nano")(torch.zeros(1, 1, 48, 48)).ferplus.shape
        torch.Size([1, 8])
    """
    card = _card(source)
    if not card.file.endswith(".onnx"):
        return open_network(card)
    if card.name not in models.MODELS:
        raise WeightsError(f"{card.name} is an exported network; use the run that it was exported from", path=card.file)
    network = bundled_network(card)
    size = (SAMPLES, Preprocess.of(card).channels, *Preprocess.of(card).input.size)

    def images() -> Tensor:
        if data is None:
            return torch.randn(size, generator=torch.Generator().manual_seed(0)) / 2
        rows = np.unique(np.linspace(0, len(data) - 1, SAMPLES).astype(int))  # pyrefly: ignore
        return torch.stack([data[int(row)][0] for row in rows])

    load_initial_weights(network, card.name, InitConfig(file=card.name), images=images)
    return network.eval()


@torch.no_grad()
def features(network: nn.Module, data: TorchDataset[tuple[Tensor, int]], *, batch_size: int = 64) -> Tensor:
    """Return the features (N, D) float32 of a dataset, which the last layer reads; ConfigError: no output `feature`."""
    before = network.training
    network.eval()
    device = next(network.parameters()).device
    found = []
    for images, _ in DataLoader(data, batch_size):
        output = run_network(network, {"image": images.to(device)})
        if getattr(output, "feature", None) is None:
            raise ConfigError(f"{type(network).__name__} has no output 'feature'", value=type(network).__name__)
        found.append(output.feature.float().cpu())
    network.train(before)
    return torch.cat(found) if found else torch.empty(0, 0)


def _card(source: str | Path | Card) -> Card:
    return source if isinstance(source, Card) else open_model(source)[0]
