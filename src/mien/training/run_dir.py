"""Files of a run: config, environment, metrics of every epoch, learning curves, checkpoint, best weights with card; and the
experiment trackers of accelerate (TensorBoard, Weights & Biases, MLflow …), which get config, losses, metrics and figures.
"""

import functools
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w
import torch
from accelerate import Accelerator
from accelerate.tracking import LoggerType, get_available_trackers
from PIL import Image

from .. import cards
from ..config import flattened
from ..errors import ConfigError, TrainingError, WeightsError, did_you_mean, reason
from ..evaluation.report.plots import curves
from ..io.files import write_file
from ..io.provenance import commit, software
from ..labels import LABEL_SETS, label_set
from ..models.checkpoints.loading import save_state
from ..models.torch_runtime import named
from ..visualization.plotting import Figure, figure_bytes, styled
from .config import TrainConfig, upgrade
from .data import Mixture, card_crop, card_input
from .recipes import CLASSIFIED, heads

if TYPE_CHECKING:
    from .loop import Run

# Config fields that may change on resume.
MAY_CHANGE = ("threads", "workers", "checkpoint_steps", "tracker", "about", "flaws", "device", "compile")
PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow")
RESUME = "free some space or fix the permissions, then resume"
CURVES = ("ccc_valence", "ccc_arousal", "au_f1", "p")

write = functools.partial(write_file, advice=RESUME, error=TrainingError)
"""Write a file (path and content) atomically; raises TrainingError if that fails."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values atomically; raises TrainingError, and keeps the existing file, if that fails."""
    part = path.with_suffix(".part")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch wraps I/O errors.
        part.unlink(missing_ok=True)
        kept = "; the previous checkpoint is unchanged" if path.exists() else ""
        raise TrainingError(f"checkpoint {path} cannot be written ({reason(error)}){kept}; {RESUME}", path=path) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of tensors and plain values only; raises WeightsError if it is missing or corrupt."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"checkpoint {path} cannot be read ({reason(error)}); start a new run", path=path) from error


def identity_of(config: TrainConfig) -> dict[str, Any]:
    """Return the config fields that must not change on resume."""
    table = config.to_dict()
    for name in MAY_CHANGE:
        table.pop(name)
    for data in [table["data"]] if isinstance(table["data"], dict) else table["data"]:
        for name in ("root", "cache"):
            data.pop(name)
    table["model"]["init"].pop("kind")  # Runs of mien 0.1 did not save it.
    return table


