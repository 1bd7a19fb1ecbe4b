"""`TrainConfig`: the complete, frozen description of one training run. A knob is a field here or it does not exist.

The same declaration gives the TOML form (a recipe), the flags of `mien train` (`--optim.lr=5e-4`) and the reference page.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .. import config as tables
from ..errors import ConfigError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network, and what it starts from."""

    name: str = "mien-base"
    """Name in `mien.models.MODELS`, `timm:NAME`, or `module:function`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the network. `num_classes` is set from the data where the network has it and it is not given."""
    init: str = ""
    """What the weights start from: `mien-base`, `mien-nano`, or a file (`.safetensors`, `.onnx`, `.npz`, an authors'
    checkpoint); nothing: random weights."""
    scores: str = "logits"
    """Field of the network's answer that holds the class scores."""


@dataclass(frozen=True, kw_only=True)
class Relabel:
    """Replaces the label of some samples, for example by what a second annotation says."""

    label: str = ""
    """Label in the dataset that the rule applies to; empty: every label."""
    where: dict[str, str] = field(default_factory=dict)
    """Further columns of the dataset and the value that each must have: `{smile = "no"}`."""
    shares: dict[str, float] = field(default_factory=dict)
    """Probability of each class: `{happiness = 0.8, neutral = 0.2}`. A single class replaces the label itself, several only the
    target `soft`; empty: the samples are unlabeled."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """One dataset to learn from."""

    name: str = ""
    """What loss terms (`loss.data`) and metrics call it; empty: the name of the dataset."""
    dataset: str = "fer2013"
    """Name in `mien.data.datasets.DATASETS`, or `module:attribute`."""
    root: str = "."
    """Folder that holds the data."""
    protocol: str = ""
    """How the images are dealt to the splits; nothing: the dataset's first protocol."""
    options: dict[str, str] = field(default_factory=dict)
    """Options of the dataset's reader."""
    fraction: float = 0.1
    """Share of the training images that `held-out` protocols give to validation."""
    fold: int = 0
    """Fold of protocols that have folds."""
    folds: int = 10
    """Number of folds."""
    draw: int = 0
    """Seed of protocols that draw lots. It is not the seed of the run: runs of several seeds share their splits."""
    labels: str = ""
    """Label set whose order the network's classes have; nothing: the dataset's own order."""
    relabel: tuple[Relabel, ...] = ()
    """Rules that replace labels; for each sample the first rule that matches counts."""
    weight: float = 1.0
    """How often an epoch shows each sample, on average over the dataset. Samples are shown ⌊rate⌋ or ⌈rate⌉ times."""
    balance: float = 0.0
    """How far classes are balanced within the dataset: the rate of a sample is proportional to (samples of its class) to the
    power of −`balance`. 0: all samples alike; 0.5: square-root sampling; 1: all classes alike."""
    faces: Literal["whole", "detect"] = "whole"
    """`whole`: every image is a face crop. `detect`: images are photographs; the face is detected, aligned and cropped by
    `input.crop`, as in inference. Images without a face are left out."""
    detector: str = "retinaface"
    """Detector of `faces = "detect"`."""
    leak_free: bool = True
    """Leave out training images that also occur, byte for byte, in the validation or test split."""
    limit: int = 0
    """Use only so many training images, the same share of every class; 0 means all."""
    validation_limit: int = 0
    """Likewise for validation."""
    strict: bool = False
    """Stop at an image that cannot be read, instead of leaving it out and listing it in `skipped.txt`."""
    cache: str = ""
    """Folder for decoded and resized images; nothing: in memory."""


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """What the network is fed; the weights' card says the same."""

    size: int = 48
    """Side of the image in pixels."""
    color: Literal["gray", "rgb"] = "rgb"
    """Channels."""
    normalize: Literal["imagenet", "unit", "half"] = "imagenet"
    """Value range: ImageNet's mean and deviation, 0 … 1 (`unit`), or −1 … 1 (`half`)."""
    resize: Literal["pil-bilinear", "cv2-bilinear"] = "pil-bilinear"
    """How images are brought to `size`."""
    native: bool = False
    """Augment images at the size they have and resize afterwards; all must then be of one size."""
    regions: dict[str, int] = field(default_factory=dict)
    """Further images of the same face, name → side: `{eye = 90, nose = 90, mouth = 90}`."""
    crop: str = ""
    """Template in `mien.faces.alignment.TEMPLATES` by which faces are cut out of photographs; nothing: whole images only."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Side of the training images from each epoch on: `{0 = 40, 14 = 48}` trains small first. Nothing: always `size`."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One summand of the loss."""

    kind: str = "cross-entropy"
    """Name in `mien.training.criterion.TERMS`."""
    output: str = "logits"
    """Field of the network's answer; `heads.0` is the first of several."""
    weight: float = 1.0
    """Factor."""
    data: tuple[str, ...] = ()
    """Names of the datasets whose samples the term is computed on; empty: all. Other samples count as zero in its mean."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the loss: `{smoothing = 0.1}`."""


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """Images mixed in pairs, with their losses mixed alike."""

    mixup: float = 0.0
    """Alpha of mixup's Beta distribution (Zhang et al. 2018); 0 is off."""
    cutmix: float = 0.0
    """Alpha of CutMix's (Yun et al. 2019); 0 is off. With both, each batch draws one of them."""


