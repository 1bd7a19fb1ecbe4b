"""ResNet-34 and ResNet-50, the baselines of the DDA paper, EfficientNet-B3, and any timm backbone, each under a linear head.

Papers: He et al., "Deep residual learning for image recognition", CVPR 2016; Tan and Le, "EfficientNet: rethinking model
scaling for convolutional neural networks", ICML 2019. Repositories: Harly-1506/Dual-Domain-Attention, models/resnet.py;
hyunyongPark/Emotion-Recognition fbc1b52 (no license; nothing copied). The networks themselves come from timm (Apache-2.0).

The 50-layer network has its stride on the 3×3 convolution (torchvision's, "v1.5"). Parameters at 7 classes: 21,288,263 and
23,522,375; at 6 classes: 10,705,454. Differences from the papers: images of 224 instead of 300 pixels for EfficientNet-B3.
"""

import dataclasses
import socket
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit
from urllib.request import getproxies

import timm
from torch import Tensor, nn

from ..errors import ConfigError, UnknownName, WeightsError, did_you_mean, reason
from .info import ModelInfo, at_least, rename

IMAGE = at_least(32)
DRAWN_FOR_A_THOUSAND = (timm.models.EfficientNet, timm.models.MobileNetV3)
"""Networks whose last layer timm draws from ±1/√classes. With seven classes a network then begins with logits three apart and
gradients of some hundreds, and EfficientNet-B3 did not learn in two epochs; so it is drawn as torch draws linear layers."""


class Classified(NamedTuple):
    """Answer of a plain classifier."""

    logits: Tensor
    feature: Tensor


class Classifier(nn.Module):
    """A timm network, with the vector before its last layer given out too."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model
        self.channels = next((kernel.shape[1] for kernel in model.parameters() if kernel.ndim == 4), IMAGE.channels)

    def forward(self, image: Tensor) -> Classified:
        """Return logits (N, classes) and the feature (N, D) for images (N, 3, H, W); (N, 1, H, W) if `in_chans=1`."""
        dataclasses.replace(IMAGE, channels=self.channels).check(image)
        feature = self.model.forward_head(self.model.forward_features(image), pre_logits=True)
        return Classified(self.model.get_classifier()(feature), feature)


def timm_model(name: str, pretrained: bool | str = False, **options: Any) -> Any:
    """Return a timm network by timm's name, with or without a weights tag: `"resnet18"`, `"convnext_tiny.in12k"`.

    `pretrained` is False for random weights; True: timm downloads those of the tag; a path: they are read from that
    `.safetensors` file, whose names must be timm's (for ResNets also torchvision's). A last layer of other size is left random.
    The options are passed on to `timm.create_model`. Raises UnknownName: timm has no such network; WeightsError: the file is
    not a `.safetensors` file that exists.
    """
    _require_timm(name)
    if isinstance(pretrained, str):
        if not (pretrained.endswith(".safetensors") and Path(pretrained).is_file()):
            advice = "convert checkpoints with `mien import` first"
            raise WeightsError(f"pretrained={pretrained!r}: not a .safetensors file; {advice}")
        options["pretrained_cfg_overlay"] = {"file": pretrained}
    try:
        with _offline() if pretrained is True else nullcontext():
            model = timm.create_model(name, pretrained=bool(pretrained), **options)
    except (OSError, RuntimeError) as error:
        if pretrained is not True:
            raise
        message = f"the pretrained weights of timm's {name!r} cannot be downloaded ({reason(error)})"
        advice = "set pretrained to the path of a .safetensors file (model.options.pretrained=…), or to false for random ones"
        raise WeightsError(f"{message}; {advice}", value=name) from error
    if isinstance(model, DRAWN_FOR_A_THOUSAND):
        head, offered = model.get_classifier(), cast(dict[str, Any], model.pretrained_cfg)
        if isinstance(head, nn.Linear) and not (pretrained and model.num_classes == offered["num_classes"]):
            head.reset_parameters()
    return model


@contextmanager
def _offline() -> Generator[None]:
    """Context in which Hugging Face's hub, if it cannot be reached, is not tried for half a minute; cached weights are read."""
    from huggingface_hub import constants

    server, before = urlsplit(getproxies().get("https") or constants.ENDPOINT), constants.HF_HUB_OFFLINE
    try:
        socket.create_connection((server.hostname, server.port or 443), 5).close()
    except (OSError, RuntimeError):
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def resnet34(num_classes: int = 7, *, pretrained: bool | str = False) -> Classifier:
    """Return a ResNet-34; `pretrained` as in `timm_model` (True: ImageNet, torchvision's weights)."""
    return Classifier(resnet("resnet34", pretrained, num_classes=num_classes))


def resnet50(num_classes: int = 7, *, pretrained: bool | str = False) -> Classifier:
    """Return a ResNet-50; `pretrained` as in `timm_model` (True: ImageNet, torchvision's weights)."""
    return Classifier(resnet("resnet50", pretrained, num_classes=num_classes))


def efficientnet_b3(num_classes: int = 6, *, pretrained: bool | str = False) -> Classifier:
    """Return the EfficientNet-B3 of hyunyongPark/Emotion-Recognition; `pretrained` as in `timm_model`."""
    return Classifier(timm_model("efficientnet_b3", pretrained, num_classes=num_classes))


def resnet(name: str, pretrained: bool | str = False, **options: Any) -> Any:
    """Return timm's `name` as torchvision makes it: its ImageNet weights, no zeros in the last BatchNorm of each block."""
    return timm_model(f"{name}.tv_in1k", pretrained, zero_init_last=False, **options)


def timm_factory(name: str) -> Callable[..., Classifier]:
    """Return the function that builds timm's network `name`; it raises ConfigError unless that ends in one linear layer."""

    def build(num_classes: int = 7, *, pretrained: bool | str = False, **options: Any) -> Classifier:
        model = timm_model(name, pretrained, num_classes=num_classes, **options)
        if not isinstance(model.get_classifier(), nn.Linear):
            raise ConfigError(f"timm's {name!r} does not end in one linear layer; pick a network that does", value=name)
        return Classifier(model)

    return build


def timm_info(name: str) -> ModelInfo:
    """Return the entry of timm's table for its network `name`."""
    _require_timm(name)
    tag = timm.get_pretrained_cfg(name)
    return ModelInfo(
        name=f"timm:{name}",
        summary=f"timm's {name} under a linear head",
        paper="",
        repository="huggingface/pytorch-image-models",
        license=f"code: Apache-2.0; weights: {(tag and tag.license) or 'not stated'}",
        inputs=(at_least(32, size=tag.input_size[-1] if tag else 224),),
        outputs={"logits": "class scores before softmax", "feature": "the vector that the linear layer reads"},
    )


def _require_timm(name: str) -> None:
    if not timm.is_model(name.partition(".")[0]):
        raise UnknownName(f"timm has no model {name!r}{did_you_mean(name, timm.list_models())}")


def from_author(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a torchvision-style ResNet state dict under our names."""
    return rename(state, [(r"^(?!model\.)", "model.")])
