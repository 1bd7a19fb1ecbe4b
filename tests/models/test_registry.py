import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mien import models
from mien.errors import ConfigError, MienError, UnknownName, WeightsError
from mien.models.info import described

DESCRIBED = sorted(set(models.MODELS) - {"mien-base", "mien-nano"})  # the bundled models are described by their cards


def test_the_table_names_functions_that_exist() -> None:
    for name in models.MODELS:
        with torch.device("meta"):
            assert isinstance(models.build(name), nn.Module)


@pytest.mark.parametrize("name", models.MODELS)
def test_the_options_of_a_network_are_described(name: str) -> None:
    assert list(models.option_names(name)) == list(inspect.signature(models.factory(name)).parameters)


def test_importing_the_table_imports_no_torch() -> None:
    code = "import sys, mien.models; sys.exit(any(name in sys.modules for name in ('torch', 'timm', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("ask", [models.build, models.info, models.count, models.author_mapping])
def test_a_wrong_name_is_answered_with_the_nearest(ask: Callable[[str], object]) -> None:
    with pytest.raises(UnknownName, match="'ddamfn'"):
        ask("ddamfm")


@pytest.mark.parametrize("ask", [models.build, models.info, models.count])
def test_a_wrong_timm_name_is_answered_with_the_nearest(ask: Callable[[str], object]) -> None:
    with pytest.raises(UnknownName, match="'resnet18"):
        ask("timm:resnet1800")


@pytest.mark.parametrize(("name", "heads"), [("dan", 0), ("global-roi", 7), ("global-roi", 0)])
def test_heads_that_cannot_be(name: str, heads: int) -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match=f"num_heads={heads}: "):
        models.build(name, num_heads=heads)


def test_a_wrong_option_is_answered_with_the_right_ones() -> None:
    with pytest.raises(ConfigError, match=r"'dan'.*depth.*num_classes, num_heads, backbone, pretrained"):
        models.build("dan", depth=3)
    with pytest.raises(ConfigError, match=r"'mien-base'.*num_classes.*widths, depths, dropout"):
        models.build("mien-base", num_classes=8)


def test_networks_of_ones_own_are_built_but_not_for_a_card() -> None:
    own = f"{__name__}:own_network"
    assert models.build(own, num_classes=3).out_features == 3
    with pytest.raises(UnknownName):
        models.build(own, plugins=False)
    with pytest.raises(UnknownName, match="own_network"):
        models.info(own)
    with pytest.raises(UnknownName, match="mien-nano"):
        models.info("mien-nano")
    assert models.author_mapping(own)({"a": torch.ones(1)}) == {"a": torch.ones(1)}


def own_network(num_classes: int = 7) -> nn.Linear:
    return nn.Linear(2, num_classes)


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_architecture_is_described_in_full(name: str) -> None:
    info, count = models.info(name), models.count(name)
    assert info.name == name
    assert info.summary
    assert info.paper
    assert info.repository
    assert info.license
    assert info.published
    assert info.source
    assert [each.size for each in info.inputs if not each.fits(each.size)] == []
    assert list(info.outputs) == list(dict.fromkeys(field.partition("[")[0] for field in count.outputs))
    assert {"logits", "feature"} <= set(info.outputs)
    table = described()[name]
    assert table["inputs"] == [
        {key: getattr(each, key) for key in ("name", "channels", "size", "sizes")} for each in info.inputs
    ]
    assert (table["parameters"], table["dead_parameters"], table["macs"]) == (count.parameters, count.dead, count.macs)
    for layer in info.cam_layers:
        assert len(count.shapes[layer]) == 3, f"{layer} gives no map"


