import re

import pytest
import torch
from torch import Tensor, nn

from mien import models
from mien.errors import WeightsError
from mien.models.checkpoints import load_author_state

RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
MFN = ("conv1", "conv2_dw", "conv_23", "conv_3", "conv_34", "conv_4", "conv_45", "conv_5", "conv_6_sep")


def build(name: str, **options: object) -> nn.Module:
    """Return a network without numbers: names and shapes are all that most of these tests are about."""
    with torch.device("meta"):
        return models.build(name, **options)


def author_dan(network: nn.Module) -> dict[str, Tensor]:
    """Return DAN's state dict as its authors name it."""
    rules = [
        (
            r"^features\.(\w+)\.",
            lambda m: f"features.{dict(zip(('conv1', 'bn1', 'act1', *RESNET[3:]), range(8), strict=True))[m[1]]}.",
        ),
        (r"^heads\.(\d)\.", r"cat_head\1."),
        (r"\.spatial\.reduce\.", ".sa.conv1x1."),
        (r"\.spatial\.square\.", ".sa.conv_3x3."),
        (r"\.spatial\.row\.", ".sa.conv_1x3."),
        (r"\.spatial\.column\.", ".sa.conv_3x1."),
        (r"\.channel\.", ".ca.attention."),
    ]
    state = {}
    for key, tensor in network.state_dict().items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        state[key] = tensor
    return state


def resnet(layers: int, classes: int) -> dict[str, Tensor]:
    """Return a ResNet's state dict as torchvision names it."""
    return {
        key.removeprefix("model."): tensor
        for key, tensor in build(f"timm:resnet{layers}", num_classes=classes).state_dict().items()
    }


def ddamfn(classes: int) -> dict[str, Tensor]:
    """Return what stands for DDAMFN's checkpoint: last layers under the authors' names, the rest under ours, which are kept."""
    return build("ddamfn", num_classes=classes).state_dict()


def test_every_entry_of_the_authors_finds_its_place() -> None:
    network = models.build("dan", num_classes=7)
    state = {
        key: torch.rand_like(tensor) if tensor.is_floating_point() else tensor + 3
        for key, tensor in author_dan(network).items()
    }
    report = load_author_state(network, "dan", state)
    assert len(report.loaded) == 275
    assert (report.unused, report.missing, report.shape_mismatch) == ((), (), ())
    assert report.summary() == "275 tensors loaded"
    assert torch.equal(network.get_parameter("heads.3.spatial.row.0.weight"), state["cat_head3.sa.conv_1x3.0.weight"])
    assert torch.equal(network.get_buffer("bn.num_batches_tracked"), state["bn.num_batches_tracked"])


def test_mismatches_are_named_and_change_nothing() -> None:
    network = models.build("dan", num_classes=7)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    state = {key: tensor + 1 for key, tensor in author_dan(network).items()}
    state["fc.bias"], state["cat_head9.sa.conv1x1.0.bias"] = torch.zeros(8), state.pop("cat_head2.sa.conv1x1.0.bias")
    with pytest.raises(WeightsError) as caught:
        load_author_state(network, "dan", state)
    assert str(caught.value) == (
        "the file does not fit the model 'dan': 273 tensors loaded, 1 unused (cat_head9.sa.conv1x1.0.bias), "
        "1 missing (heads.2.spatial.reduce.0.bias), 1 of another shape (fc.bias is 8 there and 7 here); "
        "check the model and its options"
    )
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())

    report = load_author_state(network, "dan", state, strict=False)
    assert report.unused == ("cat_head9.sa.conv1x1.0.bias",)
    assert report.missing == ("heads.2.spatial.reduce.0.bias",)
    assert report.shape_mismatch == (("fc.bias", (8,), (7,)),)
    after = network.state_dict()
    assert {key for key in after if torch.equal(after[key], before[key])} == {"fc.bias", "heads.2.spatial.reduce.0.bias"}


