"""Count parameters, multiply-accumulates and shapes on torch's meta device: without computation and without weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from . import build, dead_parameters, info

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """What one image costs: numbers in all parameters, and how many of them are dead, that is, no output depends on them.

    `macs` are the multiply-accumulates of convolutions, linear layers and attention products for a batch of one. `outputs` is
    output field → its shape without the batch, `field[i]` for a field of several tensors; `shapes` is module path or input name
    → the same.
    """

    parameters: int
    dead: int
    macs: int
    outputs: Mapping[str, Shape]
    shapes: Mapping[str, Shape]


def count(name: str, **options: Any) -> Count:
    """Return the `Count` of the network that `build(name, **options)` gives, at its published input size."""
    inputs = info(name).inputs
    with torch.device("meta"):
        network = build(name, **options).eval()
        images = {each.name: torch.empty(1, each.channels, each.size, each.size) for each in inputs}
    shapes: dict[str, Shape] = {key: tuple(image.shape[1:]) for key, image in images.items()}
    for path, module in network.named_modules():
        module.register_forward_hook(lambda module, inputs, output, path=path: shapes.update(_shapes(path, output)))
    macs, output = multiply_accumulates(network, images)
    sizes = {key: parameter.numel() for key, parameter in network.named_parameters()}
    return Count(
        parameters=sum(sizes.values()),
        dead=sum(sizes[key] for key in dead_parameters(network)),
        macs=macs,
        outputs={name: shape for field, value in output._asdict().items() for name, shape in _shapes(field, value).items()},
        shapes=shapes,
    )


def multiply_accumulates(network: nn.Module, images: Mapping[str, Tensor]) -> tuple[int, Any]:
    """Return the multiply-accumulates of a network for these images, and its output."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = network(**images) if len(images) > 1 else network(*images.values())
    return counter.get_total_flops() // 2, output


def _shapes(name: str, value: Any) -> dict[str, Shape]:
    """Return the shape of a tensor, or of each tensor in a sequence, by name."""
    if isinstance(value, Tensor):
        return {name: tuple(value.shape[1:])}
    several = value if isinstance(value, (list, tuple)) else ()
    return {f"{name}[{index}]": tuple(each.shape[1:]) for index, each in enumerate(several) if isinstance(each, Tensor)}
