"""`mien-base`: two heads on one trunk, the network that the package bundles and trains itself.

Input: gray faces (N, 1, 48, 48) in the geometry of FER2013, value range as on the card; any size from 32 up works.
Outputs: `fer2013` (N, 7) and `ferplus` (N, 8) logits from two linear heads on one shared feature vector (N, 512).

The trunk is a pre-2016-style basic-block ResNet (He et al. 2015) with squeeze-and-excitation (Hu et al. 2018), a stride-2
stem, average-pooled shortcuts (He et al. 2018, "ResNet-D") and a single block in its last stage: at 24 × 24 cells it costs
0.27 GMACs, which two CPU cores train at about 300 images a second in bfloat16.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from . import sface
from .stock import timm_model


class MienBaseOutput(NamedTuple):
    """Logits of both heads and the feature they share."""

    fer2013: Tensor  # (N, 7), in the order of `mien.labels.FER2013`
    ferplus: Tensor  # (N, 8), in the order of `mien.labels.FERPLUS`
    feature: Tensor  # (N, width of the last stage)


class SqueezeExcite(nn.Module):
    """Channel gates from the global average (Hu et al. 2018), reduction 8."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, channels // 8, 1)
        self.up = nn.Conv2d(channels // 8, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (N, C, h, w), each channel times its gate in (0, 1)."""
        gate = self.up(self.down(x.mean((2, 3), keepdim=True)).relu())
        return x * gate.sigmoid()


class Block(nn.Module):
    """Two 3 × 3 convolutions with squeeze-and-excitation and an average-pooled shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.gate = SqueezeExcite(channels)
        shortcut: list[nn.Module] = []
        if stride == 2:
            shortcut.append(nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False))
        if channels_in != channels:
            shortcut += [nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, `channels`, ⌈H/`stride`⌉, ⌈W/`stride`⌉), zero or more, for x (N, `channels_in`, H, W)."""
        y = self.norm1(self.conv1(x)).relu()
        return (self.gate(self.norm2(self.conv2(y))) + self.shortcut(x)).relu()


class MienBase(nn.Module):
    """The network; see the module's docstring for shapes."""

    def __init__(self, widths: Sequence[int], depths: Sequence[int], dropout: float) -> None:
        super().__init__()
        blocks, channels = [], widths[0]
        conv = nn.Conv2d(1, channels, 3, 2, 1, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for index in range(depth):
                blocks.append(Block(channels, width, 2 if stage and not index else 1))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.fer2013 = nn.Linear(channels, 7)
        self.ferplus = nn.Linear(channels, 8)

    def forward(self, image_NCHW: Tensor) -> MienBaseOutput:
        """Return logits (N, 7) and (N, 8) and the feature (N, width of the last stage) for images (N, 1, H, W)."""
        feature = self.blocks(self.stem(image_NCHW)).mean((2, 3))
        dropped = self.dropout(feature)
        return MienBaseOutput(self.fer2013(dropped), self.ferplus(dropped), feature)


class OnTrunk(nn.Module):
    """The two heads on the pooled feature of SFace or of a timm network."""

    def __init__(self, trunk: str, options: Mapping[str, Any], dropout: float, slopes: Sequence[float]) -> None:
        super().__init__()
        if trunk == sface.NAME:
            self.trunk: Any = sface.SFace(slopes)
        else:
            self.trunk = timm_model(trunk, in_chans=1, num_classes=0, **options)
        self.dropout = nn.Dropout(dropout)
        self.fer2013 = nn.Linear(self.trunk.num_features, 7)
        self.ferplus = nn.Linear(self.trunk.num_features, 8)

    def forward(self, image_NCHW: Tensor) -> MienBaseOutput:
        """Return logits (N, 7) and (N, 8) and the feature (N, the trunk's) for images (N, 1, H, W)."""
        feature = self.trunk(image_NCHW)
        dropped = self.dropout(feature)
        return MienBaseOutput(self.fer2013(dropped), self.ferplus(dropped), feature)


def mien_base(
    *,
    widths: Sequence[int] = (64, 128, 256, 512),
    depths: Sequence[int] = (2, 2, 2, 1),
    dropout: float = 0.3,
    trunk: str = "",
    trunk_options: Mapping[str, Any] | None = None,
    slopes: Sequence[float] = (),
) -> MienBase | OnTrunk:
    """Return a `mien-base` on its own or another trunk, see `architectures.toml`; UnknownName, ConfigError: invalid options."""
    if trunk:
        return OnTrunk(trunk, trunk_options or {}, dropout, slopes).to(memory_format=torch.channels_last)
    return MienBase(widths, depths, dropout).to(memory_format=torch.channels_last)


def mien_nano(
    *, widths: Sequence[int] = (16, 36, 72, 72), depths: Sequence[int] = (1, 2, 1, 1), dropout: float = 0.05
) -> MienBase | OnTrunk:
    """Return a `mien-nano`: the same network, narrow; options as of `mien_base`."""
    return mien_base(widths=widths, depths=depths, dropout=dropout)