def test_a_file_of_something_else_is_refused_even_when_loose() -> None:
    with pytest.raises(WeightsError, match=r"encoder\.weight"):
        load_author_state(build("dan"), "dan", {"encoder.weight": torch.zeros(3)}, strict=False)


def test_old_files_may_lack_the_counters_of_batchnorm() -> None:
    network = build("dan")
    state = {key: tensor for key, tensor in author_dan(network).items() if not key.endswith("num_batches_tracked")}
    report = load_author_state(network, "dan", state)
    assert len(report.missing) == 275 - len(state) > 0


def test_slim_networks_take_files_with_the_dead_parameters() -> None:
    whole, slim = build("ddamfn", num_classes=7), build("ddamfn", num_classes=7, slim=True)
    report = load_author_state(slim, "ddamfn", whole.state_dict())
    assert len(report.unused) == len(whole.state_dict()) - len(slim.state_dict()) > 0
    assert report.missing == ()
    with pytest.raises(WeightsError, match=r"gone\.weight"):
        load_author_state(slim, "ddamfn", {**whole.state_dict(), "gone.weight": torch.zeros(1)})


@pytest.mark.parametrize("name", ["dan", "global-cbam"])
def test_ms_celeb_resnet18_starts_the_backbone(name: str) -> None:
    network, start = build(name), resnet(18, 12666)
    with pytest.raises(WeightsError, match=name):
        load_author_state(network, name, start)
    report = load_author_state(network, name, start, partial=True)
    assert set(report.loaded) == {key for key in network.state_dict() if key.startswith("features.")}
    assert len(report.loaded) == 120
    assert report.unused == ("fc.weight", "fc.bias")
    assert not report.shape_mismatch


@pytest.mark.parametrize("name", ["ddamfn", "ddamfn-mtl"])
def test_ms_celeb_mfn_starts_the_backbone(name: str) -> None:
    network = build(name)
    backbone = {key: tensor for key, tensor in network.state_dict().items() if key.startswith("features.")}
    start = {re.sub(r"^features\.(\d)", lambda m: MFN[int(m[1])], key): tensor for key, tensor in backbone.items()}
    start = {
        re.sub(r"^conv2_dw\.(0|1)\.", lambda m: f"conv2_dw.{('conv', 'bn')[int(m[1])]}.", key): v for key, v in start.items()
    }
    last = {
        "conv_6_dw.conv.weight": torch.zeros(512, 1, 7, 7),
        "linear.weight": torch.zeros(256, 512),
        "bn.weight": torch.ones(256),
    }
    report = load_author_state(network, name, {**start, **last}, partial=True)
    assert set(report.loaded) == set(backbone)
    assert set(report.unused) == set(last)


def test_vggface2_resnet50_starts_stem_and_stages() -> None:
    network = build("dda-resnet50")
    report = load_author_state(network, "dda-resnet50", resnet(50, 8631), partial=True)
    assert set(report.loaded) == {key for key in network.state_dict() if key.startswith(("stem.", "stages."))}
    assert report.unused == ("fc.weight", "fc.bias")
    baseline = load_author_state(build("resnet50"), "resnet50", resnet(50, 8631), partial=True)
    assert [name for name, _, _ in baseline.shape_mismatch] == ["model.fc.weight", "model.fc.bias"]
    with pytest.raises(WeightsError):
        load_author_state(build("resnet50"), "resnet50", resnet(50, 8631))


def test_affectnet8_ddamfn_starts_all_but_the_layers_of_the_tasks() -> None:
    network = build("ddamfn-mtl", form="code")
    report = load_author_state(network, "ddamfn-mtl", ddamfn(8), partial=True)
    assert {key.partition(".")[0] for key in report.missing} == {"classifier"}
    assert {key.partition(".")[0] for key in report.unused} == {"fc", "bn"}
    assert len(report.loaded) == len(network.state_dict()) - len(report.missing)


def test_a_partial_file_must_still_find_its_place() -> None:
    with pytest.raises(WeightsError, match="layer9"):
        load_author_state(build("dan"), "dan", {"layer9.weight": torch.zeros(1), **resnet(18, 10)}, partial=True)
