"""DAN: several attention heads on one feature map; two losses pull classes together and push heads apart.

Paper: Wen et al., "Distract your attention: multi-head cross attention network for facial expression recognition", Biomimetics
2023. Repositories: yaoing/DAN 3872eef (MIT); hyunyongPark/Emotion-Recognition fbc1b52 (six classes; no license).

A ResNet-18 (or any timm network) returns a feature map. Each head weighs its locations, then its channels, and returns one
vector. A log-softmax across heads makes them compete for every channel; their sum passes a linear layer and a BatchNorm.

The spatial weight is a sum of 512 ReLU maps, without a sigmoid: vectors of order 10³ are normal before training, so compare
numbers relatively. Parameters at 7 classes: 19,723,733. Affinity and partition losses are in `mien.losses`.

Differences from the paper: none known in the authors' form; other backbones are ours, with head widths that scale along. On
SFace's trunk (gray images, 256 channels behind a 1×1 convolution) DAN has 5,606,811 parameters.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from . import sface
from .info import RESNET_CHILDREN, Input, Rule, at_least, children, rename
from .stock import resnet, timm_model

IMAGE = at_least(32)
SFACE_CHANNELS = 256  # channels of the heads on SFace's trunk, whose 1,024 would make them seven times as large as the trunk


class DANOutput(NamedTuple):
    """Output of DAN; `heads` (N, K, C) are the vectors after the log-softmax across heads, `feature` (N, C) their sum."""

    logits: Tensor
    feature: Tensor
    feature_map: Tensor
    heads: Tensor


class DAN(nn.Module):
    """A feature extractor under `num_heads` cross-attention heads."""

    def __init__(self, features: nn.Module, channels: int, num_classes: int, num_heads: int, image: Input = IMAGE) -> None:
        super().__init__()
        self.image = image
        self.features = features
        self.heads = nn.ModuleList(CrossAttentionHead(channels) for _ in range(num_heads))
        self.fc = nn.Linear(channels, num_classes)
        self.bn = nn.BatchNorm1d(num_classes)
        self.fc.apply(_initialize)

    def forward(self, image: Tensor) -> DANOutput:
        """Return logits (N, classes), feature (N, C), its map (N, C, h, w) and heads (N, K, C) for images (N, 3, H, W)."""
        self.image.check(image)
        (feature_map,) = self.features(image)
        heads = torch.stack([head(feature_map) for head in self.heads], 1)
        if len(self.heads) > 1:
            heads = heads.log_softmax(1)
        feature = heads.sum(1)
        return DANOutput(self.bn(self.fc(feature)), feature, feature_map, heads)


class CrossAttentionHead(nn.Module):
    """Spatial, then channel attention: (N, C, h, w) → (N, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial = SpatialAttention(channels)
        self.channel = nn.Sequential(
            nn.Linear(channels, channels // 16),
            nn.BatchNorm1d(channels // 16),
            nn.ReLU(inplace=True),
            nn.Linear(channels // 16, channels),
            nn.Sigmoid(),
        )
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        """Return the head's vector (N, C) for a feature map (N, C, h, w)."""
        pooled = self.spatial(x).mean((2, 3))
        return pooled * self.channel(pooled)


class SpatialAttention(nn.Module):
    """Multiply x by one weight for each location, the channel sum of square, row and column convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = conv_bn(channels, channels // 2, (1, 1))
        self.square = conv_bn(channels // 2, channels, (3, 3))
        self.row = conv_bn(channels // 2, channels, (1, 3))
        self.column = conv_bn(channels // 2, channels, (3, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return x (N, C, h, w), each location times its weight."""
        return x * self.places(x)[:, None]

    def places(self, x: Tensor) -> Tensor:
        """Return the weight of each location, (N, h, w), zero or more."""
        y = self.reduce(x)
        return (self.square(y) + self.row(y) + self.column(y)).relu().sum(1)


def conv_bn(channels_in: int, channels: int, kernel: tuple[int, int]) -> nn.Sequential:
    """Return a size-keeping convolution with bias, and BatchNorm."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(nn.Conv2d(channels_in, channels, kernel, padding=padding), nn.BatchNorm2d(channels))


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.001)
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.zeros_(module.bias)


def dan(num_classes: int = 7, *, num_heads: int = 4, backbone: str = "resnet18", pretrained: bool | str = False) -> DAN:
    """Return a DAN; its options are described in `architectures.toml`. Raises ConfigError without heads."""
    if num_heads < 1:
        raise ConfigError(f"num_heads={num_heads}: DAN has one head or more")
    if backbone == sface.NAME:
        return DAN(sface.Extractor(SFACE_CHANNELS), SFACE_CHANNELS, num_classes, num_heads, sface.GRAY)
    create = resnet if backbone in ("resnet18", "resnet34", "resnet50") else timm_model
    features = create(backbone, pretrained, features_only=True, out_indices=(-1,))
    return DAN(features, features.feature_info.channels()[-1], num_classes, num_heads)


def from_author(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' state dict, or a plain ResNet-18's (their MS-Celeb start), under our names."""
    return rename(state, RESNET_RULES if "conv1.weight" in state else AUTHOR_RULES)


AUTHOR_RULES: tuple[Rule, ...] = (
    (r"^features\.(\d)\.", lambda match: f"features.{RESNET_CHILDREN[int(match[1])]}."),
    (r"^cat_head(\d+)\.", r"heads.\1."),
    *children(r"\.sa\.", ".spatial.", {"conv1x1": "reduce", "conv_3x3": "square", "conv_1x3": "row", "conv_3x1": "column"}),
    (r"\.ca\.attention\.", ".channel."),
)
RESNET_RULES: tuple[Rule, ...] = ((r"^(?!fc\.)", "features."), (r"^fc\.", "pretraining.fc."))
