"""Count parameters, multiply-accumulates and shapes on torch's meta device: without computation and without weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from . import build, dead_parameters, info

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """What one image costs.

    Attributes:
        parameters: numbers in all parameters, dead ones included.
        dead: how many of them no output depends on.
        macs: multiply-accumulates of convolutions, linear layers and attention products for a batch of one.
        outputs: output field → its shape without the batch; a field that holds several tensors gives `field[i]`.
        shapes: module path or input name → output shape, without the batch.
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
        module.register_forward_hook(_recorder(path, shapes))
    macs, output = multiply_accumulates(network, images)
    sizes = {key: parameter.numel() for key, parameter in network.named_parameters()}
    return Count(
        parameters=sum(sizes.values()),
        dead=sum(sizes[key] for key in dead_parameters(network)),
        macs=macs,
        outputs=_named_shapes(output),
        shapes=shapes,
    )


def multiply_accumulates(network: nn.Module, images: Mapping[str, Tensor]) -> tuple[int, Any]:
    """Return the multiply-accumulates of a network for these images, and its output."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = network(**images) if len(images) > 1 else network(*images.values())
    return counter.get_total_flops() // 2, output


def _recorder(path: str, shapes: dict[str, Shape]) -> Callable[..., None]:
    def record(module: nn.Module, arguments: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            shapes[path] = tuple(output.shape[1:])
        elif isinstance(output, (list, tuple)):
            shapes.update({f"{path}[{i}]": tuple(each.shape[1:]) for i, each in enumerate(output) if isinstance(each, Tensor)})

    return record


def _named_shapes(output: Any) -> dict[str, Shape]:
    named: dict[str, Shape] = {}
    for field, value in output._asdict().items():
        if isinstance(value, Tensor):
            named[field] = tuple(value.shape[1:])
        elif value is not None:
            named.update({f"{field}[{index}]": tuple(each.shape[1:]) for index, each in enumerate(value)})
    return named
