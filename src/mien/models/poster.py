"""POSTER++ (POSTER V2): features of a face recognition network, queried by features of a landmark network at three scales.

Paper: Mao et al., "POSTER++: a simpler and stronger facial expression recognition network", arXiv 2301.12149. Repository:
Talented-Q/POSTER_V2 18de559 (MIT).

An IR-50 without its last stage gives image features of 1/8, 1/16 and 1/32 of the input size, a frozen MobileFaceNet landmark
features of the same sizes. At each scale, the landmark features are the queries of an attention over the image features.
The three results, 49 tokens each, are the input of a Vision Transformer with two blocks.

Parameters at 7 classes: 43,753,941, of which 911,232 are frozen. The authors' network has another 14,562,653 that no output
depends on; they are not built, and ignored in checkpoints.

Oddities of the authors' code, all kept: both trunks see every second pixel of the image only. Each map is a single window, so
that the "window attention" is global. The residual is the normalized map, and queries are neither projected nor normalized.
The landmark network was trained on pixels in 0 … 1 in another channel order.

Differences from the authors' code: BatchNorm of the frozen landmark network uses its running statistics unless
`landmark_statistics="live"`; trunk weights are loaded completely or not at all; other input sizes.

`backbone="sface"` is a variant with one trunk, SFace's, for gray images of 64 pixels: its last three maps, projected twice, are
the image features and their queries, since no pretrained landmark network is available under a free license.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from timm.layers.drop import DropPath
from timm.layers.mlp import Mlp
from timm.layers.weight_init import trunc_normal_
from torch import Tensor, nn

from ..errors import ConfigError, WeightsError
from . import sface
from .ddamfn import ConvBlock
from .info import Input, Rule, children, rename

CHANNELS = (64, 128, 256)
HEAD = 32  # channels of an attention head at every scale
HEADS = 8  # of the transformer
DROP_PATH = (0.0, 0.125, 0.25)

IMAGE = Input("image", 224, "multiples of 32", lambda side: side >= 32 and side % 32 == 0)


class POSTEROutput(NamedTuple):
    """Output of POSTER++.

    `logits` (N, classes); `feature` (N, width), the gated class token that the last layer reads; `pooled` (N, width), the same
    before the gate; `landmarks` and `windows`, queries (N, C, w, w) and normalized image features (N, w², C) of each scale;
    `fused` (N, w, w, C), their attention; `tokens` (N, 147, width) and `tokens_out` (N, 148, width), input and output of
    the transformer. C = 64, 128, 256 and w = 28, 14, 7 for images of 224 pixels; the authors' width is 768.
    """

    logits: Tensor
    feature: Tensor
    pooled: Tensor
    landmarks: tuple[Tensor, ...]
    windows: tuple[Tensor, ...]
    fused: tuple[Tensor, ...]
    tokens: Tensor
    tokens_out: Tensor


class POSTER(nn.Module):
    """Two trunks, an attention at each of three scales, and a transformer over all tokens."""

    trunk: Any  # `IR50`; `SFace` in the variant

    def __init__(
        self, num_classes: int, size: int, width: int, landmark_statistics: Literal["frozen", "live"], antialias: bool
    ) -> None:
        super().__init__()
        self.size, self.landmark_statistics, self.antialias = size, landmark_statistics, antialias
        self.image = IMAGE
        self._build_trunks()
        scales = enumerate(zip(CHANNELS, DROP_PATH, strict=True))
        self.scales = nn.ModuleList(Scale(channels, size // (8 << index), drop) for index, (channels, drop) in scales)
        first, second, third = CHANNELS
        twice = nn.Sequential(_halving(first, width), _halving(width, width))
        self.embeddings = nn.ModuleList((twice, _halving(second, width), nn.Conv2d(third, width, 1)))
        self.transformer = Transformer(3 * (size // 32) ** 2, width)
        self.gate = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.Sigmoid())
        self.fc = nn.Linear(width, num_classes)
        for part in (self.gate, self.fc):
            part.apply(_initialize)

    def _build_trunks(self) -> None:
        self.landmark_trunk = MobileFaceNet().requires_grad_(False)
        self.landmark_conv = nn.Conv2d(512, 256, 3, padding=1)
        self.trunk = IR50()

    def read(self, image: Tensor) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """Return landmark features (N, C, w, w) and image features (N, C, 2w, 2w) of three scales."""
        half = nn.functional.avg_pool2d(image, 2) if self.antialias else image[:, :, ::2, ::2]
        first, second, third = self.landmark_trunk(half)
        return (first, second, self.landmark_conv(third)), self.trunk(half)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the landmark network stays in evaluation mode if its statistics are frozen."""
        super().train(mode)
        if self.landmark_statistics == "frozen":
            self.landmark_trunk.eval()
        return self

    def forward(self, image: Tensor) -> POSTEROutput:
        """Return logits, feature and intermediate results for images (N, 3, size, size)."""
        self.image.check(image)
        if image.shape[2] != self.size or image.shape[3] != self.size:
            raise ValueError(f"image: height and width must be {self.size}, got {image.shape[2]} and {image.shape[3]}")
        landmarks, maps = self.read(image)
        scaled = [scale(image_map, query) for scale, image_map, query in zip(self.scales, maps, landmarks, strict=True)]
        windows, fused = zip(*scaled, strict=True)
        embedded = [embed(each.permute(0, 3, 1, 2)) for embed, each in zip(self.embeddings, fused, strict=True)]
        tokens = torch.cat([each.flatten(2).transpose(1, 2) for each in embedded], 1)
        tokens_out, pooled = self.transformer(tokens)
        feature = pooled * self.gate(pooled)
        return POSTEROutput(self.fc(feature), feature, pooled, landmarks, windows, fused, tokens, tokens_out)


