"""Global-ROI Net (a face and its eyes, nose and mouth) and Global Net (the face alone), and the fusion of both.

Paper: none named by the repository. Repository: tzu-tsen/code 40440b5 (no license: only formulas and constants were used).

The Global-ROI Net runs a ResNet-18 with CBAM (Woo et al., "CBAM: convolutional block attention module", ECCV 2018) in every
block over the face, and one shared trunk with two transformer blocks over the three 90-pixel crops. All three of its outputs
(face alone, crops alone, both) go through the same linear layer and the same BatchNorm. The Global Net is a ResNet-18 with one
CBAM at its end. `mien fuse` mixes both nets' logits; a face without crops keeps the Global Net's.

Parameters at 7 classes: 24,222,509 and 11,213,529. Neither has dead ones.

Differences from the paper: none known. In training the BatchNorm statistics move three times a step, in the order face, crops,
both, as in the authors' code. `cbam=False` gives the authors' unused variant without CBAM.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from timm.layers.activations import QuickGELU
from torch import Tensor, nn

from ..errors import ConfigError
from . import sface
from .info import RESNET_CHILDREN, Input, Rule, at_least, children, rename
from .stock import Classified, resnet

IMAGE = at_least(32)
CROPS = tuple(at_least(16, name, 90) for name in ("eye", "nose", "mouth"))
INPUTS = {"global-roi": (IMAGE, *CROPS)}


class GlobalROIOutput(NamedTuple):
    """Answer of the Global-ROI Net: `logits` of face and crops together, then of each alone."""

    logits: Tensor
    whole_logits: Tensor
    roi_logits: Tensor
    feature: Tensor


class GlobalROINet(nn.Module):
    """Four images of one face → three outputs that share their last two layers."""

    def __init__(self, num_classes: int, num_heads: int, cbam: bool) -> None:
        super().__init__()
        options: dict[str, Any] = {"block_args": {"attn_layer": lambda channels, **_: CBAM(channels)}} if cbam else {}
        self.features_whole = resnet("resnet18", features_only=True, out_indices=(4,), **options)
        trunk = resnet("resnet18", num_classes=0)
        added = {"transformer2": TransformerBlock(128, num_heads), "transformer3": TransformerBlock(256, num_heads)}
        parts = {name: added[name] if name in added else getattr(trunk, name) for name in TRUNK_CHILDREN}
        self.features = nn.Sequential(OrderedDict(parts))
        self.fc_roi = nn.Linear(3 * 512, 512)
        self.bn_roi = nn.BatchNorm1d(512)
        self.fc = nn.Linear(512, num_classes)
        self.bn = nn.BatchNorm1d(num_classes)

    def forward(self, image: Tensor, eye: Tensor, nose: Tensor, mouth: Tensor) -> GlobalROIOutput:
        """Return three logits (N, classes) and the feature (N, 512) for four batches of images."""
        IMAGE.check(image)
        for rule, crop in zip(CROPS, (eye, nose, mouth), strict=True):
            rule.check(crop)
        whole = self.features_whole(image)[0].mean((2, 3))
        crops = torch.cat([self.features(crop).amax((2, 3)) for crop in (eye, nose, mouth)], 1)
        return _outputs(self, whole, crops, (self.bn, self.bn, self.bn))


class GlobalROIOnSFace(nn.Module):
    """The same on one trunk of SFace, inside which a transformer block, which adds zero at first, runs over the crops alone."""

    ATTENTIVE = 2  # stage of the trunk, 256 channels wide, that the transformer block follows

    def __init__(self, num_classes: int, num_heads: int) -> None:
        super().__init__()
        self.trunk, channels = sface.SFace(), sface.CHANNELS[-1]
        self.transformer = TransformerBlock(sface.CHANNELS[self.ATTENTIVE], num_heads)
        for parameter in (*self.transformer.project.parameters(), *self.transformer.mlp[-1].parameters()):
            nn.init.zeros_(parameter)
        self.fc_roi = nn.Linear(3 * channels, channels)
        self.bn_roi = nn.BatchNorm1d(channels)
        self.fc = nn.Linear(channels, num_classes)
        self.bn, self.bn_whole, self.bn_crops = (nn.BatchNorm1d(num_classes) for _ in range(3))

    def forward(self, image: Tensor, eye: Tensor, nose: Tensor, mouth: Tensor) -> GlobalROIOutput:
        """Return three logits (N, classes) and the feature (N, 1024) for four batches of gray images (N, 1, H, W)."""
        sface.GRAY.check(image)
        for rule, crop in zip(CROPS, (eye, nose, mouth), strict=True):
            dataclasses.replace(rule, channels=1).check(crop)
        whole = self.trunk(image)
        crops = torch.cat([self._crop(crop).amax((2, 3)) for crop in (eye, nose, mouth)], 1)
        return _outputs(self, whole, crops, (self.bn_whole, self.bn_crops, self.bn))

    def _crop(self, x: Tensor) -> Tensor:
        for stage in range(len(sface.STAGES)):
            x = self.trunk.stage(stage, x)
            if stage == self.ATTENTIVE:
                x = self.transformer(x)
        return x


def _outputs(network: Any, whole: Tensor, crops: Tensor, norms: tuple[nn.Module, ...]) -> GlobalROIOutput:
    """Return the outputs for the features of the face and those of its crops side by side; `norms` are of face, crops, both."""
    roi = network.bn_roi(network.fc_roi(crops.relu()))
    feature = (whole + roi).relu()
    # One after the other, not as one batch: in training each takes its own statistics.
    whole_logits, roi_logits, logits = (norm(network.fc(each)) for norm, each in zip(norms, (whole, roi, feature), strict=True))
    return GlobalROIOutput(logits, whole_logits, roi_logits, feature)


class GlobalNet(nn.Module):
    """ResNet-18, one CBAM, pooling, linear, BatchNorm."""

    def __init__(self, features: nn.Module, channels: int, num_classes: int, image: Input = IMAGE) -> None:
        super().__init__()
        self.image, self.features = image, features
        self.cbam = CBAM(channels)
        self.fc = nn.Linear(channels, num_classes)
        self.bn = nn.BatchNorm1d(num_classes)

    def forward(self, image: Tensor) -> Classified:
        """Return logits (N, classes) and the feature (N, 512) for images (N, 3, H, W)."""
        self.image.check(image)
        feature = self.cbam(self.features(image)[0]).mean((2, 3))
        return Classified(self.bn(self.fc(feature)), feature)


class CBAM(nn.Module):
    """Gate channels, then places, each from mean and maximum."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = channels // reduction
        self.channel = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels))
        self.spatial = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1, momentum=0.01), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Return x (N, C, h, w) with its channels, then its places gated."""
        x = self.channels(x)
        return x * self.gates(x)

    def channels(self, x: Tensor) -> Tensor:
        """Return x (N, C, h, w) with its channels gated."""
        gate = (self.channel(x.mean((2, 3))) + self.channel(x.amax((2, 3)))).sigmoid()
        return x * gate[:, :, None, None]

    def gates(self, x: Tensor) -> Tensor:
        """Return the gate of each place, (N, 1, h, w), in (0, 1)."""
        return self.spatial(torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], 1))

    def places(self, x: Tensor) -> Tensor:
        """Return the gate of each place, (N, h, w), in (0, 1)."""
        return self.gates(self.channels(x))[:, 0]


class TransformerBlock(nn.Module):
    """Self-attention between all places of a map, then an MLP, each added to its input; no position code."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.ln1, self.ln2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.query, self.key, self.value = (nn.Linear(channels, channels) for _ in range(3))
        self.project = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), QuickGELU(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the shape of x, (N, C, h, w)."""
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attend(self.ln1(tokens))
        tokens = tokens + self.mlp(self.ln2(tokens))
        return tokens.transpose(1, 2).reshape(x.shape)

    def attend(self, tokens: Tensor) -> Tensor:
        """Return what each token (N, places, C) takes over from all others, in the same shape."""
        query, key, value = (
            layer(tokens).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        return self.project(nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


def global_roi(
    num_classes: int = 7, *, num_heads: int = 8, cbam: bool = True, backbone: str = "resnet18"
) -> GlobalROINet | GlobalROIOnSFace:
    """Return a Global-ROI Net; its options are described in `architectures.toml`. ConfigError: unknown backbone, or heads."""
    if num_heads < 1 or 128 % num_heads:
        raise ConfigError(f"num_heads={num_heads}: 128 channels are dealt to 1, 2, 4, 8, 16, 32, 64 or 128 heads")
    if backbone == sface.NAME:
        return GlobalROIOnSFace(num_classes, num_heads)
    if backbone != "resnet18":
        raise ConfigError(f"backbone={backbone!r}: the backbones of Global-ROI Net are resnet18 and sface", value=backbone)
    return GlobalROINet(num_classes, num_heads, cbam)


def global_cbam(num_classes: int = 7, *, pretrained: bool | str = False, backbone: str = "resnet18") -> GlobalNet:
    """Return a Global Net; its options are described in `architectures.toml`. ConfigError: unknown backbone."""
    if backbone == sface.NAME:
        return GlobalNet(sface.Extractor(), sface.CHANNELS[-1], num_classes, sface.GRAY)
    if backbone != "resnet18":
        raise ConfigError(f"backbone={backbone!r}: the backbones of Global Net are resnet18 and sface", value=backbone)
    return GlobalNet(resnet("resnet18", pretrained, features_only=True, out_indices=(4,)), 512, num_classes)


def from_author(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of either of the authors' nets, or a plain ResNet-18's (a start for the Global Net), renamed."""
    if "conv1.weight" in state:
        return rename(state, [(r"^(?!fc\.)", "features."), (r"^fc\.", "pretraining.fc.")])
    children = RESNET_CHILDREN if "cbam.ChannelGate.mlp.1.weight" in state else TRUNK_CHILDREN
    return rename(state, ((r"^features\.(\d)\.", lambda match: f"features.{children[int(match[1])]}."), *AUTHOR_RULES))


TRUNK_CHILDREN = ("conv1", "bn1", "act1", "layer1", "layer2", "transformer2", "layer3", "transformer3", "layer4")
AUTHOR_RULES: tuple[Rule, ...] = (
    (r"^features_whole\.(\d)\.", lambda match: f"features_whole.{RESNET_CHILDREN[int(match[1])]}."),
    (r"^(features_whole\..*)\.cbam\.", r"\1.se."),
    *children(r"\.ChannelGate\.mlp\.", ".channel.", {"1": 0, "3": 2}),
    *children(r"\.SpatialGate\.spatial\.", ".spatial.", {"conv": 0, "bn": 1}),
    (r"\.attn\.proj\.", ".project."),
    (r"\.attn\.", "."),
)
