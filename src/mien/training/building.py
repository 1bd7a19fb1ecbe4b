"""What a run is put together from: the network with its loss as one module, its options, the device and its number format."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.tracking import LoggerType, get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from .. import models
from ..errors import ConfigError, did_you_mean
from ..models.torch_devices import torch_device
from ..runtime.devices import Device
from .augmentation import Mix
from .config import TrainConfig
from .cpu_kernels import small_maps
from .criterion import Objective, ask, float32
from .data import Mixture


class Learner(nn.Module):
    """The network with its loss, as one module, so that everything that learns is shared between processes alike."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.precision: torch.dtype | None = None

    def forward(
        self, images: dict[str, Tensor], targets: dict[str, Tensor], mix: Mix | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its terms of a batch, mixed in pairs or not."""
        kind = next(iter(images.values())).device.type
        with torch.autocast(kind, self.precision, enabled=self.precision is not None), small_maps():
            answer = ask(self.model, images)
        if mix is None:
            return self.objective(answer, targets)
        loss, terms = self.objective(answer, targets)
        other, _ = self.objective(answer, {name: value[mix.other] for name, value in targets.items()})
        return mix.share * loss + (1 - mix.share) * other, terms


def device_of(config: TrainConfig) -> torch.device:
    """Return the device that a run is to learn on, of several processes the first one's.

    Raises:
        ConfigError: there is no such device, or not here.
    """
    return torch_device(Device.parse(config.device))


def fastest_precision(kind: str = "cpu") -> Literal["bf16", "fp32"]:
    """Return bf16 where a kind of device of this machine computes it natively, else fp32."""
    if kind == "mps":
        return "fp32"
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def open_accelerator(config: TrainConfig, out: Path) -> Accelerator:
    """Return accelerate's view of devices, processes and trackers.

    Raises:
        ConfigError: fp16 without a GPU, or together with SAM; a device that is not there, or another one than this process has
            trained on before; a tracker that is unknown or not installed.
    """
    device = device_of(config)
    if config.precision == "fp16" and device.type != "cuda":
        raise ConfigError("precision = 'fp16' needs a GPU; on a CPU use 'bf16' or 'fp32'")
    if config.precision == "fp16" and config.optim.sam:
        raise ConfigError("optim.sam takes two passes, which fp16's loss scaling does not know; use 'bf16' or 'fp32'")
    if device.type == "cuda":
        torch.cuda.set_device(device)  # what accelerate takes, unless it deals GPUs out to processes
    if config.tracker:
        _check_tracker(config.tracker)
    accelerator = Accelerator(
        cpu=device.type == "cpu" and config.device != "auto",
        mixed_precision="fp16" if config.precision == "fp16" else "no",
        log_with=config.tracker or None,
        project_dir=str(out) if config.tracker else None,
        # Heads without a loss and frozen stages have no gradients.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if config.device != "auto" and accelerator.device.type != device.type:
        raise ConfigError(
            f"device {config.device!r}: this process has trained on {accelerator.device} before, which accelerate does not "
            "change; train in a new process"
        )
    if ":" in config.device and accelerator.num_processes > 1:
        raise ConfigError(f"device {config.device!r}: with several processes each takes a GPU of its own; write cuda")
    if config.tracker:
        accelerator.init_trackers("mien", {"epochs": config.epochs, "batch": config.batch, "seed": config.seed})
    return accelerator


def _check_tracker(name: str) -> None:
    """Refuse a tracker that accelerate does not know, or that is not installed: it would only warn."""
    known = [str(each) for each in LoggerType.list()]
    if name not in known:
        raise ConfigError(f"tracker: unknown tracker {name!r}{did_you_mean(name, known, '.')} Known: {', '.join(known)}")
    if name != "all" and name not in map(str, get_available_trackers()):
        raise ConfigError(f"tracker {name!r} is not installed; pip install {name}, or leave out tracker")


def options_of(config: TrainConfig, split: Mixture) -> dict[str, Any]:
    """Return the network's options, with the number of classes if the network takes it.

    Raises:
        ConfigError: the recipe gives fewer classes than the data has.
    """
    options = dict(config.model.options)
    takes = inspect.signature(models.factory(config.model.name)).parameters
    if "num_classes" in takes:
        given = options.setdefault("num_classes", len(split.labels))
        if given < len(split.labels):
            raise ConfigError(
                f"model.options: num_classes = {given}, but the data has {len(split.labels)} classes: {', '.join(split.labels)}"
            )
    return options


@torch.no_grad()
def blank_answer(model: nn.Module, config: TrainConfig) -> Any:
    """Return an answer of the network on blank images, for its fields and their widths.

    Raises:
        ConfigError: the answer has no named fields.
    """
    channels = 1 if config.input.color == "gray" else 3
    sides = {"image": config.input.size, **config.input.regions}
    state = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.eval()
    answer = ask(model, {name: torch.zeros(2, channels, side, side) for name, side in sides.items()})
    model.train()
    for name, buffer in model.named_buffers():
        buffer.copy_(state[name])
    if not hasattr(answer, "_fields"):
        raise ConfigError(
            f"the answer of {config.model.name} must be a NamedTuple with named fields, not {type(answer).__name__}"
        )
    return type(answer)(*(value if value is None else float32(value) for value in answer))
