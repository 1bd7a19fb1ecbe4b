"""Where the attention of a network lies, as it says itself: every module with a method `places`, in the order they run.

DAN's spatial heads, the blocks of DDA, the direction attention of DDAMFN, the attention of MFER, CBAM in the Global Nets.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..models.torch_runtime import run_network
from .faces import Asked, SeenFace
from .gradients import runtime_of


def attention(asked: Asked, face: SeenFace, target: int) -> dict[str, np.ndarray]:
    """Return module → (h, w) map, 0 where it looks least and 1 where it looks most; the target plays no part.

    Raises:
        ConfigError: the network has no attention over places.
    """
    runtime = runtime_of(asked, "attention")
    looking = {name: module for name, module in runtime.network.named_modules() if hasattr(module, "places")}
    if not looking:
        raise ConfigError(
            f"{asked.card.network['architecture']} has no attention over places; "
            "dan, dda-resnet34, dda-resnet50, ddamfn, ddamfn-mtl, mfer, global-cbam and global-roi have"
        )
    inputs: dict[str, Tensor] = {}
    hooks = [module.register_forward_pre_hook(partial(_keep, inputs, name)) for name, module in looking.items()]
    try:
        with torch.no_grad():
            run_network(runtime.network, runtime.tensors(asked.batch(face, [face.pixels])))
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    with torch.no_grad():
        for name, x in inputs.items():  # in the order in which they ran
            module: Any = looking[name]
            found[name] = _stretched(module.places(x)[0].float().cpu().numpy())
    return found


def _keep(inputs: dict[str, Tensor], name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
    inputs.setdefault(name, given[0].clone())


def _stretched(weights: np.ndarray) -> np.ndarray:
    low, high = float(weights.min()), float(weights.max())
    return (weights - low) / (high - low) if high > low else np.zeros_like(weights)
