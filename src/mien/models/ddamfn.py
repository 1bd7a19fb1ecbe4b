"""DDAMFN: a mobile network of mixed depthwise kernels under attention heads over rows and columns.

Paper: Zhang et al., "A dual-direction attention mixed feature network for facial expression recognition", Electronics
12(17):3595, 2023. Repository: SainingZhang/DDAMFN cebfe5c (no license: only formulas and constants were used); DDAMFN++ is the
same network, trained otherwise.

Parameters at 7 classes and 2 heads: 4,187,421, of which 81,422 are dead: BatchNorm and PReLU of every mixed convolution, a 7×7
convolution in every head, and a BatchNorm over the classes. `slim=True` omits them. The loss that pushes heads apart is in
`mien.losses`.

Differences from the paper: none known.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from . import sface
from .info import Input, Rule, children, rename

CHANNELS, STRIDE = 512, 16  # of the last feature map


def exactly(size: int) -> Input:
    """Return the input of a network whose last kernels span the whole feature map of images of `size`."""
    return Input("image", size, str(size), lambda side: side == size)


IMAGE = exactly(112)


class DDAMFNOutput(NamedTuple):
    """Answer of DDAMFN; `heads[k]` (N, 512, h, w) is the attention map of head k; h = w = 7 for faces of 112 pixels."""

    logits: Tensor
    feature: Tensor
    feature_map: Tensor
    heads: tuple[Tensor, ...]


class DDAMFNTrunk(nn.Module):
    """Everything before the last layers: image → feature (N, 512), feature map and attention maps (N, 512, h, w)."""

    def __init__(self, num_heads: int, slim: bool, size: int, backbone: str = "mfn") -> None:
        super().__init__()
        if backbone not in ("mfn", sface.NAME):
            raise ConfigError(f"backbone={backbone!r}: the backbones of DDAMFN are mfn and sface", value=backbone)
        if size % STRIDE or size < STRIDE:
            raise ConfigError(f"size={size!r}: a DDAMFN reads images of {STRIDE}, {2 * STRIDE}, {3 * STRIDE} … pixels")
        self.image, side, on_sface = exactly(size), size // STRIDE, backbone == sface.NAME
        if on_sface:
            self.image = dataclasses.replace(self.image, channels=1)
        self.channels = sface.CHANNELS[-1] if on_sface else CHANNELS
        self.features = sface.Extractor() if on_sface else mixed_feature_network(slim)
        self.heads = nn.ModuleList(DirectionAttention(self.channels, side, slim) for _ in range(num_heads))
        self.pool = depthwise(self.channels, (side, side))
        mixed = [name for name, module in self.named_modules() if isinstance(module, MixedDepthwise)]
        self.dead = (
            "bn",
            *(f"{name}.{part}" for name in mixed for part in ("bn", "prelu")),
            *(f"heads.{index}.unused" for index in range(num_heads)),
        )

    def read(self, image: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Return feature (N, 512), feature map (N, 512, h, w) and the map of each head for images (N, 3, size, size)."""
        self.image.check(image)
        found = self.features(image)
        feature_map = found[0] if isinstance(found, list) else found
        heads = tuple(head(feature_map) for head in self.heads)
        strongest = torch.stack(heads).amax(0)
        return self.pool(feature_map * strongest).flatten(1), feature_map, heads


class DDAMFN(DDAMFNTrunk):
    """The classifier."""

    def __init__(self, num_classes: int, num_heads: int, slim: bool, size: int, backbone: str) -> None:
        super().__init__(num_heads, slim, size, backbone)
        self.fc = nn.Linear(self.channels, num_classes)
        if not slim:
            self.bn = nn.BatchNorm1d(num_classes).requires_grad_(False)

    def forward(self, image: Tensor) -> DDAMFNOutput:
        """Return logits (N, classes), feature, feature map and attention maps for images (N, 3, size, size)."""
        feature, feature_map, heads = self.read(image)
        return DDAMFNOutput(self.fc(feature), feature, feature_map, heads)


def mixed_feature_network(slim: bool) -> nn.Sequential:
    """Return the backbone: (N, 3, 16 h, 16 w) → (N, 512, h, w). Each mixed convolution is given as kernel size → channels."""

    def stage(count: int, channels: int, kernels: Mapping[int, int]) -> nn.Sequential:
        return nn.Sequential(*(MixBlock(channels, channels, kernels, slim, residual=True) for _ in range(count)))

    return nn.Sequential(
        ConvBlock(3, 64, 3, stride=2),
        ConvBlock(64, 64, 3, groups=64),
        MixBlock(64, 64, {3: 64, 5: 32, 7: 32}, slim, stride=2),
        stage(9, 64, {3: 96, 5: 32}),
        MixBlock(64, 128, {3: 128, 5: 64, 7: 64}, slim, stride=2),
        stage(16, 128, {3: 192, 5: 64}),
        MixBlock(128, 256, {3: 256, 5: 256, 7: 256, 9: 256}, slim, stride=2),
        stage(6, 256, {3: 172, 5: 170, 7: 170}),
        ConvBlock(256, CHANNELS, 1),
    )


