"""Networks with random weights on disk, each with a card beside it, for tests of what opens weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w
import torch
from safetensors.torch import save_file
from torch import nn

from mien import cards, models
from mien.cards import sha256
from mien.labels import FER2013

GRAY = cards.Input(size=(48, 48), color="gray")
RGB = cards.Input(size=(64, 64), scale=1 / 255, offset=(-0.485, -0.456, -0.406), std=(0.229, 0.224, 0.225))


def save(
    folder: Path, architecture: str, options: dict[str, Any] | None = None, network: nn.Module | None = None, **fields: Any
) -> Path:
    """Write a network and its card, and return the weights; without a network they are random, BatchNorm statistics too."""
    torch.manual_seed(0)
    given, network = network, models.build(architecture, **(options or {})).eval() if network is None else network
    for module in network.modules() if given is None else ():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)  # pyrefly: ignore
            module.running_var.uniform_(0.5, 1.5)  # pyrefly: ignore
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "best.safetensors"
    save_file({name: value.clone().contiguous() for name, value in network.state_dict().items()}, path)
    fields = {"labels": FER2013, "outputs": {"scores": "logits"}, "input": RGB} | fields
    fields |= {"network": {"architecture": architecture, "options": options or {}}}
    card = cards.Card(
        name=architecture,
        kind="classifier",
        summary="For a test.",
        file=path.name,
        sha256=sha256(path),
        license="Apache-2.0",
        **fields,
    )
    path.with_suffix(".toml").write_text(tomli_w.dumps(card.to_dict()))
    return path


BASE = {"outputs": {"scores": "fer2013", "fer2013": "fer2013", "ferplus": "ferplus"}, "input": GRAY}
SMALL = {"widths": [16, 16, 24, 32], "depths": [1, 1, 1, 1]}
