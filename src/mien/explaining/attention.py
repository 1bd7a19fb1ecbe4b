"""Spatial attention maps of a network: one per module with a `places` method, in execution order.

DAN's spatial heads, the DDA blocks, the direction attention of DDAMFN, the attention of MFER, CBAM in the Global Nets.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..models.torch_runtime import run_network
from .faces import Probe, SeenFace
from .gradients import runtime_of


def attention(probe: Probe, face: SeenFace, target: int) -> dict[str, np.ndarray]:
    """Return module → (h, w) attention map scaled to 0 … 1; independent of the target.

    Raises:
        ConfigError: the network has no spatial attention.
    """
    runtime = runtime_of(probe, "attention")
    attentive = {name: module for name, module in runtime.network.named_modules() if hasattr(module, "places")}
    if not attentive:
        raise ConfigError(
            f"{probe.card.network['architecture']} has no spatial attention; "
            "dan, dda-resnet34, dda-resnet50, ddamfn, ddamfn-mtl, mfer, global-cbam and global-roi do",
            value=probe.card.network["architecture"],
        )
    inputs: dict[str, Tensor] = {}
    hooks = [module.register_forward_pre_hook(partial(_keep, inputs, name)) for name, module in attentive.items()]
    try:
        with torch.no_grad():
            run_network(runtime.network, runtime.tensors(probe.batch(face, [face.pixels])))
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    with torch.no_grad():
        for name, x in inputs.items():  # in execution order
            module: Any = attentive[name]
            found[name] = _stretched(module.places(x)[0].float().cpu().numpy())
    return found


def _keep(inputs: dict[str, Tensor], name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
    inputs.setdefault(name, given[0].clone())


def _stretched(weights: np.ndarray) -> np.ndarray:
    low, high = float(weights.min()), float(weights.max())
    return (weights - low) / (high - low) if high > low else np.zeros_like(weights)
