"""DDA: Dual-Domain Attention after each stage of a ResNet-34 or ResNet-50.

Paper: none by these authors (according to the README others published the ideas at ICIP 2023); the ancestor is Pham et al.,
"Facial expression recognition using residual masking network", ICPR 2020.
Repository: Harly-1506/Dual-Domain-Attention f5a10f8 (Apache-2.0).

After stage k with output x, block k returns a map m of x's shape, and the stage's output becomes x · (1 + m). A block looks at
x in two domains: a spatial path of strided convolutions, and a context path through its own ResNet-18. m is a softmax over
channels, so its values are near 1/C and x changes little: the maps, not the logits, show whether a block is right.

Parameters at 7 classes: 103,280,871 (ResNet-34) and 202,107,647 (ResNet-50), of which 5,684,896 are dead: every inner ResNet-18
is complete, with stem, early stages and a 1000-way last layer that are never used. `slim=True` omits them.

`backbone="sface"` puts the blocks, with inner ResNets an eighth as wide, on SFace's trunk: 9,125,815 parameters.

Differences from the paper: none known; `gate="sigmoid"` is an experiment of ours whose maps can reach all of (0, 1).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from . import sface
from .info import Input, Rule, children, rename
from .stock import resnet

Gate = Literal["softmax", "sigmoid"]

IMAGE = Input(
    "image", 224, "32 times an odd number (96, 160, 224, 288 …), else the two paths do not meet", lambda side: side % 64 == 32
)
GRAY = Input(
    "image", 80, "16 times an odd number (48, 80, 112 …), else the two paths do not meet", lambda side: side % 32 == 16, 1
)
FULL, NARROW = 64, 8
"""Channels of the first stage of the inner ResNets: those of a ResNet-18, and of one an eighth as wide for SFace's trunk."""


class DDAOutput(NamedTuple):
    """Answer of a DDA network; `maps[k]` is what block k gave, with the shape of stage k's output."""

    logits: Tensor
    feature: Tensor
    maps: tuple[Tensor, ...]


class DDANet(nn.Module):
    """A ResNet whose stages are each followed by a `DualDomainAttention`."""

    def __init__(
        self, backbone: Any, width: int, num_classes: int, dropout: float, gate: Gate, context: bool | str, slim: bool
    ) -> None:
        _check(gate)
        super().__init__()
        self.stem = nn.Sequential(backbone.conv1, backbone.bn1, backbone.act1, backbone.maxpool)
        self.stages = nn.ModuleList([backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4])
        channels = [entry["num_chs"] for entry in backbone.feature_info[1:]]
        self.attention = nn.ModuleList(
            DualDomainAttention(level, each, width, gate, context, slim, FULL) for level, each in enumerate(channels, start=1)
        )
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels[-1], num_classes)
        dead = [(level, part) for level in (1, 2, 3, 4) for part in unused_parts(level)]
        self.dead = tuple(f"attention.{level - 1}.context.resnet.{part}" for level, part in dead)

    def forward(self, image: Tensor) -> DDAOutput:
        """Return logits (N, classes), the pooled feature and the four maps for images (N, 3, H, W)."""
        IMAGE.check(image)
        return _attended(self, self.stem(image), self.stages)


class DDAOnSFace(nn.Module):
    """SFace's trunk; a block with a narrow inner ResNet follows each of the last three stages, the last of 256 channels."""

    CHANNELS = {2: sface.CHANNELS[2], 3: sface.CHANNELS[3], 4: 256}
    """Level of a block, counted as by `DualDomainAttention` and by the trunk's stages → channels of its stage."""
    WIDTH = 64

    def __init__(self, num_classes: int, dropout: float, gate: Gate, attention: bool) -> None:
        super().__init__()
        _check(gate)
        self.trunk = sface.SFace()
        self.neck = sface.Unit(sface.CHANNELS[4], self.CHANNELS[4], 1)
        self.attention = nn.ModuleList(
            DualDomainAttention(level, each, self.WIDTH, gate, False, True, NARROW)
            for level, each in self.CHANNELS.items()
            if attention
        )
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self.CHANNELS[4], num_classes)

    def forward(self, image: Tensor) -> DDAOutput:
        """Return logits (N, classes), the pooled feature and the three maps for gray images (N, 1, H, W)."""
        GRAY.check(image)
        stage = self.trunk.stage
        stages = (lambda x: stage(2, x), lambda x: stage(3, x), lambda x: self.neck(stage(4, x)))
        return _attended(self, stage(1, stage(0, image)), stages)


