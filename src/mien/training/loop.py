"""One straight training loop."""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from .. import models
from ..errors import ConfigError
from . import checkpoint
from .augmentation import augment
from .config import TrainConfig
from .data import Faces, batches, open_faces
from .optim import average, learning_rate, optimizer


def normalise(image: Tensor) -> Tensor:
    """Map [0, 1] to [−1, 1]: the value range of the card."""
    return image * 2 - 1


def train(config: TrainConfig, out: str | Path, report: Callable[[dict[str, Any]], None] = lambda row: None) -> Path:
    """Train, or go on training, one model; the best epoch on the validation split is kept.

    The validation metric is the mean of the FER2013 and the FERPlus (majority) accuracy of the averaged weights on
    pictures as they are. The test split is never opened here.

    Args:
        config: the run.
        out: folder of the run. If it holds a checkpoint of the same config and data, the run goes on from there.
        report: called with each row of `metrics.jsonl`.

    Returns:
        Path of `best.safetensors`: the averaged weights of the best epoch.

    Raises:
        ConfigError: `out` holds a run of another config or other data.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    faces, validation = open_faces(config.data, "train"), open_faces(config.data, "validation")
    model = models.build(config.model)
    kept = copy.deepcopy(model).eval()
    sgd = optimizer(model, config.optim)
    per_epoch = len(faces) // config.batch
    identity = {"config": dataclasses.asdict(config), "data": [faces.digest, validation.digest]}
    state: dict[str, Any] = {"epoch": 0, "best": -1.0, "rows": []}

    last, best = out / "last.pt", out / "best.safetensors"
    if last.exists():
        saved = checkpoint.load(last)
        if saved["identity"] != identity:
            raise ConfigError(f"{out} holds a run of another config or other data; give another folder")
        model.load_state_dict(saved["model"])
        kept.load_state_dict(saved["kept"])
        sgd.load_state_dict(saved["sgd"])
        generator.set_state(saved["generator"])
        torch.set_rng_state(saved["rng"])
        state = saved["state"]
    (out / "config.json").write_text(json.dumps(identity, indent=1))

    for epoch in range(state["epoch"], config.epochs):
        started, total, seen = time.perf_counter(), 0.0, 0
        model.train()
        for index, rows in enumerate(batches(len(faces), config.batch, generator)):
            step = epoch * per_epoch + index
            for group in sgd.param_groups:
                group["lr"] = learning_rate(config.optim, step, config.epochs * per_epoch)
            image = faces.images[rows].float() / 255
            image = normalise(augment(image, config.size_at(epoch), config.augment, generator))
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
                output = model(image.contiguous(memory_format=torch.channels_last))
            loss = _loss(output, faces, rows, config)
            if not loss.isfinite():
                raise ConfigError(f"the loss became {loss.item()} at epoch {epoch}, step {index}; lower optim.lr")
            sgd.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip)
            sgd.step()
            average(kept, model, config.optim.ema, step)
            total, seen = total + loss.item() * len(rows), seen + len(rows)
        seconds = time.perf_counter() - started
        row = {"epoch": epoch + 1, "loss": total / seen, **measure(kept, validation), "per_second": seen / seconds}
        row["seconds"] = seconds
        state["epoch"] = epoch + 1
        metric = (row["fer2013"] + row["ferplus"]) / 2
        if metric > state["best"]:
            state["best"] = metric
            save_file({key: value.contiguous() for key, value in kept.state_dict().items()}, best.with_suffix(".part"))
            best.with_suffix(".part").replace(best)
        state["rows"].append(row)
        whole = {"model": model.state_dict(), "kept": kept.state_dict(), "sgd": sgd.state_dict(), "state": state}
        whole |= {"generator": generator.get_state(), "rng": torch.get_rng_state(), "identity": identity}
        checkpoint.save(last, whole)
        (out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in state["rows"]))
        report(row)
    return best


def _loss(output: Any, faces: Faces, rows: Tensor, config: TrainConfig) -> Tensor:
    """Cross-entropy of the FER2013 head with smoothed labels, and of the FERPlus head with the votes."""
    hard = F.cross_entropy(output.fer2013.float(), faces.label[rows], label_smoothing=config.smoothing)
    soft = F.cross_entropy(output.ferplus.float(), faces.soft[rows], reduction="none")
    weight = faces.weight[rows]
    return hard + config.ferplus_weight * (soft * weight).sum() / weight.sum().clamp(min=1)


@torch.no_grad()
def measure(model: nn.Module, faces: Faces, batch: int = 256) -> dict[str, float]:
    """Return the accuracy of both heads: FER2013 over all pictures, FERPlus over those with a majority."""
    model.eval()
    right, right_plus, number_plus = 0, 0, 0
    for rows in torch.arange(len(faces)).split(batch):
        image = normalise(faces.images[rows].float() / 255).contiguous(memory_format=torch.channels_last)
        output = model(image)
        right += int((output.fer2013.argmax(1) == faces.label[rows]).sum())
        valid = faces.majority[rows] >= 0
        right_plus += int((output.ferplus.argmax(1) == faces.majority[rows])[valid].sum())
        number_plus += int(valid.sum())
    return {"fer2013": right / len(faces), "ferplus": right_plus / max(number_plus, 1)}
