"""Checkpoints of other networks, from which the authors' training starts, find their places."""

import pytest
import timm
import torch
from torch import nn

from mien import models
from mien.errors import WeightsError
from mien.models.info import rename


def meta(name: str, **options) -> nn.Module:
    with torch.device("meta"):
        return models.build(name, **options)


def places(name: str, state: dict[str, torch.Tensor]) -> tuple[set[str], set[str]]:
    """Return (our entries that are set, names without a place)."""
    ours = meta(name).state_dict()
    renamed = models.author_mapping(name)(state)
    assert len(renamed) == len(state)
    fitting = {key for key, value in renamed.items() if key in ours and value.shape == ours[key].shape}
    return fitting, set(renamed) - fitting


def plain(name: str, **options) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return timm.create_model(name, **options).state_dict()


@pytest.mark.parametrize(
    ("name", "start", "backbone"),
    [
        ("dan", "resnet18", "features."),  # MS-Celeb-1M
        ("global-cbam", "resnet18", "features."),  # ImageNet
        ("resnet50", "resnet50", "model."),  # VGGFace2
        ("dda-resnet50", "resnet50", "stem.|stages."),  # VGGFace2
    ],
)
def test_a_plain_resnet_sets_the_backbone(name: str, start: str, backbone: str) -> None:
    fitting, homeless = places(name, plain(start, num_classes=8631))
    expected = {key for key in meta(name).state_dict() if key.startswith(tuple(backbone.split("|"))) and ".fc." not in key}
    assert fitting == expected
    assert homeless in ({"pretraining.fc.weight", "pretraining.fc.bias"}, {"model.fc.weight", "model.fc.bias"})


MFN = ("conv1", "conv2_dw", "conv_23", "conv_3", "conv_34", "conv_4", "conv_45", "conv_5", "conv_6_sep")


def author_ddamfn(classes: int) -> dict[str, torch.Tensor]:
    """Return a DDAMFN's entries under the authors' names, by undoing our renaming."""
    undo = [
        (r"^features\.(3|5|7)\.", r"features.\1.model."),
        (r"\.widen\.", ".conv."),
        (r"\.mixed\.convs\.", ".conv_dw.mixed_depthwise_conv."),
        (r"\.mixed\.", ".conv_dw."),
        (r"^(features.*)\.attention\.", r"\1.CA."),
        (r"\.project\.0\.", ".project.conv."),
        (r"\.project\.1\.", ".project.bn."),
        (r"^heads\.(\d)\.(rows|columns|unused)\.0\.", r"heads.\1.\2.conv."),
        (r"^heads\.(\d)\.(rows|columns|unused)\.1\.", r"heads.\1.\2.bn."),
        (r"^heads\.(\d)\.rows\.", r"cat_head\1.CoordAtt.Linear_h."),
        (r"^heads\.(\d)\.columns\.", r"cat_head\1.CoordAtt.Linear_w."),
        (r"^heads\.(\d)\.unused\.", r"cat_head\1.CoordAtt.Linear."),
        (r"^heads\.(\d)\.attention\.", r"cat_head\1.CoordAtt."),
        (r"^pool\.0\.", "Linear.conv."),
        (r"^pool\.1\.", "Linear.bn."),
    ]
    return rename(meta("ddamfn", num_classes=classes).state_dict(), undo)


def test_the_ms_celeb_network_sets_ddamfns_backbone() -> None:
    authors = author_ddamfn(7)
    start = {key: value for key, value in authors.items() if key.startswith("features.")}
    start = rename(start, [(rf"^features\.{index}\.", f"{name}.") for index, name in enumerate(MFN)])
    start |= {key: torch.empty(1, device="meta") for key in ("conv_6_dw.conv.weight", "linear.weight", "bn.weight")}
    for name in ("ddamfn", "ddamfn-mtl"):
        fitting, homeless = places(name, start)
        assert fitting == {key for key in meta(name).state_dict() if key.startswith("features.")}
        assert homeless == {"pretraining.conv_6_dw.conv.weight", "pretraining.linear.weight", "pretraining.bn.weight"}


def test_a_ddamfn_sets_all_of_the_multi_task_net_but_its_last_layers() -> None:
    fitting, homeless = places("ddamfn-mtl", author_ddamfn(8))
    assert fitting == {key for key in meta("ddamfn-mtl").state_dict() if not key.startswith("classifier.")}
    assert {key.rpartition(".")[0] for key in homeless} == {"pretraining.fc", "pretraining.bn"}


def test_a_convnext_as_its_authors_name_it_sets_mfers_backbone() -> None:
    names = [
        *(f"downsample_layers.0.{i}.weight" for i in (0, 1)),
        *(f"downsample_layers.{i}.{j}.bias" for i in (1, 2, 3) for j in (0, 1)),
        *(f"stages.{i}.{j}.{part}" for i in range(4) for j in range(3) for part in ("gamma", "dwconv.weight", "pwconv2.bias")),
        "norm.weight",
    ]
    renamed = models.author_mapping("mfer")(dict.fromkeys(names, torch.empty(0)))
    assert set(renamed) <= set(meta("mfer").state_dict())
    assert models.author_mapping("mfer")({"head.weight": 0, "Msc.msc.1.fc2.bias": 0}).keys() == {
        "pretraining.head.weight",
        "heads.1.fc2.bias",
    }


def test_two_entries_never_become_one() -> None:
    with pytest.raises(WeightsError, match=r"'pool\.0\.weight'"):
        rename({"Linear.conv.weight": 0, "pool.0.weight": 0}, [(r"^Linear\.conv\.", "pool.0.")])