class ConvBlock(nn.Sequential):
    """Convolution, BatchNorm and, unless `linear`, PReLU with one slope a channel, as in MobileFaceNet."""

    def __init__(
        self, channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.prelu = nn.Identity() if linear else nn.PReLU(channels)


class MixBlock(nn.Module):
    """Widen, convolve with mixed kernels, attend, project; `residual` adds the input."""

    def __init__(
        self, channels_in: int, channels: int, kernels: Mapping[int, int], slim: bool, stride: int = 1, residual: bool = False
    ) -> None:
        super().__init__()
        self.residual = residual
        wide = sum(kernels.values())
        self.widen = ConvBlock(channels_in, wide, 1)
        self.mixed = MixedDepthwise(kernels, stride, slim)
        self.attention = CoordinateMap(wide, max(8, wide // 32))
        self.project = nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, `channels`, ⌈H/`stride`⌉, ⌈W/`stride`⌉) for x (N, `channels_in`, H, W)."""
        y = self.mixed(self.widen(x))
        y = self.project(y * self.attention(y.mean(3, keepdim=True), y.mean(2, keepdim=True)))
        return x + y if self.residual else y


class MixedDepthwise(nn.Module):
    """Depthwise convolutions of several kernel sizes, each on its share of the channels."""

    def __init__(self, kernels: Mapping[int, int], stride: int, slim: bool) -> None:
        super().__init__()
        self.shares: Sequence[int] = list(kernels.values())
        self.convs = nn.ModuleList(
            nn.Conv2d(share, share, kernel, stride, kernel // 2, groups=share, bias=False) for kernel, share in kernels.items()
        )
        if not slim:  # the authors register both and apply neither
            self.bn = nn.BatchNorm2d(sum(self.shares)).requires_grad_(False)
            self.prelu = nn.PReLU(sum(self.shares)).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, ⌈H/stride⌉, ⌈W/stride⌉) for x (N, C, H, W); C is the sum of the shares."""
        return torch.cat([conv(part) for conv, part in zip(self.convs, x.split(self.shares, 1), strict=True)], 1)


class CoordinateMap(nn.Module):
    """Coordinate attention (Hou et al., CVPR 2021): summaries of rows and of columns → a map of gates in (0, 1)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, channels, 1)
        self.conv3 = nn.Conv2d(hidden, channels, 1)

    def forward(self, rows: Tensor, columns: Tensor) -> Tensor:
        """(N, C, H, 1) and (N, C, 1, W) → (N, C, H, W)."""
        y = nn.functional.hardswish(self.bn1(self.conv1(torch.cat([rows, columns.transpose(2, 3)], 2))))
        row, column = y.split([rows.shape[2], columns.shape[3]], 2)
        return self.conv3(column.transpose(2, 3)).sigmoid() * self.conv2(row).sigmoid()


class DirectionAttention(nn.Module):
    """A head: coordinate attention whose summaries of rows and columns are learned."""

    def __init__(self, channels: int, side: int, slim: bool) -> None:
        super().__init__()
        self.rows = depthwise(channels, (1, side))
        self.columns = depthwise(channels, (side, 1))
        self.attention = CoordinateMap(channels, 16)
        if not slim:
            self.unused = depthwise(channels, (side, side)).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the gates (N, 512, h, w), each in (0, 1), for a feature map of that shape."""
        return self.attention(self.rows(x), self.columns(x))

    def places(self, x: Tensor) -> Tensor:
        """Return the gate of each place, the mean over channels, (N, h, w)."""
        return self(x).mean(1)


def depthwise(channels: int, kernel: tuple[int, int]) -> nn.Sequential:
    """Return an unpadded depthwise convolution and BatchNorm: a learned mean over `kernel`."""
    return nn.Sequential(nn.Conv2d(channels, channels, kernel, groups=channels, bias=False), nn.BatchNorm2d(channels))


def ddamfn(num_classes: int = 7, *, num_heads: int = 2, slim: bool = False, size: int = 112, backbone: str = "mfn") -> DDAMFN:
    """Return a DDAMFN; its options are described in `architectures.toml`. ConfigError: unsupported input size or backbone."""
    return DDAMFN(num_classes, num_heads, slim, size, backbone)


def from_author(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' state dict, or that of their MS-Celeb network MFN (a start for the backbone), under our names."""
    return rename(state, (*MFN_RULES, *AUTHOR_RULES) if "conv2_dw.conv.weight" in state else AUTHOR_RULES)


_MFN_CHILDREN = ("conv1", "conv2_dw", "conv_23", "conv_3", "conv_34", "conv_4", "conv_45", "conv_5", "conv_6_sep")
MFN_RULES: tuple[Rule, ...] = (
    *((rf"^{name}\.", f"features.{index}.") for index, name in enumerate(_MFN_CHILDREN)),
    (r"^(?!features\.)", "pretraining."),  # its last layers have no place here
)
AUTHOR_RULES: tuple[Rule, ...] = (
    (r"^features\.(\d)\.model\.", r"features.\1."),
    (r"^(features\.(?:2|3\.\d+|4|5\.\d+|6|7\.\d+))\.conv\.", r"\1.widen."),
    (r"\.conv_dw\.mixed_depthwise_conv\.", ".mixed.convs."),
    (r"\.conv_dw\.", ".mixed."),
    (r"\.CA\.", ".attention."),
    *children(r"\.project\.", ".project.", {"conv": 0, "bn": 1}),
    (r"^cat_head(\d+)\.CoordAtt\.(conv|bn)(\d)\.", r"heads.\1.attention.\2\3."),
    *children(r"^cat_head(\d+)\.CoordAtt\.", r"heads.\1.", {"Linear_h": "rows", "Linear_w": "columns", "Linear": "unused"}),
    (r"^Linear\.", "pool."),
    *children(r"^(heads\.\d+\.(?:rows|columns|unused)|pool)\.", r"\1.", {"conv": 0, "bn": 1}),
)
