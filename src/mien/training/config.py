"""`TrainConfig`: the complete, immutable configuration of a training run.

The same declaration defines the TOML format of recipes, the flags of `mien train` (`--optim.lr=5e-4`) and the reference page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from .. import config as tables
from ..config import Amount, Count, Fraction, Positive, Range
from ..errors import ConfigError, did_you_mean
from . import recipes

OPTIMIZERS = ("sgd", "adam", "adamw", "radam")
SCHEDULES = ("constant", "step", "multi-step", "exponential", "plateau", "cosine", "one-cycle")


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Initial weights of the network; see `mien.training.init_weights`."""

    file: str = ""
    """Weights file, or the name of a bundled model; empty: random initialization."""
    kind: Literal[
        "mien", "author", "backbone", "ordered", "trunk", "efficientnet-lite0", "mobilenet-v2", "faceres", "sface"
    ] = "mien"
    """Layout of the file: weights of the same architecture from mien (`.safetensors`, `.onnx`), a checkpoint of the authors,
    a timm or torchvision backbone by its names or (`ordered`) by the order of its entries, SFace's trunk inside another network
    of mien (`trunk`), or one of four known `.npz` files."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture and initial weights."""

    name: str = "mien-base"
    """Name in `mien.models.MODELS`, `timm:NAME`, or `module:function`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the architecture. `num_classes` defaults to the number of classes of the dataset."""
    init: InitConfig = field(default_factory=InitConfig)
    """Initial weights."""
    scores: str = "logits"
    """Output field with the class scores."""
    heads: dict[str, str] = field(default_factory=dict)
    """Further linear heads on the `feature` of the network, output → label set: `{ferplus = "ferplus", lfw = "ferplus"}`."""


@dataclass(frozen=True, kw_only=True)
class Relabel:
    """Replacement of the labels of some samples, for example according to a second annotation."""

    label: str = ""
    """Label in the dataset that the rule applies to; empty: every label."""
    where: dict[str, str] = field(default_factory=dict)
    """Further columns of the dataset and the value that each must have: `{smile = "no"}`."""
    shares: dict[str, Amount] = field(default_factory=dict)
    """Probability of each class: `{happiness = 0.8, neutral = 0.2}`. A single class replaces the label itself, several only the
    target `soft`; empty: the samples become unlabeled."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """A dataset and its splits."""

    name: str = ""
    """Name of the dataset in loss terms (`loss.data`) and metrics; empty: `dataset`."""
    dataset: str = "fer2013"
    """Name in `mien.data.datasets.DATASETS`, or `module:attribute`."""
    root: str = "."
    """Folder of the dataset."""
    protocol: str = ""
    """How images are assigned to splits; empty: the first protocol of the dataset."""
    options: dict[str, str] = field(default_factory=dict)
    """Options of the dataset reader."""
    fraction: float = 0.1
    """Fraction of the training images that `held-out` protocols use for validation."""
    fold: int = 0
    """Validation fold of cross-validation protocols, counted from 0."""
    folds: int = 10
    """Number of folds."""
    draw: int = 0
    """Seed of random splits. It is independent of the seed of the run, so runs with several seeds share their splits."""
    labels: str = ""
    """Label set that defines the order of the network's classes; empty: the order of the dataset."""
    relabel: tuple[Relabel, ...] = ()
    """Rules that replace labels; the first matching rule applies to each sample."""
    weight: Amount = 1.0
    """Mean number of times that an epoch shows each sample. Each is shown ⌊rate⌋ or ⌈rate⌉ times."""
    balance: Fraction = 0.0
    """Class balancing within the dataset: the rate of a sample is proportional to (samples of its class) to the power of
    −`balance`. 0: equal rates; 0.5: square-root sampling; 1: balanced classes."""
    faces: Literal["whole", "detect"] = "whole"
    """`whole`: images are face crops. `detect`: images are photos; the face is detected, aligned and cropped by `input.crop` as
    in inference, and images without a face are skipped."""
    detector: str = "retinaface"
    """Detector of `faces = "detect"`."""
    leak_free: bool = True
    """Exclude training images that also occur, byte for byte, in the validation or test split."""
    limit: Count = 0
    """Maximum number of training images, the same fraction of every class; 0: all."""
    validation_limit: Count = 0
    """Maximum number of validation images; 0: all."""
    strict: bool = False
    """Raise an error at an unreadable image instead of skipping it and listing it in `skipped.txt`."""
    cache: str = ""
    """Folder for decoded and resized images; empty: keep them in memory."""


