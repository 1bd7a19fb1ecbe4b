"""Registry of architectures: build a network by name, describe it, count parameters and MACs.

Importing this module is cheap; torch and timm are imported by the first `build`, `info` or `count`.

    >>> import torch
    >>> from mien import models
    >>> network = models.build("ddamfn", num_classes=8).eval()
    >>> network(torch.zeros(1, 3, 112, 112)).logits.shape
    torch.Size([1, 8])

Every network maps float32 images (N, 3, H, W) to a NamedTuple with `logits` (N, classes), `feature` (N, D, the input of the
last layer) and further fields, such as attention maps.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import TORCH_SIDE, ConfigError, UnknownName, needs
from ..registry import lookup
from .info import Count, Figure, Input, ModelInfo, described, model_info

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "MODELS", "Figure", "Input", "ModelInfo", "author_mapping", "build", "count", "dead_parameters", "factory", "info",
    "option_names",
]  # fmt: skip

MODELS: dict[str, str] = {
    "resnet34": "mien.models.stock:resnet34",
    "resnet50": "mien.models.stock:resnet50",
    "dda-resnet34": "mien.models.dda:dda_resnet34",
    "dda-resnet50": "mien.models.dda:dda_resnet50",
    "global-roi": "mien.models.global_roi:global_roi",
    "global-cbam": "mien.models.global_roi:global_cbam",
    "ddamfn": "mien.models.ddamfn:ddamfn",
    "ddamfn-mtl": "mien.models.ddamfn_mtl:ddamfn_mtl",
    "dan": "mien.models.dan:dan",
    "efficientnet-b3": "mien.models.stock:efficientnet_b3",
    "mfer": "mien.models.mfer:mfer",
    "poster": "mien.models.poster:poster",
    "mien-base": "mien.models.mien_base:mien_base",
    "mien-nano": "mien.models.mien_base:mien_nano",
}


def build(name: str, *, plugins: bool = True, **options: Any) -> nn.Module:
    """Return a new network with random weights, in training mode.

    The name is a key of `MODELS`, `"timm:NAME"` for any timm backbone under a linear head, or a user-defined
    `"module:function"`, which `plugins=False` refuses, for names from cards, checkpoints and requests. The options, such as
    `num_classes`, are arguments of the network's function.

    Raises UnknownName: unknown architecture; ConfigError: unknown option; MissingExtra: torch or timm is not installed.
    """
    make = factory(name, plugins)
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        known = ", ".join(inspect.signature(make).parameters)
        raise ConfigError(f"model {name!r}: {error}. Its options are {known}.") from error
    return make(**options)


def info(name: str) -> ModelInfo:
    """Return paper, inputs, outputs, published figures and license of an architecture.

    Raises UnknownName: unknown architecture, or it is a `"module:function"` and the module's `INFO` has no `function`.

    Example:
        >>> [(figure.dataset, figure.value) for figure in info("mfer").published][0]
        ('RAF-DB', 92.08)
    """
    if name.startswith("timm:"):
        return _torch_side("mien.models.stock").timm_info(name.removeprefix("timm:"))
    module = _torch_side(factory(name, plugins=True).__module__)
    if "summary" in described().get(name, {}):
        return model_info(name, getattr(module, "INPUTS", {}).get(name, (module.IMAGE,)))
    table: Mapping[str, ModelInfo] | None = getattr(module, "INFO", None)
    if table is None:
        own = f"; see its card: mien models {name}" if name in MODELS else ""
        raise UnknownName(f"{name} has no description: its module has no INFO{own}")
    return lookup(name.partition(":")[2], table, "model description", plugins=False)


def count(name: str, **options: Any) -> Count:
    """Return parameters, multiply-accumulates and shapes of a network at its published input size, without allocating weights.

    Example:
        >>> count("dan", num_classes=8).parameters
        19724248
    """
    torch, runtime = _torch_side("torch"), _torch_side("mien.models.torch_runtime")
    inputs = info(name).inputs
    with torch.device("meta"):  # without computation and without weights
        network = build(name, **options).eval()
        images = {each.name: torch.empty(1, each.channels, each.size, each.size) for each in inputs}
    shapes = {key: tuple(image.shape[1:]) for key, image in images.items()}
    for path, module in network.named_modules():
        module.register_forward_hook(lambda module, inputs, output, path=path: shapes.update(_shapes(path, output)))
    macs, output = runtime.multiply_accumulates(network, images)
    sizes = {key: parameter.numel() for key, parameter in network.named_parameters()}
    return Count(
        parameters=sum(sizes.values()),
        dead=sum(sizes[key] for key in dead_parameters(network)),
        macs=macs,
        outputs={name: shape for field, value in output._asdict().items() for name, shape in _shapes(field, value).items()},
        shapes=shapes,
    )


def _shapes(name: str, value: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of a tensor, or of each tensor in a sequence, by name."""
    if hasattr(value, "shape"):
        return {name: tuple(value.shape[1:])}
    several = value if isinstance(value, (list, tuple)) else ()
    return {f"{name}[{index}]": tuple(each.shape[1:]) for index, each in enumerate(several) if hasattr(each, "shape")}


def dead_prefixes(network: nn.Module) -> tuple[str, ...]:
    """Return the name prefixes of entries that no output of a network depends on: `("module.", …)`."""
    return tuple(f"{part}." for part in vars(network).get("dead", ()))


def dead_parameters(network: nn.Module) -> list[str]:
    """Return the names of parameters that no output depends on.

    The authors' networks register some; ours keep them, frozen, so that a checkpoint loads and saves in full. Build with
    `slim=True` to leave them out.

    Example:
        >>> dead_parameters(build("ddamfn"))[:2]
        ['features.2.mixed.bn.weight', 'features.2.mixed.bn.bias']
    """
    prefixes = dead_prefixes(network)
    return [key for key, _ in network.named_parameters() if key.startswith(prefixes)] if prefixes else []


def author_mapping(name: str) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    """Return the function that turns a state dict under the authors' names into one under ours.

    It renames and never drops: entries the network has no place for stay, for the caller to report. Models without a published
    layout get the identity.

    Example:
        >>> author_mapping("dan")({"cat_head3.sa.conv_1x3.0.bias": "any value"})
        {'heads.3.spatial.row.0.bias': 'any value'}
    """
    if name.startswith("timm:"):
        name = "resnet34"  # plain backbones: the same one rule
    module = _torch_side(factory(name, plugins=True).__module__)
    return getattr(module, "from_author", dict)


def factory(name: str, plugins: bool = True) -> Callable[..., nn.Module]:
    """Return the function that builds a network; its signature lists the options. Errors as of `build`."""
    if name.startswith("timm:"):
        return _torch_side("mien.models.stock").timm_factory(name.removeprefix("timm:"))
    with needs("train", among=TORCH_SIDE):
        return lookup(name, MODELS, "model", plugins=plugins)


def option_names(name: str) -> tuple[str, ...]:
    """Return the options of an architecture in `MODELS`, without importing torch; raises UnknownName for another."""
    return tuple(lookup(name, described(), "model", plugins=False)["options"])


def _torch_side(module: str) -> Any:
    with needs("train", among=TORCH_SIDE):
        return importlib.import_module(module)
