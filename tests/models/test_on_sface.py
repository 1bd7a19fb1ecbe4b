"""The published systems on SFace's trunk."""

import pytest
import torch

from mien import models
from mien.errors import ConfigError

SYSTEMS = {
    "dan": {},
    "dda-resnet34": {},
    "ddamfn": {"size": 48},
    "global-cbam": {},
    "global-roi": {},
    "mfer": {},
    "poster": {"size": 64, "width": 192},
}
every_system = pytest.mark.parametrize("name", SYSTEMS)


def images(name: str, channels: int = 1) -> dict[str, torch.Tensor]:
    sides = {"image": SYSTEMS[name].get("size", 48)} | ({"eye": 24, "nose": 24, "mouth": 24} if name == "global-roi" else {})
    draw = torch.Generator().manual_seed(1)
    return {key: torch.randn(4, channels, each, each, generator=draw) for key, each in sides.items()}


@every_system
def test_learns_with_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    network = models.build(name, backbone="sface", num_classes=8, **SYSTEMS[name])
    output = network(**images(name))
    assert output.logits.shape == (4, 8)
    parts = [each for part, each in output._asdict().items() if part.endswith(("logits", "feature"))]
    sum(each.square().mean() for each in parts).backward()
    # Nothing reads the parts that are dead; a transformer whose last layers are zero passes no gradient to those before.
    still = {*models.dead_parameters(network), *(key for key, _ in network.named_parameters() if "transformer" in key)}
    silent = {key for key, value in network.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0}
    assert silent <= still | {key for key in silent if key.endswith("bias")}  # A bias before BatchNorm changes nothing.


@every_system
def test_refuses_color_images(name: str) -> None:
    with torch.device("meta"):
        network = models.build(name, backbone="sface", **SYSTEMS[name])
    with pytest.raises(ValueError, match="image"):
        network(**images(name, channels=3))


@pytest.mark.parametrize("name", sorted(set(SYSTEMS) - {"dan"}))  # DAN stands on any network of timm.
def test_other_backbones_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        models.build(name, backbone="vgg16")


def test_the_width_of_poster_is_that_of_its_feature() -> None:
    assert models.build("poster", backbone="sface", size=64, width=24)(torch.zeros(1, 1, 64, 64)).feature.shape == (1, 24)
    for width in (0, 100):
        with pytest.raises(ConfigError) as caught:
            models.build("poster", backbone="sface", size=64, width=width)
        assert caught.value.value == width


def test_the_transformer_of_global_roi_starts_as_identity() -> None:
    network = models.build("global-roi", backbone="sface").eval()
    x = torch.randn(2, 256, 6, 6)
    assert torch.equal(network.transformer(x), x)


def test_dda_needs_sides_that_meet() -> None:
    network = models.build("dda-resnet34", backbone="sface").eval()
    with torch.inference_mode():
        assert [tuple(each.shape[1:]) for each in network(torch.zeros(1, 1, 80, 80)).maps] == [
            (256, 20, 20),
            (512, 10, 10),
            (256, 5, 5),
        ]
    with pytest.raises(ValueError, match="image"):
        network(torch.zeros(1, 1, 64, 64))


def test_dda_without_attention_is_the_trunk() -> None:
    network = models.build("dda-resnet34", backbone="sface", attention=False).eval()
    with torch.inference_mode():
        found = network(torch.zeros(1, 1, 48, 48))
    assert found.maps == () and found.logits.shape == (1, 7)
    with pytest.raises(ConfigError):
        models.build("dda-resnet34", attention=False)
