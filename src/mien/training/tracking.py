"""Experiment trackers of accelerate (TensorBoard, Weights & Biases, MLflow …): config, losses of steps, metrics, figures."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import LoggerType, get_available_trackers
from PIL import Image

from .. import cards
from ..config import flattened
from ..errors import ConfigError, did_you_mean
from ..visualization.plotting import Figure, figure_bytes
from .config import TrainConfig


def check(name: str) -> None:
    """Raise ConfigError for a tracker that is unknown or not installed, for which accelerate would only warn."""
    known = LoggerType.list()
    if name not in known:
        hint = did_you_mean(name, known, ".")
        raise ConfigError(f"unknown tracker {name!r}{hint} Known: {', '.join(known)}", value=name, expected=tuple(known))
    if name != "all" and name not in map(str, get_available_trackers()):
        raise ConfigError(f"tracker {name!r} is not installed; pip install {name}, or remove tracker", value=name)


def start(accelerator: Accelerator, config: TrainConfig, out: Path) -> None:
    """Open the tracker with the name of the run and its whole config, as one value for each dotted field name."""
    parts = out.absolute().parts
    name = "/".join(parts[len(parts) - parts[::-1].index(cards.run_name(out)) - 1 :])  # RECIPE/SEED
    fields = flattened(config.to_dict())
    accelerator.init_trackers(
        name.replace("/", "-") if config.tracker == "tensorboard" else "mien",  # TensorBoard's is a folder in that of the run.
        {key: value if isinstance(value, (bool, int, float, str)) else json.dumps(value) for key, value in fields.items()},
        {"wandb": {"name": name, "dir": str(out)}, "mlflow": {"run_name": name}},
    )


def finish(accelerator: Accelerator) -> None:
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
