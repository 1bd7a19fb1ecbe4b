"""What a run leaves behind: its resolved config, where it ran, a row for every epoch, a picture of its curves, a card."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli_w
import torch
from torch import nn

from .. import __version__, cards
from ..errors import TrainingError, WeightsError
from ..evaluation.records import commit
from ..importing.saving import save_state
from ..labels import LABEL_SETS
from ..torch_devices import named
from ..weights import sha256
from ..writing import whole
from .config import TrainConfig
from .data import Split, card_crop, card_input
from .validation import heads

PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow")
RESUME = "free some space or the folder, then resume"


def write(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        TrainingError: the disk is full or the folder cannot be written.
    """
    with whole(path, RESUME, TrainingError) as part:
        part.write_text(text, encoding="utf-8")


def open_run(out: Path, config: TrainConfig, splits: Sequence[Split], device: torch.device) -> None:
    """Write `config.toml` and `env.json`; errors as of `write`."""
    write(out / "config.toml", tomli_w.dumps(config.to_dict()))
    write(out / "env.json", json.dumps(environment(splits, device), indent=1))


def environment(splits: Sequence[Split], device: torch.device) -> dict[str, Any]:
    """Return versions, commit, hardware, and what the splits are."""
    return {
        "mien": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": commit(),
        "machine": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": str(named(device)),
            "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        },
        "data": {
            split.data.split: {
                "dataset": split.data.name,
                "protocol": split.data.variant,
                "flaws": list(split.data.flaws),
                "pictures": len(split),
                "digest": split.data.digest,
                "classes": dict(zip(split.labels, split.counts.tolist(), strict=True)),
            }
            for split in splits
        },
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def write_rows(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `metrics.jsonl`, a row an epoch."""
    write(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def draw_curves(out: Path, rows: Sequence[Mapping[str, Any]], metric: str) -> None:
    """Write `curves.png`: losses, validation figures and learning rate over the epochs; errors as of `write`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, 3)
    validation = [key for key in rows[0] if key.rpartition(".")[2] in ("accuracy", "uar", "macro_f1") or key in CURVES]
    for key in ["loss", *(key for key in rows[0] if key.startswith("loss "))]:
        panels[0].plot(epochs, [row[key] for row in rows], marker=".", label=key.removeprefix("loss ") or key)
    for key in validation:
        panels[1].plot(epochs, [row[key] for row in rows], marker=".", label=key)
    panels[2].plot(epochs, [row["lr"] for row in rows], marker=".", color="0.3")
    for panel, title in zip(panels, ("training loss", f"validation (chosen by {metric})", "learning rate"), strict=True):
        panel.set(title=title, xlabel="epoch")
        panel.grid(alpha=0.3)
        if panel.get_legend_handles_labels()[0]:
            panel.legend(fontsize="small", frameon=False)
    with whole(out / "curves.png", RESUME, TrainingError) as part:
        FigureCanvasAgg(figure).print_png(part)


CURVES = ("ccc_valence", "ccc_arousal", "au_f1", "p")


def name_of(out: Path) -> str:
    """Return what a run is called after its folder: runs/RECIPE/SEED after the recipe, any other after itself."""
    folder = out.absolute()
    return folder.parent.name if folder.name.isdigit() and folder.parent.name else folder.name


def keep_best(
    out: Path,
    model: nn.Module,
    config: TrainConfig,
    options: Mapping[str, Any],
    split: Split,
    digests: Sequence[str],
    row: Mapping[str, Any],
    calibration: cards.Calibration,
    figures: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write `best.safetensors` and its card `best.toml`, with `calibration` and further `figures`; return the weights' path.

    Raises:
        TrainingError: the disk is full or the folder cannot be written.
    """
    path = out / "best.safetensors"
    try:
        save_state(model.state_dict(), path)
    except WeightsError as error:
        raise TrainingError(f"{error}; then resume") from error
    sides = {"image": config.input.size, **config.input.regions}
    outputs = {"scores": config.model.scores}
    outputs |= {name: name for name in heads(config) if name in LABEL_SETS and name != config.model.scores}
    for term in config.loss:
        name = {"valence-arousal": "valence_arousal", "action-units": "action_units"}.get(term.kind)
        if name:
            outputs[name] = term.output
    card = cards.Card(
        name=name_of(out),
        kind="classifier",
        summary=f"{config.model.name} trained on {split.data.name} by the recipe {name_of(out)}.",
        file=path.name,
        sha256=sha256(path),
        licence="NOASSERTION",
        licence_note="The terms of the data that it was trained on apply.",
        origin=f"recipe {name_of(out)}",
        data=f"{split.data.name}, {split.data.variant}",
        labels=split.labels,
        outputs=outputs,
        input=card_input(config.input),
        crop=card_crop(config.input),
        calibration=calibration,
        network={"architecture": config.model.name, "options": dict(options)},
        training={
            "recipe": name_of(out),
            "about": config.about,
            "flaws": list(dict.fromkeys([*config.flaws, *split.data.flaws])),
            "seed": config.seed,
            "epoch": row["epoch"],
            "epochs": config.epochs,
            "commit": commit(),
            "data_digests": list(digests),
        },
        reading={"inputs": sides} if config.input.regions else {},
        figures=figures,
        measured=tuple(
            cards.Measured(
                dataset=split.data.name,
                split="validation",
                metric=key,
                value=round(float(row[key]), 6),
                n=len(split),
                note=f"epoch {row['epoch']}, chosen by {config.validation.metric}",
            )
            for key in row
            if key in ("accuracy", "uar", "macro_f1", "nll", *CURVES) and row[key] == row[key]
        ),
    )
    write(out / "best.toml", tomli_w.dumps(card.to_dict()))
    return path
