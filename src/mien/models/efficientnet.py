"""EfficientNet-B3 as hyunyongPark/Emotion-Recognition uses it: timm's network, six classes, 224-pixel images.

Paper: Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019.
Repository: hyunyongPark/Emotion-Recognition fbc1b52 (no license; nothing copied: the network is timm's).

Parameters at 6 classes: 10,705,454. Differences from the paper: images of 224 instead of 300 pixels.
"""

from __future__ import annotations

from .info import Figure, ModelInfo
from .stock import IMAGE, Classifier, timm_model

__all__ = ["INFO", "efficientnet_b3"]


def efficientnet_b3(num_classes: int = 6, *, pretrained: bool | str = False) -> Classifier:
    """Return an EfficientNet-B3; `pretrained` as in `mien.models.stock.timm_model`."""
    return Classifier(timm_model("efficientnet_b3", pretrained, num_classes=num_classes))


_RECIPES = ("pooled-efficientnet-b3-author", "pooled-efficientnet-b3-mien")

INFO: dict[str, ModelInfo] = {
    "efficientnet-b3": ModelInfo(
        name="efficientnet-b3",
        summary="EfficientNet-B3 on 224-pixel faces, trained on RAF-DB, AffectNet and CK+ pooled to six classes",
        paper="Tan and Le, EfficientNet, ICML 2019",
        repository="hyunyongPark/Emotion-Recognition fbc1b52",
        license="timm: Apache-2.0; the repository and its weights: none stated",
        inputs=(IMAGE,),
        outputs={"logits": "class scores before softmax", "feature": "the 1536 pooled channels that the linear layer reads"},
        published=(
            Figure("CK+", 99, note="frames of the same people are in the training set", recipes=_RECIPES),
            Figure(
                "RAF-DB",
                88.9,
                note="own split of pooled data, six classes; the README may have swapped this row with the next",
                recipes=_RECIPES,
            ),
            Figure("AffectNet", 77.8, note="own split of pooled data, six classes", recipes=_RECIPES),
        ),
        source="the repository's README; 76 % of its validation images are training images",
        cam_layers=("model.bn2",),
        diagram="""flowchart LR
    A["face<br/>${image}"] --> B["stem<br/>${model.bn1}"] --> C["26 inverted bottlenecks<br/>in 7 stages<br/>${model.blocks}"]
    C --> D["1×1 convolution<br/>${model.bn2}"] --> E["mean over the image<br/>${model.global_pool}"]
    E --> F["linear<br/>${model.classifier}"]""",
    )
}