class OnSFace(POSTER):
    """The variant on SFace's trunk, which reads every pixel of gray images."""

    def __init__(self, num_classes: int, size: int, width: int) -> None:
        super().__init__(num_classes, size, width, "live", False)
        self.image = dataclasses.replace(IMAGE, channels=1, size=64)

    def _build_trunks(self) -> None:
        self.trunk = sface.SFace()
        pairs = tuple(zip(sface.CHANNELS[2:], CHANNELS, strict=True))
        self.necks = nn.ModuleList(sface.Unit(wide, channels, 1) for wide, channels in pairs)
        self.queries = nn.ModuleList(sface.Unit(wide, channels, 1, 2) for wide, channels in pairs)

    def read(self, image: Tensor) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """Return queries (N, C, w, w) and features (N, C, 2w, 2w) of three scales, from the same maps."""
        found = self.trunk.maps(image)[2:]
        queries = tuple(query(each) for query, each in zip(self.queries, found, strict=True))
        return queries, [neck(each) for neck, each in zip(self.necks, found, strict=True)]


class Scale(nn.Module):
    """Attention of landmark features over image features at one scale."""

    def __init__(self, channels: int, window: int, drop_path: float) -> None:
        super().__init__()
        self.conv = _halving(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.attention = QueriedAttention(channels, window)
        self.gamma1, self.gamma2 = (nn.Parameter(torch.full((channels,), 1e-5)) for _ in range(2))
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, 4 * channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, image_map: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalized features (N, w², C) and their attention (N, w, w, C) for maps (N, C, 2w, 2w) and (N, C, w, w)."""
        x = self.norm(self.conv(image_map).permute(0, 2, 3, 1))
        window = x.flatten(1, 2)
        queried = self.attention(window, landmarks.flatten(2).transpose(1, 2)).view_as(x)
        x = x + self.drop_path(self.gamma1 * queried)
        return window, x + self.drop_path(self.gamma2 * self.mlp(self.mlp_norm(x)))


class QueriedAttention(nn.Module):
    """Multi-head attention with given queries and a relative position bias."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.num_heads = channels // HEAD
        self.key_value = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        self.bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, self.num_heads))
        trunc_normal_(self.bias_table, std=0.02)
        self.window = window

    def forward(self, x: Tensor, query: Tensor) -> Tensor:
        """Return (N, w², C) for image features and queries of that shape."""
        n, places, channels = x.shape
        keys, values = self.key_value(x).view(n, places, 2, self.num_heads, HEAD).permute(2, 0, 3, 1, 4)
        query = query.reshape(n, places, self.num_heads, HEAD).transpose(1, 2) * HEAD**-0.5
        scores = query @ keys.transpose(2, 3) + self.bias()
        return self.proj((scores.softmax(3) @ values).transpose(1, 2).reshape(n, places, channels))

    def bias(self) -> Tensor:
        """Return the position bias of every query and key, (heads, w², w²)."""
        side = torch.arange(self.window, device=self.bias_table.device)
        offset = side[:, None] - side + self.window - 1
        rows, columns = offset[:, None, :, None], offset[None, :, None, :]
        index = (rows * (2 * self.window - 1) + columns).reshape(self.window**2, self.window**2)
        return self.bias_table[index].permute(2, 0, 1)