def _attended(network: Any, x: Tensor, stages: Iterable[Callable[[Tensor], Tensor]]) -> DDAOutput:
    """Return the output for the map before the first of `stages`, each of which is followed by a block, if there are any."""
    maps = []
    for index, stage in enumerate(stages):
        x = stage(x)
        for attend in network.attention[index : index + 1]:
            maps.append(attend(x))
            x = x * (1 + maps[-1])
    feature = x.mean((2, 3))
    return DDAOutput(network.fc(network.dropout(feature)), feature, tuple(maps))


class DualDomainAttention(nn.Module):
    """Block k = `level` of 1 … 4: (N, C, H, W) → a map of the same shape."""

    def __init__(self, level: int, channels: int, width: int, gate: Gate, context: bool | str, slim: bool, base: int) -> None:
        super().__init__()
        self.level, self.gate = level, gate
        deep_channels, shallow_channels = 8 * base, 4 * base  # of the last stage of the inner ResNet and of the one before
        strided = [conv_block(channels if i == 0 else deep_channels, deep_channels, stride=2) for i in range(4 - level)]
        self.spatial = nn.Sequential(*strided)
        self.context = ContextPath(channels, level, context, slim, base)
        self.arm1 = ChannelSoftmax(shallow_channels) if level < 4 else None
        self.arm2 = ChannelSoftmax(deep_channels)
        # Brings side 4 to 7.
        self.raise_deep = None if level == 1 else up_block(deep_channels, deep_channels, kernel=3, padding=1)
        spatial_channels = deep_channels if level < 4 else channels
        self.fuse = DualDomainFusion(spatial_channels + deep_channels + (shallow_channels if level < 4 else 0), channels)
        ups = [up_block(channels if i == 0 else width, width) for i in range(3 - level)]
        ups += [up_block(width if ups else channels, channels)] if level < 4 else []
        self.up = nn.Sequential(*ups)
        self.out = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of x (N, C, h, w), of the same shape, in (0, 1); by a softmax it sums to one over channels."""
        spatial = self.spatial(x)
        shallow, deep = self.context(x)
        deep = self.arm2(deep) * deep.mean((2, 3), keepdim=True)
        if self.raise_deep is not None:
            deep = self.raise_deep(deep)
        context = deep
        if self.arm1 is not None:
            shallow = self.arm1(shallow)
            context = torch.cat([nn.functional.max_pool2d(shallow, 2) if self.level == 1 else shallow, deep], 1)
        scores = self.out(self.up(self.fuse(torch.cat([spatial, context], 1))))
        return scores.softmax(1) if self.gate == "softmax" else scores.sigmoid()

    def places(self, x: Tensor) -> Tensor:
        """Return how much each place of x gains, (N, h, w): the map, weighed by x, over channels; its own mean is 1/C."""
        return (x * self(x)).sum(1) / x.sum(1).clamp(min=1e-6)


class ContextPath(nn.Module):
    """The last stages of a ResNet-18 behind two 3×3 convolutions that map x to the channels of the first stage used."""

    def __init__(self, channels: int, level: int, pretrained: bool | str, slim: bool, base: int) -> None:
        super().__init__()
        middle = base // 2 << level  # The width of stage `level`.
        entry = 64 if level == 1 else middle // 2  # timm's first stage reads 64 channels at every width.
        self.entry = nn.Sequential(conv_block(channels, middle), conv_block(middle, entry))
        widths = {} if base == FULL else {"channels": [base, 2 * base, 4 * base, 8 * base]}
        self.resnet = resnet("resnet18", pretrained, **widths)
        self.stages = [f"layer{i}" for i in range(level, 5)]
        for part in unused_parts(level):
            if slim:
                setattr(self.resnet, part, nn.Identity())
            else:
                getattr(self.resnet, part).requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the last two stages give, (N, 256, H, W) and (N, 512, ⌈H/2⌉, ⌈W/2⌉); in block 4 entry and stage."""
        x = shallow = self.entry(x)
        for stage in self.stages:
            shallow, x = x, getattr(self.resnet, stage)(x)
        return shallow, x


def unused_parts(level: int) -> list[str]:
    """Return the children of block `level`'s ResNet-18 that its context path never runs."""
    return ["conv1", "bn1", *(f"layer{i}" for i in range(1, level)), "fc"]


class ChannelSoftmax(nn.Module):
    """Weigh channels by a softmax of a linear view of their means ("multi-level attention")."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (N, C, h, w), each channel times its weight; the weights of an image sum to one."""
        return x * self.bn(self.conv(x.mean((2, 3), keepdim=True))).softmax(1)