def identity_of_saved(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same of a saved identity, which may be of mien 0.1."""
    return identity_of(TrainConfig.of(upgrade(table)))


def open_run(out: Path, config: TrainConfig, splits: Sequence[Mixture], device: torch.device) -> None:
    """Write `config.toml` and `env.json`; errors as in `write`."""
    write(out / "config.toml", tomli_w.dumps(config.to_dict()))
    write(out / "env.json", json.dumps(environment(splits, device), indent=1))


def environment(splits: Sequence[Mixture], device: torch.device) -> dict[str, Any]:
    """Return versions, commit, hardware, and descriptions of the splits."""
    return {
        **software(PACKAGES),
        "machine": {
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": str(named(device)),
            "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        },
        "data": {
            split.data.split if not index else f"{split.name} {split.data.split}": {
                "dataset": split.data.name,
                "protocol": split.data.variant,
                "flaws": list(split.data.flaws),
                "images": len(split),
                "digest": split.data.digest,
                "classes": dict(zip(split.labels, split.counts.tolist(), strict=True)),
            }
            for mixture in splits
            for index, split in enumerate(mixture.parts)
        },
    }


def write_epochs(out: Path, rows: Sequence[Mapping[str, Any]], skipped: Mapping[str, str]) -> Figure:
    """Write `metrics.jsonl`, `skipped.txt` and `curves.png`, and return the figure of the latter; errors as in `write`."""
    write(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    if skipped:
        text = "".join(f"{name}\t{' '.join(reason.split())}\n" for name, reason in sorted(skipped.items()))
        write(out / "skipped.txt", text)
    with styled():
        figure = curves({cards.run_name(out): rows})
    write(out / "curves.png", figure_bytes(figure, "png"))
    return figure


def keep_best(
    run: "Run", row: Mapping[str, Any], calibration: cards.Calibration, figures: Mapping[str, Any] = MappingProxyType({})
) -> Path:
    """Write `best.safetensors` and its card `best.toml`, and return the first; raises TrainingError if that fails."""
    config, splits = run.config, run.validation
    split, path = splits.parts[0], run.out / "best.safetensors"
    sources = [part.data for part in splits.parts]
    try:
        save_state(run.parts.kept.state_dict(), path)
    except WeightsError as error:
        raise TrainingError(f"{error}; then resume", path=path) from error
    fold = {}
    if split.data.fold:
        fold = {"fold": split.data.fold[0], "folds": split.data.fold[1], "draw": config.data[0].draw}
    name = cards.run_name(run.out)
    outputs = {"scores": config.model.scores}
    named = [head for head in heads(config) if head in LABEL_SETS and head != config.model.scores]
    outputs |= {head: head for head in (*named, *config.model.heads)}
    for term in config.loss:
        if role := {"valence-arousal": "valence_arousal", "action-units": "action_units"}.get(term.kind):
            outputs[role] = term.output
    card = cards.Card(
        name=name,
        kind="classifier",
        summary=f"{config.model.name} trained on {' and '.join(data.name for data in sources)} with the recipe {name}.",
        file=path.name,
        sha256=cards.sha256(path),
        license="NOASSERTION",
        license_note="The terms of the training data apply.",
        origin=f"recipe {name}",
        data="; ".join(f"{data.name}, {data.variant}" for data in sources),
        labels=split.labels,
        outputs=outputs,
        input=card_input(config.input),
        crop=card_crop(config.input),
        calibration=calibration,
        heads={head: label_set(labels) for head, labels in config.model.heads.items()},
        network={"architecture": config.model.name, "options": dict(run.parts.options)},
        training={
            "recipe": name,
            "about": config.about,
            "flaws": list(dict.fromkeys([*config.flaws, *(flaw for data in sources for flaw in data.flaws)])),
            "seed": config.seed,
            "epoch": row["epoch"],
            "epochs": config.epochs,
            "commit": commit(),
            "data_digests": run.digests,
            **fold,
        },
        reading={"inputs": {"image": config.input.size, **config.input.regions}} if config.input.regions else {},
        figures=figures,
        measured=tuple(
            cards.Measured(
                dataset=part.data.name,
                split="validation",
                metric=key.removeprefix(f"{part.name}."),
                value=round(float(row[key]), 6),
                n=len(part),
                note=f"epoch {row['epoch']}, selected by {config.validation.metric}",
            )
            for index, part in enumerate(splits.parts)
            for key in row
            if (key.startswith(f"{part.name}.") if index else key in (*CLASSIFIED, *CURVES)) and row[key] == row[key]
        ),
    )
    write(run.out / "best.toml", tomli_w.dumps(card.to_dict()))
    return path


def check_tracker(name: str) -> None:
    """Raise ConfigError for a tracker that is unknown or not installed, for which accelerate would only warn."""
    known = LoggerType.list()
    if name not in known:
        hint = did_you_mean(name, known, ".")
        raise ConfigError(f"unknown tracker {name!r}{hint} Known: {', '.join(known)}", value=name, expected=tuple(known))
    if name != "all" and name not in map(str, get_available_trackers()):
        raise ConfigError(f"tracker {name!r} is not installed; pip install {name}, or remove tracker", value=name)


def start_tracker(accelerator: Accelerator, config: TrainConfig, out: Path) -> None:
    """Open the tracker with the name of the run and its whole config, as one value for each dotted field name."""
    parts = out.absolute().parts
    name = "/".join(parts[len(parts) - parts[::-1].index(cards.run_name(out)) - 1 :])  # RECIPE/SEED
    fields = flattened(config.to_dict())
    accelerator.init_trackers(
        name.replace("/", "-") if config.tracker == "tensorboard" else "mien",  # TensorBoard's is a folder in that of the run.
        {key: value if isinstance(value, (bool, int, float, str)) else json.dumps(value) for key, value in fields.items()},
        {"wandb": {"name": name, "dir": str(out)}, "mlflow": {"run_name": name}},
    )


def finish_tracker(accelerator: Accelerator) -> None:
    """Close the trackers: what they have buffered is written then."""
    for tracker in accelerator.trackers:  # accelerate's end_training would also end the group of processes.
        tracker.finish()


def log_figures(accelerator: Accelerator, figures: Mapping[str, Figure], step: int) -> None:
    """Log figures as images to all trackers that take images."""
    for name, figure in figures.items():
        image = np.asarray(Image.open(io.BytesIO(figure_bytes(figure, "png"))).convert("RGB"))[None]
        for tracker in accelerator.trackers:
            if hasattr(tracker, "log_images"):
                options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({name: image}, step=step, **options)
            elif hasattr(tracker, "log_figure"):
                tracker.log_figure(figure, f"{name}-{step}.png")