class Transformer(nn.Module):
    """A class token and two ViT blocks over (N, tokens, width)."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens + 1, width))
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.apply(_initialize)
        for parameter in (self.cls_token, self.pos_embed):
            trunc_normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens after the second block (N, tokens + 1, width) and the normalized class token (N, width)."""
        x = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], 1) + self.pos_embed
        x = self.blocks(x)
        return x, self.norm(x)[:, 0]


class Block(nn.Module):
    """Self-attention with 8 heads and a feed-forward network, each with a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, tokens, width) for that shape."""
        n, places, width = x.shape
        query, key, value = self.qkv(self.norm1(x)).view(n, places, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(2, 3) * (width // HEADS) ** -0.5
        x = x + self.proj((scores.softmax(3) @ value).transpose(1, 2).reshape(n, places, width))
        return x + self.mlp(self.norm2(x))


class IR50(nn.Module):
    """The first three stages of an IR-50 (ArcFace): (N, 3, H, W) → maps of 1/2, 1/4 and 1/8, 64, 128 and 256 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        inputs = (64, *CHANNELS)
        self.stages = nn.ModuleList(
            nn.Sequential(*(IRUnit(inputs[i] if not j else c, c, 1 if j else 2) for j in range(depth)))
            for i, (c, depth) in enumerate(zip(CHANNELS, (3, 4, 14), strict=True))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the map of each stage."""
        x = self.stem(x)
        return [x := stage(x) for stage in self.stages]


class IRUnit(nn.Module):
    """Residual unit with BatchNorm first and no activation after the sum."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.shortcut = None
        if channels_in != channels:
            conv = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(channels))
        self.residual = nn.Sequential(
            nn.BatchNorm2d(channels_in),
            nn.Conv2d(channels_in, channels, 3, padding=1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, `channels`, H / stride, W / stride) for (N, `channels_in`, H, W)."""
        shortcut = x[:, :, :: self.stride, :: self.stride] if self.shortcut is None else self.shortcut(x)
        return self.residual(x) + shortcut


class MobileFaceNet(nn.Module):
    """The landmark network up to its feature maps: (N, 3, H, W) → 1/4, 1/8 and 1/16, of 64, 128 and 512 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = nn.Sequential(
            ConvBlock(3, 64, 3, 2),
            ConvBlock(64, 64, 3, groups=64),
            Bottleneck(64, 64, 128, 2),
            *(Bottleneck(64, 64, 128) for _ in range(4)),
        )
        self.stage2 = nn.Sequential(Bottleneck(64, 128, 256, 2), *(Bottleneck(128, 128, 256) for _ in range(6)))
        self.stage3 = nn.Sequential(
            Bottleneck(128, 128, 512, 2), *(Bottleneck(128, 128, 256) for _ in range(2)), ConvBlock(128, 512, 1)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the map of each stage."""
        first = self.stage1(x)
        second = self.stage2(first)
        return first, second, self.stage3(second)


class Bottleneck(nn.Module):
    """Inverted bottleneck, with a residual if it keeps the size."""

    def __init__(self, channels_in: int, channels: int, inner: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = stride == 1
        self.conv = ConvBlock(channels_in, inner, 1)
        self.conv_dw = ConvBlock(inner, inner, 3, stride, inner)
        self.project = ConvBlock(inner, channels, 1, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, `channels`, H / stride, W / stride) for (N, `channels_in`, H, W)."""
        out = self.project(self.conv_dw(self.conv(x)))
        return out + x if self.residual else out


def _halving(channels_in: int, channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, 3, 2, 1)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def poster(
    num_classes: int = 7,
    *,
    size: int = 224,
    width: int = 768,
    landmark_statistics: Literal["frozen", "live"] = "frozen",
    antialias: bool = False,
    pretrained_trunk: str = "",
    pretrained_landmarks: str = "",
    backbone: str = "ir50",
) -> POSTER:
    """Return a POSTER++, see `architectures.toml`; ConfigError, WeightsError: invalid size, width, backbone or weights."""
    if not IMAGE.fits(size):
        raise ConfigError(f"size must be a multiple of 32, got {size}", value=size)
    if width < HEADS or width % HEADS:
        raise ConfigError(f"width must be a positive multiple of {HEADS}, got {width}", value=width)
    if backbone == sface.NAME:
        return OnSFace(num_classes, size, width)
    if backbone != "ir50":
        raise ConfigError(f"backbone={backbone!r}: the backbones of POSTER++ are ir50 and sface", value=backbone)
    network = POSTER(num_classes, size, width, landmark_statistics, antialias)
    for part, file in (("ir_back", pretrained_trunk), ("face_landback", pretrained_landmarks)):
        if file:
            _load_trunk(network, part, file)
    return network


def _load_trunk(network: POSTER, part: str, file: str) -> None:
    """Set the weights of a trunk. The authors skip entries that do not match, which can leave a trunk random unnoticed."""
    from .checkpoints import read_checkpoint
    from .checkpoints.loading import assign

    state = read_checkpoint(Path(file)).state
    found = from_author({f"{part}.{name}": tensor for name, tensor in state.items()})
    ours = network.state_dict()
    prefix = "trunk." if part == "ir_back" else "landmark_trunk."
    wanted = [name for name in ours if name.startswith(prefix) and not name.endswith(".num_batches_tracked")]
    missing = tuple(name for name in wanted if name not in found or found[name].shape != ours[name].shape)
    if missing:
        lack = f"{len(missing)} of {len(wanted)} entries of the trunk, first {missing[0]}"
        raise WeightsError(f"{file} lacks {lack}; get the file that the authors name", path=file, expected=missing)
    assign(network, {name: found[name] for name in wanted})


def from_author(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' state dict under our names; entries that no output depends on get the prefix `pretraining.`."""
    return rename(state, AUTHOR_RULES)


_UNUSED = (
    r"ir_back\.output_layer|face_landback\.output_layer|VIT\.(patch_embed|CON1|IRLinear[12]|eca_block|blocks\.\d\.conv)|"
    r"attn\d\.relative_position_index"
)
AUTHOR_RULES: tuple[Rule, ...] = (
    (rf"^(?=({_UNUSED}))", "pretraining."),
    (r"^last_face_conv\.", "landmark_conv."),
    (r"^ir_back\.input_layer\.", "trunk.stem."),
    (r"^ir_back\.body(\d)\.", lambda match: f"trunk.stages.{int(match[1]) - 1}."),
    *children(r"^(trunk\..*)\.", r"\1.", {"res_layer": "residual", "shortcut_layer": "shortcut"}),
    *children(r"^face_landback\.", "landmark_trunk.stage1.", {"conv1": 0, "conv2_dw": 1, "conv_23": 2}),
    *children(r"^face_landback\.", "landmark_trunk.", {"conv_34": "stage2.0", "conv_45": "stage3.0", "conv_6_sep": "stage3.3"}),
    (r"^face_landback\.conv_3\.model\.(\d)\.", lambda match: f"landmark_trunk.stage1.{int(match[1]) + 3}."),
    (r"^face_landback\.conv_4\.model\.(\d)\.", lambda match: f"landmark_trunk.stage2.{int(match[1]) + 1}."),
    (r"^face_landback\.conv_5\.model\.(\d)\.", lambda match: f"landmark_trunk.stage3.{int(match[1]) + 1}."),
    (r"^(conv|window|attn|ffn)([123])\.", lambda match: f"scales.{int(match[2]) - 1}.{match[1]}."),
    (r"^(scales\.\d)\.window\.norm\.", r"\1.norm."),
    (r"^(scales\.\d)\.attn\.relative_position_bias_table", r"\1.attention.bias_table"),
    (r"^(scales\.\d)\.attn\.qkv\.", r"\1.attention.key_value."),
    (r"^(scales\.\d)\.attn\.", r"\1.attention."),
    (r"^(scales\.\d)\.ffn\.norm\.", r"\1.mlp_norm."),
    (r"^(scales\.\d)\.ffn\.", r"\1."),
    *children("^", "embeddings.", {"embed_q": 0, "embed_k.0": 1, "embed_v.proj": 2}),
    *children(r"^VIT\.", "", {"se_block.linear1": "gate.0", "se_block.linear2": "gate.2", "head.linear": "fc"}),
    (r"^VIT\.(blocks\.\d)\.attn\.", r"transformer.\1."),
    (r"^VIT\.", "transformer."),
)