@dataclass(frozen=True, kw_only=True)
class FillConfig:
    """Missing annotations filled with a teacher's confident answers: pseudo-labels, task by task."""

    confidence: float = 0.0
    """Probability from which a class, or an action unit's presence or absence, is taken; 0 is off."""
    tolerance: float = 0.1
    """Valence and arousal are taken where the teacher says the same of the mirrored face, within this."""
    epoch: int = 1
    """First epoch that is filled, counted from 0."""
    teacher: str = ""
    """File of another network of the same kind; nothing: the run's own averaged weights (`optim.ema`)."""


@dataclass(frozen=True, kw_only=True)
class DistilConfig:
    """A finished network whose probabilities are learned from, by loss terms of kind `distil`."""

    teacher: str = ""
    """Name of a bundled model, or path of a network with its card; nothing: no teacher."""
    others: tuple[str, ...] = ()
    """More such networks: the mean of the probabilities of all is learned. Each gives its output of the same name, or else its
    `scores` if these have the same classes."""
    views: int = 8
    """Epochs after which the same batches come again, with the teacher's answers kept; it then costs no more. Where `teacher`
    is the first step of `augment`, no batch comes again, and each image's one answer is kept."""
    mirror: bool = False
    """Ask about each image and its mirror image, and learn the mean of both answers."""


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Which training images an epoch shows, in which order."""

    kind: Literal["shuffle", "once", "balanced"] = "shuffle"
    """`shuffle`: all, in a new order each epoch; `once`: all, in one order for the whole run; `balanced`: drawn with
    replacement, every class alike (soft labels: the mean over an image's classes)."""
    samples: int = 0
    """Images an epoch of `balanced`; 0: as many as there are."""
    drop_last: bool = True
    """Leave out a last batch that is not full."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters with a rate of their own."""

    match: str
    """Shell pattern of parameter names: `features.*`."""
    lr: float = 1.0
    """Factor of the learning rate."""
    weight_decay: float | None = None
    """Weight decay instead of the common one."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimizer."""

    name: Literal["sgd", "adam", "adamw", "radam"] = "sgd"
    """Algorithm."""
    lr: float = 0.1
    """Highest learning rate."""
    momentum: float = 0.9
    """Momentum of SGD."""
    nesterov: bool = True
    """Nesterov's form of it."""
    betas: tuple[float, ...] = (0.9, 0.999)
    """Decay rates of the other algorithms."""
    weight_decay: float = 5e-4
    """Weight decay."""
    decay_all: bool = False
    """Decay biases and normalization too, as published recipes do; otherwise only matrices and kernels decay."""
    clip: float = 0.0
    """Largest norm of the gradient; 0: not clipped."""
    ema: float = 0.0
    """Decay of the moving average of the weights, which is then what is validated and kept; 0: none."""
    sam: float = 0.0
    """Radius rho of sharpness-aware minimization (Foret et al. 2021); 0 is off. Every step then costs two passes."""
    sam_batch_norm: Literal["once", "twice"] = "once"
    """Whether the second pass of SAM moves the statistics of BatchNorm again, as published code does."""
    groups: tuple[Group, ...] = ()
    """Parameters with rates of their own; the first that matches counts."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate changes."""

    kind: Literal["constant", "step", "multi-step", "exponential", "plateau", "cosine", "one-cycle"] = "one-cycle"
    """`step`, `multi-step`, `exponential` and `plateau` change after epochs, the others with every step."""
    warmup: float = 0.0
    """Linear rise from zero: a fraction of all steps below 1, a number of epochs from 1 on."""
    gamma: float = 0.1
    """Factor of `step`, `multi-step`, `exponential` and `plateau`."""
    every: int = 10
    """Epochs between the steps of `step`."""
    milestones: tuple[int, ...] = ()
    """Epochs after which `multi-step` multiplies."""
    patience: int = 5
    """`plateau`: epochs without a better validation metric before it multiplies (torch's counting)."""
    metric: str = ""
    """`plateau`: the validation figure that it watches; nothing: that of `validation.metric`."""
    threshold: float = 1e-4
    """`plateau`: relative improvement that counts."""
    floor: float = 0.0
    """Lowest rate, as a fraction of the highest."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """From some epoch on, which parameters learn."""

    epoch: int = 0
    """First epoch of the stage, counted from 0."""
    train: tuple[str, ...] = ("*",)
    """Shell patterns of the parameters that learn; all others are frozen."""
    batch_norm: Literal["live", "frozen"] = "live"
    """Whether BatchNorm inside frozen parts still takes the batch's statistics, or those it has."""


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """How the best epoch is chosen. The test split is never opened by training."""

    metric: str = "accuracy"
    """What is best: `accuracy`, `uar`, `macro_f1`, `nll`, `p` (multi-task); of another head `HEAD.accuracy`, of another dataset
    `NAME.HEAD.accuracy`; `A + B` adds.
    `last`: the last epoch is kept, whatever it gives."""
    views: int = 1
    """Images shown for each face: 1 as it is, 2 with its mirror image."""
    patience: int = 0
    """Stop after so many epochs without a better metric; 0: never."""
    certain: float = 0.8
    """Share of right answers wanted among those that are given: the card's threshold, below which the network abstains, is the
    lowest confidence that reaches it on the validation split. 0: it never abstains."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run: a recipe file holds exactly these fields."""

    about: str = ""
    """What the recipe is: published constants, what is corrected, what is reduced."""
    flaws: tuple[str, ...] = ()
    """What makes its figures incomparable, such as selection on the test set; printed with every figure."""
    epochs: int = 40
    """Passes over the training split."""
    batch: int = 128
    """Images a step, over all processes."""
    accumulate: int = 1
    """Parts that a batch is computed in, one after the other; BatchNorm sees each part alone."""
    seed: int = 1
    """Seed of weights, order and augmentation."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the network's computation; losses and weights are float32. `auto`: bf16 where the processor has
    instructions for it, else fp32 (emulated bf16 is many times slower)."""
    device: str = "auto"
    """Where the network learns: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto` for the best that torch finds. With several processes
    each takes a GPU of its own."""
    compile: bool = False
    """Run the network through `torch.compile`: the first steps take minutes, the others less time. Dropout then draws other
    numbers, so figures are not those of a plain run."""
    channels_last: bool = True
    """Memory layout that suits convolutions."""
    sync_batch_norm: bool = False
    """With several processes, take BatchNorm's statistics over all of them."""
    threads: int = 0
    """Threads of each process; 0: torch's own choice."""
    workers: int = 1
    """Threads that prepare the coming batches."""
    checkpoint_steps: int = 0
    """Write the state every so many steps; 0: after each epoch."""
    tracker: str = ""
    """A tracker of accelerate (`tensorboard`, `wandb` …) that gets every epoch's figures too."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    data: tuple[DataConfig, ...] = (DataConfig(),)
    """What is learned from: `[data]`, or `[[data]]` for each of several datasets. The network's classes, the calibration and
    metrics without a prefix are those of the first; metrics of another are `NAME.HEAD.accuracy`."""
    input: InputConfig = field(default_factory=InputConfig)
    """What the network is fed."""
    augment: tuple[dict[str, Any], ...] = ()
    """How training images are varied: steps of `mien.training.augmentation.STEPS`, in order."""
    augment_together: bool = True
    """Whether regions of a face are varied as the face is, or each by draws of its own."""
    mix: MixConfig = field(default_factory=MixConfig)
    """Mixed images."""
    fill: FillConfig = field(default_factory=FillConfig)
    """Pseudo-labels for what is not annotated."""
    distil: DistilConfig = field(default_factory=DistilConfig)
    """A teacher."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """Which images, in which order."""
    loss: tuple[Term, ...] = (Term(),)
    """Summands of the loss."""
    loss_weighting: Literal["fixed", "uncertainty"] = "fixed"
    """`uncertainty` learns a factor for each term beside its weight (Kendall et al. 2018), for tasks of different scale."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """The optimizer."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """The learning rate."""
    stages: tuple[Stage, ...] = ()
    """Freezing; nothing: all parameters learn."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """Selection."""

    @staticmethod
    def load(path: str | Path, overrides: Sequence[str] | Mapping[str, Any] = ()) -> TrainConfig:
        """Read a recipe.

        Args:
            path: the TOML file.
            overrides: fields to change: `["optim.lr=5e-4"]` (with or without leading dashes), or `{"optim.lr": 5e-4}`.

        Raises:
            ConfigError: the file is missing, no TOML, or has a key or a type that no field has.

        Example:
            >>> import pathlib, tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     recipe = pathlib.Path(folder, "mine.toml")
            ...     _ = recipe.write_text("epochs = 3")
            ...     TrainConfig.load(recipe, ["--optim.lr=5e-4"]).optim.lr
            0.0005
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            near = did_you_mean(path.name, [each.name for each in path.parent.glob("*.toml")])
            raise ConfigError(f"recipe {path} cannot be read: {getattr(error, 'strerror', error)}{near}") from error
        table = tables.parse(text, f"recipe {path}")
        given = overrides if isinstance(overrides, Mapping) else dict(map(_assignment, overrides))
        for key, value in given.items():
            _assign(table, key, value)
        return TrainConfig.of(table, str(path))

    @staticmethod
    def of(table: Mapping[str, Any], where: str = "config") -> TrainConfig:
        """Build a config from plain tables, as `to_dict` gives them; errors as of `load`."""
        return tables.build(TrainConfig, table, where)

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain tables and lists, `None` left out: what `tomli_w` writes and `of` reads.

        A single dataset is a table, `data`, as recipes write it; several are a list of tables.
        """
        table = tables.plain(self)
        if len(table["data"]) == 1:
            (table["data"],) = table["data"]
        return table

    def size_at(self, epoch: int) -> int:
        """Return the side of the training images in an epoch."""
        return max(
            ((int(start), side) for start, side in self.input.sizes.items() if int(start) <= epoch),
            default=(0, self.input.size),
        )[1]


def _assignment(text: str) -> tuple[str, Any]:
    """Read `a.b=value`: the value is TOML where it can be read as TOML, else text."""
    key, equals, value = text.removeprefix("--").partition("=")
    if not equals:
        raise ConfigError(f"{text!r} sets nothing; write FIELD=VALUE, for example optim.lr=5e-4")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return key, value


def _assign(table: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.replace("-", "_").split(".")
    inner: Any = table
    for name in path:
        if isinstance(inner, list):
            if not (name.isdecimal() and int(name) < len(inner)):
                raise ConfigError(f"{key} cannot be set: {name!r} must be an index from 0 to {len(inner) - 1}")
            inner = inner[int(name)]
        else:
            inner = inner.setdefault(name, {})
        if not isinstance(inner, (dict, list)):
            raise ConfigError(f"{key} cannot be set: {name} is not a table")
    if not isinstance(inner, dict):
        raise ConfigError(f"{key} cannot be set: {path[-1]} is a list of {len(inner)} tables; write {'.'.join(path)}.0.{last}")
    inner[last] = value
