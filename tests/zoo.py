"""Every architecture as small as it can be, for tests of what one does with networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mien import models


@dataclass(frozen=True, slots=True)
class Case:
    """A network, as small as it can be while every kind of layer in it is used."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=lambda: {"image": 64})

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        return models.build(self.name, **self.options)

    def settled(self) -> nn.Module:
        """The network in evaluation mode, with weights under which signals neither die out nor grow from layer to layer."""
        network = self.build()
        for name, tensor in network.state_dict().items():
            role = name.rpartition(".")[2]
            if role in ("running_var", "gamma") or (role == "weight" and tensor.ndim == 1):
                nn.init.uniform_(tensor, 0.5, 1.5)
            elif tensor.is_floating_point() and tensor.ndim != 2:  # linear layers are well as they are
                bound = (3 / tensor[0].numel()) ** 0.5 if tensor.ndim > 2 else 0.1
                nn.init.uniform_(tensor, -bound, bound)
        return network.eval()

    def images(self, batch: int) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(batch)
        return {name: torch.randn(batch, 3, side, side, generator=draw) for name, side in self.sizes.items()}


CROPS = dict.fromkeys(("eye", "nose", "mouth"), 48)
CASES = {
    case.name: case
    for case in (
        Case("resnet34"),
        Case("resnet50"),
        Case("dda-resnet34", sizes={"image": 96}),
        Case("dda-resnet50", sizes={"image": 96}),
        Case("global-roi", sizes={"image": 64, **CROPS}),
        Case("global-cbam"),
        Case("ddamfn", {"size": 48}, {"image": 48}),
        Case("ddamfn-mtl", {"size": 48}, {"image": 48}),
        Case("dan"),
        Case("efficientnet-b3"),
        Case("mfer", {"backbone": "convnext_atto", "drop_path": 0.0}),
        Case("poster", {"size": 64}),
        Case("timm:test_resnet"),
        Case("timm:test_vit", sizes={"image": 160}),
    )
}
