"""MFER: a ConvNeXt with attention after its last two stages, read by three heads that see nested shares of its features.

Paper: IEEE Transactions on Affective Computing 16(2):683-696, 2025, doi 10.1109/TAFFC.2024.3458464 (its abstract and figures
were read). Repository: XuJ1E/MFER 6d041d5 (MIT).

The prediction is the sum of the three heads' logits. Parameters at 7 classes: 155,357,013 on ConvNeXt-Base, 64.2 million of
them in the two dense 7×7 convolutions of the attention. None are dead.

Differences from the paper: figure and code disagree, and the default is the code. `form="figure"` gives the figure's attention
(normalized before GELU, no residual) and its heads, of which head i receives the first and the (i+2)th quarter of the features
instead of the first i+2 quarters. The loss that the paper adds was never published; `mien.losses` has a reconstruction.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import torch
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from ..errors import ConfigError
from . import sface
from .info import Input, Rule, at_least, rename
from .stock import timm_model

Form = Literal["code", "figure"]

IMAGE = at_least(32)


class MFEROutput(NamedTuple):
    """Output of MFER; `logits` is the sum of `heads`, each (N, classes)."""

    logits: Tensor
    feature: Tensor
    heads: tuple[Tensor, ...]


class MFER(nn.Module):
    """A backbone that ends in attention, and three heads."""

    def __init__(self, backbone: Any, form: Form, num_classes: int, image: Input = IMAGE) -> None:
        super().__init__()
        self.form, self.image, self.backbone = form, image, backbone
        quarter = self.backbone.num_features // 4
        widths = [quarter * (i + 2 if form == "code" else 2) for i in range(3)]
        self.heads = nn.ModuleList(Mlp(width, width, num_classes) for width in widths)

    def forward(self, image: Tensor) -> MFEROutput:
        """Return logits (N, classes), the feature (N, channels) and the heads' logits for images (N, 3, H, W)."""
        self.image.check(image)
        feature = self.backbone(image)
        quarters = feature.chunk(4, 1)
        shares = [quarters[: i + 2] if self.form == "code" else (quarters[0], quarters[i + 1]) for i in range(3)]
        heads = tuple(head(torch.cat(share, 1)) for head, share in zip(self.heads, shares, strict=True))
        return MFEROutput(heads[0] + heads[1] + heads[2], feature, heads)


def convnext(name: str, form: Form, drop_path: float, pretrained: bool | str) -> Any:
    """Return timm's ConvNeXt `name` with attention at the end of stages 3 and 4, without a last layer."""
    network = timm_model(name, pretrained, num_classes=0, drop_path_rate=drop_path)
    for stage, description in list(zip(network.stages, network.feature_info, strict=True))[2:]:
        stage.blocks.append(DSAttention(description["num_chs"], form))
    return network


class OnSFace(nn.Module):
    """SFace's trunk with attention on its last map, narrowed since the attention has a dense 7×7 convolution."""

    num_features = 256

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.features = sface.Extractor(self.num_features)
        self.attention = DSAttention(self.num_features, form)
        self.norm = nn.LayerNorm(self.num_features, eps=1e-6)

    def forward(self, image: Tensor) -> Tensor:
        """Return the normalized, pooled channels (N, 256) of images (N, 1, H, W)."""
        (x,) = self.features(image)
        return self.norm(self.attention(x).mean((2, 3)))


class DSAttention(nn.Module):
    """Attention over all locations, for each channel: (N, C, h, w) → the same shape."""

    def __init__(self, channels: int, form: Form) -> None:
        super().__init__()
        self.form = form
        self.query = nn.Conv2d(channels, channels, 7, padding=3)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.key = nn.Sequential(nn.Linear(channels, channels // 8), nn.GELU(), nn.Linear(channels // 8, channels))
        self.value = nn.Linear(channels, channels)
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, h, w) for a map of that shape."""
        weights, x = self.weights(x), x.permute(0, 2, 3, 1)
        weighted = weights * self.value(x)
        return (weighted + x if self.form == "code" else weighted).permute(0, 3, 1, 2)

    def weights(self, x: Tensor) -> Tensor:
        """Return weights (N, h, w, C) that sum to one over all locations, for x (N, C, h, w)."""
        query, x = self.query(x).permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)
        query = self.norm(nn.functional.gelu(query)) if self.form == "code" else nn.functional.gelu(self.norm(query))
        scores = query + self.key(x) * x
        return scores.flatten(1, 2).softmax(1).view_as(scores)

    def places(self, x: Tensor) -> Tensor:
        """Return the weight of each location, averaged over channels, (N, h, w)."""
        return self.weights(x).mean(3)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def mfer(
    num_classes: int = 7,
    *,
    backbone: str = "convnext_base",
    form: Form = "code",
    drop_path: float = 0.25,
    pretrained: bool | str = False,
) -> MFER:
    """Return an MFER; its options are described in `architectures.toml`. ConfigError: unknown form or backbone."""
    if form not in get_args(Form):
        raise ConfigError(f"form={form!r}: MFER has the forms {', '.join(get_args(Form))}")
    if backbone == sface.NAME:
        return MFER(OnSFace(form), form, num_classes, sface.GRAY)
    if not backbone.startswith("convnext"):
        known = "ConvNeXt (convnext_tiny, convnext_base …) and sface"
        raise ConfigError(f"backbone={backbone!r}: the backbones of MFER are {known}")
    return MFER(convnext(backbone, form, drop_path, pretrained), form, num_classes)


def from_author(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' state dict, or a ConvNeXt's (a start), renamed; the heads may be under `msc.` or `Msc.msc.`."""
    return rename(state, AUTHOR_RULES)


AUTHOR_RULES: tuple[Rule, ...] = (
    (r"^(?:Msc\.)?msc\.", "heads."),
    (r"^head\.", "pretraining.head."),
    (r"^(?=downsample_layers\.|stages\.|norm\.)", "backbone."),
    (r"^backbone\.norm\.", "backbone.head.norm."),
    (r"^backbone\.downsample_layers\.0\.", "backbone.stem."),
    (r"^backbone\.downsample_layers\.(\d)\.", r"backbone.stages.\1.downsample."),
    (r"^backbone\.stages\.(\d)\.(\d+)\.", r"backbone.stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv(\d)\.", r".mlp.fc\1."),
    (r"\.attn\.", ".query."),
)
