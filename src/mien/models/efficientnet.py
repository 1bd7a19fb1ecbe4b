"""EfficientNet-B3 as hyunyongPark/Emotion-Recognition uses it: timm's network, six classes, 224-pixel images.

Paper: Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019.
Repository: hyunyongPark/Emotion-Recognition fbc1b52 (no license; nothing copied: the network is timm's).

Parameters at 6 classes: 10,705,454. Differences from the paper: images of 224 instead of 300 pixels.
"""

from .stock import IMAGE, Classifier, timm_model

__all__ = ["IMAGE", "efficientnet_b3"]


def efficientnet_b3(num_classes: int = 6, *, pretrained: bool | str = False) -> Classifier:
    """Return an EfficientNet-B3; `pretrained` as in `mien.models.stock.timm_model`."""
    return Classifier(timm_model("efficientnet_b3", pretrained, num_classes=num_classes))
