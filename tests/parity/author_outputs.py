"""What our networks answer when they are given the weights of the authors' networks.

`author_outputs("ddamfn7", seed="a")` fills the authors' state dict (its entries are listed in ../shared/golden/keys) by the
rule of `fill.py`, loads it into our network as `mien import` would, and shows it the images of that seed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mien import models
from mien.models.checkpoints import load_author_state
from mien.models.checkpoints.loading import PRETRAINING

sys.path.insert(0, str(Path(__file__).parent))  # so that this file works however it is imported
from fill import images, read_keys, state_dict

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"


@dataclass(frozen=True, slots=True)
class Network:
    """A golden model: how we build it, and where its outputs are in our answer."""

    name: str
    outputs: Callable[[Any], dict[str, Tensor]]
    options: dict[str, Any] = field(default_factory=dict)
    batch: int = 2


def _logits(answer: Any) -> dict[str, Tensor]:
    return {"logits": answer.logits}


def _dda(answer: Any) -> dict[str, Tensor]:
    return _logits(answer) | {f"map{k}": map_ for k, map_ in enumerate(answer.maps, start=1)}


def _global_roi(answer: Any) -> dict[str, Tensor]:
    return {"fused_logits": answer.logits, "whole_logits": answer.whole_logits, "roi_logits": answer.roi_logits}


def _heads(answer: Any) -> dict[str, Tensor]:
    return {"feature_map": answer.feature_map} | {f"head{k}": head for k, head in enumerate(answer.heads)}


def _ddamfn(answer: Any) -> dict[str, Tensor]:
    return _logits(answer) | _heads(answer)


def _multi_task(answer: Any) -> dict[str, Tensor]:
    scores = {
        "valence_arousal": answer.valence_arousal,
        "expression_softmax9": answer.expression,
        "action_unit_sigmoid": answer.action_units,
    }
    return scores | _heads(answer)


def _dan(answer: Any) -> dict[str, Tensor]:
    return _logits(answer) | {"feature_map": answer.feature_map, "heads_logsoftmax": answer.heads}


def _mfer(answer: Any) -> dict[str, Tensor]:
    return {"feature": answer.feature} | {f"logits{k}": head for k, head in enumerate(answer.heads)}


def _poster(answer: Any) -> dict[str, Tensor]:
    scales = {
        f"{name}{k}": each
        for name, field in (("landmark", answer.landmarks), ("window", answer.windows), ("fused", answer.fused))
        for k, each in enumerate(field, start=1)
    }
    return _logits(answer) | scales | {name: getattr(answer, name) for name in ("tokens", "tokens_out", "pooled")}


NETWORKS: dict[str, Network] = {
    "resnet34": Network("resnet34", _logits),
    "resnet50": Network("resnet50", _logits),
    "dda_resnet34": Network("dda-resnet34", _dda),
    "dda_resnet50": Network("dda-resnet50", _dda),
    "globalroi7": Network("global-roi", _global_roi, {"num_classes": 7}),
    "globalroi8": Network("global-roi", _global_roi, {"num_classes": 8}),
    "global7": Network("global-cbam", _logits, {"num_classes": 7}),
    "global8": Network("global-cbam", _logits, {"num_classes": 8}),
    "ddamfn7": Network("ddamfn", _ddamfn, {"num_classes": 7}),
    "ddamfn8": Network("ddamfn", _ddamfn, {"num_classes": 8}),
    "ddamfn8_h4": Network("ddamfn", _ddamfn, {"num_classes": 8, "num_heads": 4}),
    "ddamfn_mtl": Network("ddamfn-mtl", _multi_task, {"form": "code"}),
    "dan6": Network("dan", _dan, {"num_classes": 6}),
    "dan7": Network("dan", _dan, {"num_classes": 7}),
    "dan8": Network("dan", _dan, {"num_classes": 8}),
    "efficientnet_b3_6": Network("efficientnet-b3", _logits, {"num_classes": 6}),
    "mfer7": Network("mfer", _mfer, batch=1),
    "poster7": Network("poster", _poster, {"num_classes": 7}),
    "poster8": Network("poster", _poster, {"num_classes": 8}),
}


def author_outputs(name: str, seed: str) -> dict[str, np.ndarray]:
    """Return the outputs of golden model `name` for weights and images drawn under `seed`, under the golden names.

    An output of more than 20,000 numbers is thinned to every k-th of its flattened values and named `NAME_every<k>`, k being
    its size // 4096; DDA's maps are always thinned to every 97th.

    Raises:
        AssertionError: an entry of the authors' state dict has no place in our network, or one of ours got none.
    """
    network = author_network(name, seed).eval()
    inputs = models.info(NETWORKS[name].name).inputs
    shapes = {each.name: (NETWORKS[name].batch, each.channels, each.size, each.size) for each in inputs}
    with torch.inference_mode(), two_threads():
        answer = network(**{key: torch.from_numpy(images(seed, key, shape)) for key, shape in shapes.items()})
    return dict(_thinned(key, output.numpy()) for key, output in NETWORKS[name].outputs(answer).items())


def author_network(name: str, seed: str) -> nn.Module:
    """Return our network with the authors' state dict of golden model `name`, filled under `seed`, in training mode."""
    recipe = NETWORKS[name]
    with torch.device("meta"):  # no time spent on random weights
        network = models.build(recipe.name, **recipe.options)
    network.to_empty(device="cpu")
    filled = state_dict(seed, read_keys(folder_of(name) / "keys" / f"{name}.tsv"))
    report = load_author_state(network, recipe.name, {key: torch.from_numpy(np.array(value)) for key, value in filled.items()})
    dead = [key for key in models.author_mapping(recipe.name)(dict.fromkeys(filled)) if key.startswith(PRETRAINING)]
    assert len(report.unused) == len(dead), report
    assert not report.missing, report
    return network


def folder_of(name: str) -> Path:
    """Return the folder of a golden model's files."""
    return GOLDEN / "poster" if name.startswith("poster") else GOLDEN


@contextmanager
def two_threads() -> Iterator[None]:
    """Let torch sum in the order that the golden files were made with.

    The deeper maps of DDA magnify rounding: in float32 another order of summation moves them by up to 1.4e-5 of their largest
    value, which is more than the tolerance.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _thinned(name: str, output: np.ndarray) -> tuple[str, np.ndarray]:
    step = 97 if name.startswith("map") else output.size // 4096 if output.size > 20_000 else 1
    return (name, output) if step == 1 else (f"{name}_every{step}", output.ravel()[::step])
