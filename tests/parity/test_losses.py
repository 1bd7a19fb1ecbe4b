"""The losses against what the authors' own code answered.

The values stand here as well as in ../shared/golden/losses.json, so that a bare clone checks the same facts; inputs follow from
a rule (`fill.generator`) and need no file.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from author_outputs import NETWORKS, author_network
from fill import generator, images

from mien import models
from mien.losses import (
    action_unit_loss,
    ccc_loss,
    cross_entropy,
    dan_affinity,
    dan_partition,
    ddamfn_attention,
    faer_center_loss,
)

VALUE, GRADIENT = 1e-5, 1e-4
LABELS = torch.tensor([0, 3, 6, 2, 2, 5])

AUTHORS: dict[str, dict[str, float]] = {
    "dan": {
        "affinity": 1.0205715894699097,
        "partition": 2.56122088432312,
        "affinity_grad_norm": 0.009040886536240578,
        "partition_grad_norm": 0.033231113106012344,
    },
    "ddamfn": {
        "attention_2_heads": 1.5020244121551514,
        "attention_4_heads": 1.5000720024108887,
        "grad_norm_head0": 0.009489346295595169,
    },
    "mtl": {"ccc_loss": 1.113669514656067},
    "faer_center": {
        "loss": 5.012326717376709,
        "feature_grad_norm": 1.292584776878357,
        "center_grad_norm": 0.6174384951591492,
    },
}


def loss_input(name: str, *shape: int) -> torch.Tensor:
    draw = generator("a", f"loss/{name}").random(shape, dtype=np.float32)
    return torch.from_numpy((draw - np.float32(0.5)) * 2)


def dan() -> dict[str, torch.Tensor]:
    features, heads = loss_input("dan/feature_map", 6, 512, 7, 7), loss_input("dan/heads", 6, 4, 512)
    affinity = dan_affinity(features.requires_grad_(), LABELS, loss_input("dan/centers", 7, 512))
    partition = dan_partition(heads.requires_grad_())
    (to_features,), (to_heads,) = torch.autograd.grad(affinity, features), torch.autograd.grad(partition, heads)
    return {
        "affinity": affinity,
        "partition": partition,
        "affinity_grad_norm": to_features.norm(),
        "partition_grad_norm": to_heads.norm(),
    }


def ddamfn() -> dict[str, torch.Tensor]:
    heads = [loss_input(f"ddamfn/head{i}", 6, 512, 7, 7) for i in range(4)]
    pair = ddamfn_attention([heads[0].requires_grad_(), heads[1]])
    (to_head0,) = torch.autograd.grad(pair, heads[0])
    return {"attention_2_heads": pair, "attention_4_heads": ddamfn_attention(heads), "grad_norm_head0": to_head0.norm()}


def mtl() -> dict[str, torch.Tensor]:
    return {"ccc_loss": ccc_loss(loss_input("mtl/va_prediction", 32, 2), loss_input("mtl/va_target", 32, 2), moments="mixed")}


def faer_center() -> dict[str, torch.Tensor]:
    features, centers = (
        loss_input("center/feature", 6, 16).requires_grad_(),
        loss_input("center/centers", 7, 16).requires_grad_(),
    )
    loss = faer_center_loss(features, LABELS, centers)
    to_features, to_centers = torch.autograd.grad(loss, (features, centers))
    return {"loss": loss, "feature_grad_norm": to_features.norm(), "center_grad_norm": to_centers.norm()}


OURS = {"dan": dan, "ddamfn": ddamfn, "mtl": mtl, "faer_center": faer_center}


def assert_agrees(ours: dict[str, torch.Tensor], authors: dict[str, Any]) -> None:
    for name, value in ours.items():
        assert value.item() == pytest.approx(authors[name], rel=GRADIENT if "grad_norm" in name else VALUE), name


@pytest.mark.parametrize("name", AUTHORS)
def test_losses_equal_the_authors(name: str) -> None:
    ours = OURS[name]()
    assert set(ours) == set(AUTHORS[name])
    assert_agrees(ours, AUTHORS[name])


@pytest.mark.shared
@pytest.mark.parametrize("name", AUTHORS)
def test_losses_equal_the_golden_file(name: str, shared: Path) -> None:
    golden = json.loads((shared / "golden/losses.json").read_text())[name]
    assert {key for key in golden if isinstance(golden[key], float)} == set(AUTHORS[name])
    assert_agrees(OURS[name](), golden)


def dan_step(answer: Any, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "cross_entropy": cross_entropy(answer.logits, labels),
        "affinity": dan_affinity(answer.feature_map, labels, loss_input("dan/centers", 7, 512)),
        "partition": dan_partition(answer.heads),
    }


def ddamfn_step(answer: Any, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"cross_entropy": cross_entropy(answer.logits, labels), "attention": ddamfn_attention(answer.heads)}


def multi_task_step(answer: Any, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    active = (loss_input("mtl/train_au", 4, 12) > 0.2).long()
    return {
        "va": ccc_loss(answer.valence_arousal, loss_input("mtl/train_va", 4, 2), moments="mixed"),
        "expression": cross_entropy(answer.expression, labels),  # of a softmax, as published
        "action_units": action_unit_loss(answer.action_units, active),
        "attention": ddamfn_attention(answer.heads),
    }


STEPS: dict[str, Callable[[Any, torch.Tensor], dict[str, torch.Tensor]]] = {
    "dan7": dan_step,
    "ddamfn7": ddamfn_step,
    "ddamfn_mtl": multi_task_step,
}


@pytest.mark.shared
@pytest.mark.parametrize("name", STEPS)
def test_training_steps_equal_the_authors(name: str, shared: Path) -> None:
    golden = json.loads((shared / "golden/losses.json").read_text())[f"train/{name}"]
    network = author_network(name, "a").train()
    batch = torch.from_numpy(images("a", f"train/{name}", tuple(golden["image"])))
    parts = STEPS[name](network(batch), torch.tensor(golden["labels"]))
    weights = {"attention": 0.1}
    total = torch.stack([weights.get(part, 1.0) * value for part, value in parts.items()]).sum()
    total.backward()

    for part, value in {**parts, "total": total}.items():
        assert value.item() == pytest.approx(golden[part], rel=GRADIENT), part
    ours = models.author_mapping(NETWORKS[name].name)({theirs: theirs for theirs in golden["gradient_norms"]})
    assert len(ours) == 4
    for parameter, theirs in ours.items():
        gradient = network.get_parameter(parameter).grad
        assert gradient is not None, parameter
        assert gradient.norm().item() == pytest.approx(golden["gradient_norms"][theirs], rel=GRADIENT), parameter