@pytest.mark.parametrize(
    ("name", "options", "parameters", "giga_macs"),
    [  # as counted on the authors' networks
        ("dda-resnet34", {}, 103_280_871, 8.962),
        ("dda-resnet50", {}, 202_107_647, 16.544),
        ("resnet34", {}, 21_288_263, 3.663),
        ("resnet50", {}, 23_522_375, 4.087),
        ("global-roi", {"num_classes": 7}, 24_222_509, 6.311),
        ("global-roi", {"num_classes": 8}, 24_223_024, 6.311),
        ("global-cbam", {"num_classes": 7}, 11_213_529, 1.814),
        ("global-cbam", {"num_classes": 8}, 11_214_044, 1.814),
        ("ddamfn", {"num_classes": 7}, 4_187_421, 0.5396),
        ("ddamfn", {"num_classes": 8}, 4_187_936, 0.5396),
        ("ddamfn", {"num_classes": 8, "num_heads": 4}, 4_309_888, 0.540),
        ("ddamfn-mtl", {"form": "code"}, 4_458_271, 0.5399),
        ("ddamfn-mtl", {"form": "paper"}, 4_195_118, None),
        ("dan", {"num_classes": 6}, 19_723_218, 2.225),
        ("dan", {"num_classes": 7}, 19_723_733, 2.225),
        ("dan", {"num_classes": 8}, 19_724_248, 2.225),
        ("efficientnet-b3", {}, 10_705_454, 0.961),
        ("mfer", {}, 155_357_013, 20.519),
    ],
)
def test_counts_are_those_of_the_authors_networks(name: str, options: dict, parameters: int, giga_macs: float | None) -> None:
    count = models.count(name, **options)
    assert count.parameters == parameters
    if giga_macs:
        assert count.macs / 1e9 == pytest.approx(giga_macs, abs=5.1e-4)


@pytest.mark.parametrize(
    ("name", "tensors", "numbers"), [("dda-resnet34", 101, 5_684_896), ("ddamfn", 110, 81_422), ("dan", 0, 0)]
)
def test_dead_parameters_are_counted(name: str, tensors: int, numbers: int) -> None:
    with torch.device("meta"):
        assert len(models.dead_parameters(models.build(name))) == tensors
    assert models.count(name).dead == numbers


def test_a_timm_network_says_what_timm_knows() -> None:
    info = models.info("timm:test_vit")
    assert info.inputs[0].size == 160
    assert "Apache-2.0" in info.license
    assert models.count("timm:test_vit").outputs == {"logits": (7,), "feature": (64,)}


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit", "test_efficientnet", "mobilenetv3_small_050"])
def test_a_timm_network_answers_as_timm_does(name: str) -> None:
    network = models.build(f"timm:{name}", num_classes=5).eval()
    image = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        torch.testing.assert_close(network(image).logits, network.model(image), rtol=0, atol=0)


def test_a_timm_network_without_one_linear_layer_at_its_end_is_refused() -> None:
    with torch.device("meta"), pytest.raises(ConfigError, match="deit_tiny"):
        models.build("timm:deit_tiny_distilled_patch16_224")


def test_a_backbone_starts_from_a_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    start = models.build("timm:resnet18", num_classes=11).model
    path = tmp_path / "start.safetensors"
    save_file(start.state_dict(), path)
    network = models.build("dan", pretrained=str(path))
    for name, tensor in network.features.state_dict().items():
        torch.testing.assert_close(tensor, start.state_dict()[name], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["efficientnet-b3", "timm:mobilenetv3_small_050"])
def test_a_head_of_few_classes_begins_with_small_weights(name: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    head = models.build(name, num_classes=7).model.get_classifier()
    assert head.weight.abs().max() <= head.in_features**-0.5  # timm draws from ±1/√7
    if not name.startswith("timm:"):
        return
    start = models.build(name, num_classes=1000).model
    save_file(start.state_dict(), tmp_path / "start.safetensors")
    for classes in (7, 1000):
        head = models.build(name, num_classes=classes, pretrained=str(tmp_path / "start.safetensors")).model.get_classifier()
        assert torch.equal(head.weight, start.get_classifier().weight) == (classes == 1000)


@pytest.mark.parametrize("path", ["absent.safetensors", "weights.pth"])
def test_a_start_that_is_no_safetensors_file_is_refused(path: str) -> None:
    with pytest.raises(WeightsError, match=path):
        models.build("dan", pretrained=path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dda-resnet34", {"gate": "tanh"}),
        ("mfer", {"form": "sketch"}),
        ("mfer", {"backbone": "resnet18"}),
        ("dan", {"backbone": "resnet-18"}),
    ],
)
def test_an_option_of_a_value_that_does_not_exist_is_refused(name: str, options: dict[str, str]) -> None:
    with torch.device("meta"), pytest.raises(MienError, match=next(iter(options.values()))):
        models.build(name, **options)


def test_multiply_accumulates_of_a_network_with_its_own_argument_name() -> None:
    """The argument of `mien-base` is not called `image`, as the inputs of cards are."""
    from mien.models.torch_runtime import multiply_accumulates

    network = models.build("mien-base").eval()
    macs, output = multiply_accumulates(network, {"image": torch.zeros(1, 1, 48, 48)})
    assert macs > 0 and output.fer2013.shape == (1, 7)