class DualDomainFusion(nn.Module):
    """Mix the concatenated domains down to `channels`, then add a channel-weighed copy."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.mix = conv_block(channels_in, channels)
        self.weigh = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Softmax(1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, `channels`, h, w) for x (N, `channels_in`, h, w)."""
        mixed = self.mix(x)
        return mixed + mixed * self.weigh(mixed.mean((2, 3), keepdim=True))


def _check(gate: str) -> None:
    if gate not in get_args(Gate):
        raise ConfigError(f"gate={gate!r}: DDA's maps are made by one of {', '.join(get_args(Gate))}")


def conv_block(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    """Return 3×3 convolution, BatchNorm, ReLU."""
    conv = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def up_block(channels_in: int, channels: int, kernel: int = 2, padding: int = 0) -> nn.Sequential:
    """Return a transposed convolution of stride 2, BatchNorm, ReLU."""
    conv = nn.ConvTranspose2d(channels_in, channels, kernel, 2, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def dda_resnet34(
    num_classes: int = 7,
    *,
    dropout: float = 0.4,
    gate: Gate = "softmax",
    pretrained: bool | str = False,
    context_pretrained: bool | str = False,
    slim: bool = False,
    backbone: str = "resnet34",
    attention: bool = True,
) -> DDANet | DDAOnSFace:
    """Return a ResNet-34 with DDA, see `architectures.toml`; ConfigError: unknown gate or backbone, or nothing but a ResNet."""
    if backbone == sface.NAME:
        return DDAOnSFace(num_classes, dropout, gate, attention)
    if backbone != "resnet34":
        raise ConfigError(f"backbone={backbone!r}: the backbones of this DDA are resnet34 and sface", value=backbone)
    if not attention:
        raise ConfigError("attention=False: a ResNet-34 without attention is the network resnet34", value=attention)
    return DDANet(resnet("resnet34", pretrained, num_classes=0), 512, num_classes, dropout, gate, context_pretrained, slim)


def dda_resnet50(
    num_classes: int = 7,
    *,
    dropout: float = 0.4,
    gate: Gate = "softmax",
    pretrained: bool | str = False,
    context_pretrained: bool | str = False,
    slim: bool = False,
) -> DDANet:
    """Return a ResNet-50 with DDA; options as in `dda_resnet34`. The authors' VGGFace2 variant has the same shapes."""
    return DDANet(resnet("resnet50", pretrained, num_classes=0), 612, num_classes, dropout, gate, context_pretrained, slim)


def from_author(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' state dict, or a plain ResNet's (ImageNet, VGGFace2: a start for the backbone), under our names."""
    return rename(state, AUTHOR_RULES)


def _one_less(template: str) -> Callable[[re.Match[str]], str]:
    """Count from 0 where the authors count from 1."""
    return lambda match: template.format(int(match[1]) - 1)


AUTHOR_RULES: tuple[Rule, ...] = (
    (r"^fc\.(weight|bias)$", r"pretraining.fc.\1"),  # of a plain ResNet: no place for it here
    *children("^", "", {"fc.1": "fc", "conv1": "stem.0", "bn1": "stem.1"}),
    (r"^layer(\d)\.", _one_less("stages.{}.")),
    (r"^DDA(\d)\.", _one_less("attention.{}.")),
    (r"(?<=^attention\.\d\.)conv(\d)\.", _one_less("spatial.{}.")),
    (r"(spatial\.\d|ffm\.conv_block)\.conv1\.", r"\1.0."),
    (r"(spatial\.\d|ffm\.conv_block)\.batch_norm\.", r"\1.1."),
    (r"\.ffm\.conv_block\.", ".fuse.mix."),
    *children(r"\.ffm\.", ".fuse.weigh.", {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4}),
    *children(r"\.layers\.", ".context.entry.", {"conv": "0.0", "bn": "0.1", "conv2": "1.0", "bn2": "1.1"}),
    (r"\.layers\.", ".context.resnet."),
    (r"^attention\.3\.arm1\.", "attention.3.arm2."),
    (r"\.(?:up_arm2|up1)\.upout\.", ".raise_deep."),
    (r"\.up2\.uplayers\.", ".up."),
    (r"^attention\.(\d)\.up2\.upout\.", lambda match: f"attention.{match[1]}.up.{2 - int(match[1])}."),
    (r"\.outconv\.", ".out.0."),
    (r"^(attention\.\d)\.bn\.", r"\1.out.1."),
)
