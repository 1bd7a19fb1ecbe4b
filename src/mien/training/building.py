"""Assembly of a run: the network and its loss as one module, the optimizer, and accelerate's view of devices and processes."""

import copy
import inspect
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from .. import models
from ..errors import ConfigError
from ..faces.preprocessing import Preprocess
from ..labels import label_set
from ..models.torch_runtime import add_heads, feature_width, run_network, torch_device
from ..runtime.devices import Device
from . import run_dir
from .augmentation import Mix
from .config import TrainConfig
from .cpu_kernels import small_maps
from .criterion import Criterion, field_of, float32
from .data import Mixture, card_input, evaluation_batches
from .init_weights import load_initial_weights
from .optim import Average, optimizer, synchronize_batch_norm
from .recipes import target_of
from .teachers import teacher_of


class Learner(nn.Module):
    """Network and loss as one module, so that processes synchronize all parameters; `scores` is the output of class scores."""

    def __init__(self, model: nn.Module, criterion: Criterion, scores: str, precision: torch.dtype | None = None) -> None:
        super().__init__()
        self.model, self.criterion, self.scores, self.precision = model, criterion, scores, precision

    def forward(
        self, images: dict[str, Tensor], targets: dict[str, Tensor], mix: Mix | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch, which may be mixed in pairs, and its terms with the shares `CORRECT` and `LABELED`."""
        kind = next(iter(images.values())).device.type
        with torch.autocast(kind, self.precision, enabled=self.precision is not None), small_maps():
            output = run_network(self.model, images)
        loss, terms = self.criterion(output, targets)
        if mix is not None:
            other, _ = self.criterion(output, {name: value[mix.other] for name, value in targets.items()})
            loss = mix.share * loss + (1 - mix.share) * other
        return loss, terms | _correct(field_of(output, self.scores).detach(), targets)


# Shares of a batch: images of the first dataset whose class is predicted, and those with a label.
CORRECT, LABELED = "correct", "labeled"


def _correct(scores: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
    label = targets["label"]
    if "soft" in targets:
        soft = targets["soft"][:, : scores.shape[1]]
        label = torch.where((label < 0) & (soft.sum(1) > 0), soft.argmax(1), label)
    known = label >= 0
    if "dataset" in targets:
        known = known & (targets["dataset"] == 0)
    return {CORRECT: ((scores.argmax(1) == label) & known).float().mean(), LABELED: known.float().mean()}


@dataclass(frozen=True, slots=True)
class Parts:
    """The stateful parts of a run."""

    learner: Learner
    distributed: nn.Module  # the learner as prepared by accelerate
    optimizer: torch.optim.Optimizer
    stepper: Any  # the optimizer as prepared by accelerate
    trainable: list[str]  # names of the parameters that can be trained, without dead ones
    kept: nn.Module  # the network that is validated and saved: with averaged weights, or the trained one itself
    average: Average | None
    pseudo_teacher: nn.Module | None
    options: dict[str, Any]  # of the architecture


def build_parts(config: TrainConfig, split: Mixture, accelerator: Accelerator, *, initialize: bool) -> Parts:
    """Build network, loss and optimizer, with initial weights on request; ConfigError, UnknownName, WeightsError."""
    options = options_of(config, split)
    model = models.build(config.model.name, **options)
    if config.model.heads:
        sizes = {name: len(label_set(labels)) for name, labels in config.model.heads.items()}
        add_heads(model, sizes, feature_width(sample_output(model, config), sizes))
    if config.model.init.file and initialize:
        images = lambda: some_images(config, split)  # noqa: E731 - called only for files without statistics
        load_initial_weights(model, config.model.name, config.model.init, feed=card_input(config.input), images=images)
    datasets = [part.name for part in split.parts]
    output = sample_output(model, config)
    check_classes(config, split, output)
    check_labels(config, split)
    criterion = Criterion(config.loss, output, len(split.labels), split.counts, datasets)
    for term in config.loss:
        used = [part for part in split.parts if not term.data or part.name in term.data]
        if (target := target_of(term)) and not any(target in part.targets for part in used):
            message = f"loss term {term.kind!r} requires {target}, which {used[0].data.name} does not have; remove the term"
            raise ConfigError(message, value=target, expected=tuple(used[0].targets))
    if config.sync_batch_norm and accelerator.num_processes > 1:
        synchronize_batch_norm(model, accelerator.device.type)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyrefly: ignore
    precision = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision)
    learner = Learner(model, criterion, config.model.scores, precision).to(accelerator.device)
    if config.compile:
        model.compile()  # In place, so that parameter names do not change.
    trainable = [name for name, parameter in learner.named_parameters() if parameter.requires_grad]
    optim = optimizer(learner, config.optim)
    distributed, stepper = accelerator.prepare(learner, optim)
    kept = copy.deepcopy(model).eval() if config.optim.ema else model
    average = Average(kept, model, config.optim.ema) if config.optim.ema else None
    teacher = teacher_of(config, kept if average else None, model)
    return Parts(learner, distributed, optim, stepper, trainable, kept, average, teacher, options)


def check_classes(config: TrainConfig, split: Mixture, output: Any) -> None:
    """Raise ConfigError unless the scores have the classes of the dataset, of which at least two occur."""
    name, labels, expected = config.model.scores, split.labels, len(split.labels)
    width = field_of(output, name).shape[1]
    if width != expected and "num_classes" not in config.model.options:
        both = f"{name!r} of {config.model.name} has {width} classes, the dataset {expected}: {', '.join(labels)}"
        advice = "choose another output, or an architecture with num_classes"
        raise ConfigError(f"model.scores: {both}; {advice}", value=width, expected=expected)
    present = [name for name, count in zip(labels, split.counts.tolist(), strict=True) if count]
    if len(present) == 1:
        raise ConfigError(f"all labeled training images are {present[0]!r}; at least two classes are needed", value=present[0])


def check_labels(config: TrainConfig, split: Mixture) -> None:
    """Raise ConfigError if labels train a head of `model.heads` that has other classes, or the same in another order."""
    for term in config.loss:
        labels = config.model.heads.get(term.output)
        if labels is None or target_of(term) not in ("label", "soft"):
            continue
        for part in split.parts:
            if (not term.data or part.name in term.data) and part.labels != (expected := label_set(labels)):
                ours, theirs = ", ".join(part.labels), ", ".join(expected)
                problem = f"the classes of {part.name} are {ours}, those of the head {term.output!r} are {theirs}"
                message = f"loss term {term.kind!r}: {problem}; set data.labels = {labels!r}, or loss.data"
                raise ConfigError(message, value=part.labels, expected=expected)


def options_of(config: TrainConfig, split: Mixture) -> dict[str, Any]:
    """Return the options of the network, with the number of classes of the dataset; raises ConfigError if fewer are given."""
    options = dict(config.model.options)
    if "num_classes" in inspect.signature(models.factory(config.model.name)).parameters:
        given = options.setdefault("num_classes", expected := len(split.labels))
        if given < expected:
            problem = f"num_classes = {given}, but the dataset has {expected} classes: {', '.join(split.labels)}"
            raise ConfigError(f"model.options: {problem}", value=given, expected=expected)
    return options


@torch.no_grad()
def sample_output(model: nn.Module, config: TrainConfig) -> Any:
    """Return the output for blank images, which defines fields and widths; raises ConfigError unless it is a NamedTuple."""
    channels = 1 if config.input.color == "gray" else 3
    sides = {"image": config.input.size, **config.input.regions}
    state = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.eval()
    output = run_network(model, {name: torch.zeros(2, channels, side, side) for name, side in sides.items()})
    model.train()
    for name, buffer in model.named_buffers():
        buffer.copy_(state[name])
    if not hasattr(output, "_fields"):
        kind = type(output).__name__
        raise ConfigError(f"the output of {config.model.name} must be a NamedTuple, got {kind}", value=kind)
    return type(output)(*(value if value is None else float32(value) for value in output))


def some_images(config: TrainConfig, split: Mixture, count: int = 256) -> Tensor:
    """Return up to `count` training images, spread over the split, (N, C, side, side)."""
    rows = np.unique(np.linspace(0, len(split) - 1, count).astype(int))
    _, images, readable = next(evaluation_batches(split, Preprocess(card_input(config.input)), len(rows), rows))
    found = images["image"][torch.from_numpy(readable)]
    # Images of `input.native` still have their original size.
    return nn.functional.interpolate(found, (config.input.size,) * 2, mode="bilinear", antialias=True)


def device_of(config: TrainConfig) -> torch.device:
    """Return the device of a run, of the first process if there are several."""
    return torch_device(Device.parse(config.device))


def fastest_precision(kind: str = "cpu") -> Literal["bf16", "fp32"]:
    """Return bf16 if a kind of device of this machine supports it natively, otherwise fp32."""
    if kind == "mps":
        return "fp32"
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def open_accelerator(config: TrainConfig, out: Path) -> Accelerator:
    """Return accelerate's view of devices, processes and trackers.

    Raises ConfigError: fp16 without a GPU or with SAM; unavailable device or tracker; another device than the process has used.
    """
    device = device_of(config)
    if config.precision == "fp16" and device.type != "cuda":
        raise ConfigError("precision = 'fp16' requires a GPU; on a CPU use 'bf16' or 'fp32'", value="fp16")
    if config.precision == "fp16" and config.optim.sam:
        raise ConfigError("optim.sam is not supported with precision = 'fp16'; use 'bf16' or 'fp32'", value="fp16")
    if device.type == "cuda":
        torch.cuda.set_device(device)  # Accelerate uses the current device in a single process.
    if config.tracker:
        run_dir.check_tracker(config.tracker)
    # Without this, several processes on a machine without GPU would not know of each other.
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    accelerator = Accelerator(
        cpu=device.type == "cpu" and (config.device != "auto" or several),
        mixed_precision="fp16" if config.precision == "fp16" else "no",
        log_with=config.tracker or None,
        project_dir=str(out) if config.tracker else None,
        # Heads without a loss and frozen stages have no gradients.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if config.device != "auto" and accelerator.device.type != device.type:
        problem = f"accelerate cannot change the device of a process, which is {accelerator.device}"
        raise ConfigError(f"device {config.device!r}: {problem}; train in a new process", value=config.device)
    if ":" in config.device and accelerator.num_processes > 1:
        raise ConfigError(f"device {config.device!r}: with several processes write cuda, without number", value=config.device)
    if config.tracker:
        run_dir.start_tracker(accelerator, config, out)
    return accelerator