@dataclass(frozen=True, kw_only=True)
class InputConfig:
    """Input format of the network; it is also written to the card."""

    size: Positive = 48
    """Image side in pixels."""
    color: Literal["gray", "rgb"] = "rgb"
    """Color channels."""
    normalize: Literal["imagenet", "unit", "half"] = "imagenet"
    """Value range: ImageNet mean and standard deviation, 0 … 1 (`unit`), or −1 … 1 (`half`)."""
    resize: Literal["pil-bilinear", "cv2-bilinear"] = "pil-bilinear"
    """Interpolation used to resize images to `size`."""
    native: bool = False
    """Augment images at their original size and resize afterwards; all images must have the same size."""
    regions: dict[str, Positive] = field(default_factory=dict)
    """Further inputs, crops of the same face, name → side: `{eye = 90, nose = 90, mouth = 90}`."""
    crop: str = ""
    """Template in `mien.faces.alignment.TEMPLATES` for cropping faces from photos; empty: only face crops can be read."""
    margin: Annotated[float, Range(0.2, 5)] = 1.0
    """Side of the crops relative to the template."""
    sizes: dict[str, Positive] = field(default_factory=dict)
    """Progressive resizing, first epoch → side of the training images: `{0 = 40, 14 = 48}`. Empty: always `size`."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One term of the loss."""

    kind: str = "cross-entropy"
    """Name in `mien.training.recipes.TERMS`."""
    output: str = "logits"
    """Output field of the network; `heads.0` is the first of several tensors."""
    weight: float = 1.0
    """Factor."""
    data: tuple[str, ...] = ()
    """Names of the datasets on whose samples the term is computed; empty: all. Other samples count as zero in its mean."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the term: `{smoothing = 0.1}`."""


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """Mixing of image pairs and their losses."""

    mixup: Amount = 0.0
    """Alpha of the Beta distribution of mixup (Zhang et al. 2018); 0: off."""


@dataclass(frozen=True, kw_only=True)
class PseudoLabelConfig:
    """Pseudo-labels: missing annotations are replaced with confident predictions of a teacher, for each task."""

    confidence: Fraction = 0.0
    """Minimum probability of a class, or of the presence or absence of an action unit; 0: off."""
    tolerance: Amount = 0.1
    """Maximum difference between the predictions of valence and arousal for an image and its mirror image."""
    epoch: Count = 1
    """First epoch with pseudo-labels, counted from 0."""
    teacher: str = ""
    """Weights file of another network of the same architecture; empty: the averaged weights of the run (`optim.ema`)."""


