"""Samples of what each architecture answers, kept in stored/outputs.json so that a bare clone checks them too.

Weights are filled by the rule of `fill.py` under our own entry names. The samples were written when every network agreed with
its authors' (`make parity`). To write them anew after a deliberate change: `python tests/parity/stored_outputs.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fill
import numpy as np
import torch
from torch import Tensor

from mien import models

STORED = Path(__file__).with_name("stored") / "outputs.json"
SAMPLES = 12

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        name: (name, {})
        for name in ("resnet34", "resnet50", "dda-resnet34", "dda-resnet50", "global-roi", "global-cbam", "mfer")
    },
    "ddamfn": ("ddamfn", {"num_heads": 3}),
    "ddamfn-mtl": ("ddamfn-mtl", {}),
    "ddamfn-mtl as coded": ("ddamfn-mtl", {"form": "code"}),
    "ddamfn-mtl as published": ("ddamfn-mtl", {"form": "paper"}),
    "dan": ("dan", {}),
    "dan on MobileNetV3": ("dan", {"backbone": "mobilenetv3_small_050", "num_heads": 2}),
    "efficientnet-b3": ("efficientnet-b3", {}),
    "poster": ("poster", {"size": 96}),
    "mfer as in the figure": ("mfer", {"form": "figure", "backbone": "convnext_atto"}),
    "timm:test_convnext": ("timm:test_convnext", {}),
}
"""What is stored → model and options."""


def sampled_outputs(case: str) -> dict[str, list[float]]:
    """Return, for every output of a filled network on small images, its largest size and a few of its values."""
    name, options = CASES[case]
    with torch.device("meta"):
        network = models.build(name, **options)
    rows = [(key, tuple(value.shape), str(value.dtype).removeprefix("torch.")) for key, value in network.state_dict().items()]
    filled = {key: torch.from_numpy(np.array(value)) for key, value in fill.state_dict("stored", rows).items()}
    network.load_state_dict(filled, assign=True)
    images = {each.name: _images(each) for each in models.info(name).inputs}
    with torch.inference_mode():
        answer = network.eval()(**images)
    outputs: dict[str, list[float]] = {}
    for key, value in answer._asdict().items():
        tensors = {key: value} if isinstance(value, Tensor) else {f"{key}[{i}]": each for i, each in enumerate(value or ())}
        outputs |= {each: _sample(tensor.numpy()) for each, tensor in tensors.items()}
    return outputs


def _images(each: models.Input) -> Tensor:
    side = next(side for side in (32, 96, 112) if each.fits(side) and (side > 32 or each.name != "image"))
    return torch.from_numpy(fill.images("stored", each.name, (2, each.channels, side, side)))


def _sample(values: np.ndarray) -> list[float]:
    spread = values.ravel()[np.linspace(0, values.size - 1, SAMPLES).astype(int)]
    return [float(f"{value:.6g}") for value in (np.abs(values).max(), *spread)]


if __name__ == "__main__":
    STORED.parent.mkdir(exist_ok=True)
    lines = [f"  {json.dumps(case)}: {json.dumps(sampled_outputs(case))}" for case in CASES]
    STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
