"""SFace: the trunk of a face recognition network, MobileNetV1 with PReLU, as a start for recognizing expressions.

Input: (N, 1, H, W); the published one reads aligned RGB faces of 112 × 112, sides from 48 up work. Output: (N, 1024), the mean
of the last map, whose side is a sixteenth of the input's.

Source: `face_recognition_sface_2021dec` in opencv/opencv_zoo (Apache-2.0), after Zhong et al., "SFace: Sigmoid-constrained
hypersphere loss for robust face recognition", TIP 2021; MobileNetV1: Howard et al., arXiv 1704.04861. Unlike there the stem has
stride 1, since faces are small. `mien-base` is this trunk under two heads: `mien_base(trunk="sface")`; the published systems
use it with `backbone="sface"`, through `Extractor`.
"""

import dataclasses
import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from ..errors import ConfigError
from .info import at_least

# Channels after the stem and after each depthwise-separable block.
WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
HALVED = (2, 4, 6, 12)  # blocks, counted as in `WIDTHS`, whose depthwise convolution has stride 2
NAME = "sface"  # `backbone` of the systems on this trunk
GRAY = dataclasses.replace(at_least(32, size=64), channels=1)
# Layers of each of the five stages; a stage begins with stride 2, except for the first.
STAGES = tuple(
    range(2 * first - 1 if first else 0, 2 * last - 1) for first, last in itertools.pairwise((0, *HALVED, len(WIDTHS)))
)
CHANNELS = tuple(WIDTHS[stage[-1] // 2] for stage in STAGES)  # channels after each stage: 64, 128, 256, 512, 1024


class Unit(nn.Sequential):
    """Convolution, BatchNorm and PReLU with a slope for each channel, or LeakyReLU with a fixed slope."""

    def __init__(
        self, channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, slope: float | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=1e-3)
        self.act = nn.PReLU(channels) if slope is None else nn.LeakyReLU(slope) if slope else nn.ReLU()


class SFace(nn.Sequential):
    """The trunk; `slopes` are of LeakyReLU in its 27 layers, 0 for ReLU, instead of PReLU; ConfigError for another number."""

    num_features = WIDTHS[-1]

    def __init__(self, slopes: Sequence[float] = ()) -> None:
        layers = 2 * len(WIDTHS) - 1
        if len(slopes) not in (0, layers):
            raise ConfigError(f"slopes must be {layers} numbers, not {len(slopes)}", value=tuple(slopes), expected=layers)
        slope = iter(slopes or [None] * layers)
        units = [Unit(1, WIDTHS[0], 3, slope=next(slope))]
        for index in range(1, len(WIDTHS)):
            wide = WIDTHS[index - 1]
            units.append(Unit(wide, wide, 3, 2 if index in HALVED else 1, wide, next(slope)))
            units.append(Unit(wide, WIDTHS[index], 1, slope=next(slope)))
        super().__init__(*units)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  The base class names it so.
        """Return features (N, 1024) of images (N, 1, H, W)."""
        return super().forward(input).mean((2, 3))

    def stage(self, number: int, x: Tensor) -> Tensor:
        """Return the map after stage `number`, 0 … 4, for the map of the stage before, or images (N, 1, H, W)."""
        for layer in STAGES[number]:
            x = self[layer](x)
        return x

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the map after each of the five stages, with `CHANNELS`, for images (N, 1, H, W)."""
        return [x := self.stage(number, x) for number in range(len(STAGES))]


class Extractor(nn.Module):
    """The trunk as a feature extractor in timm's form: images (N, 1, H, W) → [(N, `channels`, h, w)], h = ⌈H/16⌉."""

    def __init__(self, channels: int = CHANNELS[-1]) -> None:
        super().__init__()
        self.trunk = SFace()
        self.neck = nn.Identity() if channels == CHANNELS[-1] else Unit(CHANNELS[-1], channels, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the last map, with `channels` channels, in a list."""
        return [self.neck(self.trunk.maps(image)[-1])]