@dataclass(frozen=True, kw_only=True)
class DistilConfig:
    """Knowledge distillation: loss terms of kind `distil` use the probabilities of a trained teacher as targets."""

    teacher: str = ""
    """Name of a bundled model, or path of a network with a card; empty: no teacher."""
    others: tuple[str, ...] = ()
    """Further teachers, averaged with the first. Each needs an output of the same name, or `scores` of the same classes."""
    views: Positive = 8
    """Number of epochs after which the batches repeat, so that the teacher's predictions can be cached. If `teacher` is the
    first step of `augment`, batches never repeat, and one prediction is cached for each image."""
    mirror: bool = False
    """Average the teacher's predictions for each image and its mirror image."""


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Selection and order of the training images of an epoch."""

    kind: Literal["shuffle", "once", "balanced"] = "shuffle"
    """`shuffle`: all images, a new order each epoch; `once`: all images, the same order each epoch; `balanced`: sampled with
    replacement, all classes equally often (soft labels: the mean over the classes of an image)."""
    samples: Count = 0
    """Images in an epoch of `balanced`; 0: the size of the training split."""
    drop_last: bool = True
    """Drop an incomplete last batch."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters with their own learning rate."""

    match: str
    """Shell pattern of parameter names: `trunk.*`."""
    lr: Amount = 1.0
    """Factor of the learning rate."""
    weight_decay: float | None = None
    """Weight decay instead of the common one."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimizer."""

    name: str = "sgd"
    """Algorithm: `sgd`, `adam`, `adamw`, `radam`, or `module:function` of (parameter groups, this config)."""
    lr: Amount = 0.1
    """Maximum learning rate."""
    momentum: Fraction = 0.9
    """Momentum of SGD."""
    nesterov: bool = True
    """Nesterov momentum."""
    betas: Annotated[tuple[float, float], Range(0, 1)] = (0.9, 0.999)
    """Decay rates of Adam, AdamW and RAdam."""
    weight_decay: Amount = 5e-4
    """Weight decay."""
    decay_all: bool = False
    """Apply weight decay to biases and normalization layers too, as most published recipes do."""
    clip: Amount = 0.0
    """Maximum gradient norm; 0: no clipping."""
    ema: Fraction = 0.0
    """Decay of the exponential moving average of the weights, which is then validated and saved; 0: off."""
    sam: Amount = 0.0
    """Radius rho of sharpness-aware minimization (Foret et al. 2021), which needs two passes a step; 0: off."""
    sam_batch_norm: Literal["once", "twice"] = "once"
    """Whether the second pass of SAM updates the BatchNorm statistics again, as published code does."""
    groups: tuple[Group, ...] = ()
    """Parameters with their own learning rate; the first matching group applies."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning-rate schedule."""

    kind: str = "one-cycle"
    """`constant`, `cosine`, `one-cycle`, `step`, `multi-step`, `exponential`, `plateau`, or `module:function` of (step, steps,
    steps of an epoch) that returns the factor of the rate. `step`, `multi-step`, `exponential` and `plateau` change after
    epochs, the others after every step."""
    warmup: Amount = 0.0
    """Linear warm-up from zero: below 1 a fraction of all steps, otherwise a number of epochs."""
    gamma: Amount = 0.1
    """Factor of `step`, `multi-step`, `exponential` and `plateau`."""
    every: Positive = 10
    """Period of `step` in epochs."""
    milestones: tuple[int, ...] = ()
    """Epochs after which `multi-step` reduces the rate."""
    patience: Count = 5
    """`plateau`: epochs without improvement before the rate is reduced, counted as torch does."""
    metric: str = ""
    """`plateau`: the validation metric to watch; empty: `validation.metric`."""
    threshold: float = 1e-4
    """`plateau`: minimum relative improvement."""
    floor: Fraction = 0.0
    """Minimum rate, as a fraction of the maximum."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Parameters that are trained from some epoch on."""

    epoch: Count = 0
    """First epoch of the stage, counted from 0."""
    train: tuple[str, ...] = ("*",)
    """Shell patterns of the trained parameters; all others are frozen."""
    batch_norm: Literal["live", "frozen"] = "live"
    """Whether BatchNorm layers with frozen parameters use and update batch statistics, or use their running statistics."""


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Selection of the best epoch. Training never opens the test split."""

    metric: str = "accuracy"
    """Metric to maximize: `accuracy`, `uar`, `macro_f1`, `nll` or `validation_loss` (minimized), `p` (multi-task),
    `HEAD.accuracy` for another head, `NAME.HEAD.accuracy` for another dataset, or a sum `A + B`. `last`: always keep the last
    epoch."""
    views: Annotated[int, Range(1, 2)] = 1
    """Test-time augmentation: 1 uses the image only, 2 averages over the image and its mirror image."""
    patience: Count = 0
    """Early stopping after this many epochs without improvement; 0: off."""
    certain: Fraction = 0.8
    """Target accuracy of the predictions above the abstention threshold of the card, which is chosen on the validation split.
    0: no threshold."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run; a recipe file contains exactly these fields."""

    about: str = ""
    """Description of the recipe: published constants, corrections, simplifications."""
    flaws: tuple[str, ...] = ()
    """Reasons why its results are not comparable, such as model selection on the test set; shown with every result."""
    epochs: Positive = 40
    """Passes over the training split."""
    batch: Positive = 128
    """Batch size, over all processes."""
    accumulate: Positive = 1
    """Gradient accumulation: number of parts into which a batch is divided. BatchNorm sees each part separately."""
    seed: int = 1
    """Seed of initial weights, sample order and augmentation."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Precision of the network; losses and weights are float32. `auto`: bf16 if the processor supports it natively (emulation
    is many times slower), otherwise fp32."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`, or `auto` for the best available device. With several processes each uses its own GPU."""
    compile: bool = False
    """Use `torch.compile`: the first steps take minutes, later ones are faster. Dropout masks, and thus results, differ."""
    channels_last: bool = True
    """Use the channels-last memory format, which is faster for convolutions."""
    sync_batch_norm: bool = False
    """Synchronize BatchNorm statistics over all processes."""
    threads: Count = 0
    """CPU threads of each process; 0: torch's default."""
    workers: Count = 1
    """Threads that prepare batches in advance."""
    checkpoint_steps: Count = 0
    """Steps between checkpoints; 0: one after each epoch."""
    tracker: str = ""
    """Experiment tracker of accelerate (`tensorboard`, `wandb` …)."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    data: tuple[DataConfig, ...] = (DataConfig(),)
    """The dataset, `[data]`, or several, `[[data]]`. Classes, calibration and metrics without prefix are those of the first;
    metrics of the others are `NAME.HEAD.accuracy`."""
    input: InputConfig = field(default_factory=InputConfig)
    """Input format of the network."""
    augment: tuple[dict[str, Any], ...] = ()
    """Augmentation of the training images: transforms of `mien.training.augmentation.TRANSFORMS`, in order."""
    augment_together: bool = True
    """Whether all crops of a face (`input.regions`) get the same random augmentation."""
    mix: MixConfig = field(default_factory=MixConfig)
    """Mixing of image pairs."""
    pseudo_labels: PseudoLabelConfig = field(default_factory=PseudoLabelConfig)
    """Pseudo-labels for missing annotations."""
    distil: DistilConfig = field(default_factory=DistilConfig)
    """Knowledge distillation."""
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    """Selection and order of the training images."""
    loss: tuple[Term, ...] = (Term(),)
    """Terms of the loss, which are added."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """The optimizer."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """The learning-rate schedule."""
    stages: tuple[Stage, ...] = ()
    """Freezing of parameters; empty: train all of them."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    """Model selection."""

    @staticmethod
    def load(recipe: str | Path, overrides: Sequence[str] | Mapping[str, Any] = ()) -> "TrainConfig":
        """Read a recipe.

        Args:
            recipe: a TOML file, or the name of a recipe of the package. `extends = "NAME"` in it starts from another recipe.
            overrides: fields to change: `["optim.lr=5e-4"]` (with or without leading dashes), or `{"optim.lr": 5e-4}`. `lr`,
                `weight_decay`, `size`, `fold`, `folds` and `protocol` are short for `optim.lr` etc.

        Raises:
            ConfigError: missing file, invalid TOML, unknown key, or invalid value.

        Example:
            >>> TrainConfig.load("rafdb-dan-mien", ["--lr=5e-4"]).optim.lr
            0.0005
        """
        path = recipes.find(recipe)
        table = recipes.read(path)
        recipes.override(table, overrides)
        return TrainConfig.of(table, str(path))

    @staticmethod
    def of(table: Mapping[str, Any], where: str = "config") -> "TrainConfig":
        """Build a config from plain tables, as `to_dict` returns them. Raises ConfigError: unknown key or invalid value."""
        init = table.get("model", {}).get("init") if isinstance(table.get("model"), Mapping) else None
        if isinstance(init, str):
            message = f"{where}: model.init is a table since mien 0.2; write init = {{ file = {init!r}, kind = … }}"
            raise ConfigError(message, value=init)
        config = tables.build(TrainConfig, table, where, short=recipes.ALIASES)
        named = {"optim: name": (config.optim.name, OPTIMIZERS), "schedule: kind": (config.schedule.kind, SCHEDULES)}
        for field_, (name, known) in named.items():
            if name not in known and ":" not in name:
                hint = did_you_mean(name, known)
                expected = f"one of {', '.join(known)} or module:function"
                raise ConfigError(f"{where}: {field_} must be {expected}, got {name!r}{hint}", value=name, expected=known)
        for epoch in config.input.sizes:
            if not epoch.isdecimal():
                raise ConfigError(f"{where}: input.sizes: keys must be epochs such as 0, got {epoch!r}", value=epoch)
        recipes.check(config)
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return every field as plain tables and lists, which `tomli_w` writes and `of` reads.

        A single dataset is a table, as in recipes; several are a list of tables.
        """
        table = tables.plain(self)
        if len(table["data"]) == 1:
            (table["data"],) = table["data"]
        return table

    def size_at(self, epoch: int) -> int:
        """Return the side of the training images in an epoch."""
        started = [(int(start), side) for start, side in self.input.sizes.items() if int(start) <= epoch]
        return max(started)[1] if started else self.input.size


def upgrade(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a run that mien 0.1 saved (`config.toml`, or inside a checkpoint) in the format of 0.2."""
    table = _renamed(saved)
    if "fill" in table:  # The section only: the parameter `fill` of the transform `erase` has kept its name.
        table["pseudo_labels"] = table.pop("fill")
    table.pop("loss_weighting", None)
    table.get("mix", {}).pop("cutmix", None)
    model = table.get("model", {})
    if isinstance(model.get("init"), str):
        model["init"] = {"file": model["init"]}
    return table


def _renamed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key if key == "fill" else tables.RENAMED.get(key, key): _renamed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renamed(item) for item in value]
    return tables.RENAMED.get(value, value) if isinstance(value, str) else value
