"""`TrainConfig`: the complete, frozen description of one training run. A knob is a field here or it does not exist."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is learned from."""

    root: str = "../shared/data/fer2013"
    """Folder that holds fer2013.npz."""
    leak_free: bool = True
    """Drop training pictures whose pixels also occur in the validation or test split."""
    limit: int = 0
    """Use only the first pictures of each split; 0 means all. For trying things out."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How a training picture is varied; every range is symmetric and drawn uniformly for each picture."""

    rotate: float = 15.0
    """Largest rotation in degrees."""
    scale: float = 0.15
    """Largest relative change of size."""
    shift: float = 0.08
    """Largest shift as a fraction of the side."""
    light: float = 0.3
    """Largest relative change of contrast, and of brightness in units of the full range."""
    blur: float = 0.1
    """Probability that a picture is halved and enlarged again."""
    erase: float = 0.25
    """Probability that a rectangle is replaced by noise."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Stochastic gradient descent with Nesterov momentum and a one-cycle learning rate."""

    lr: float = 0.1
    """Highest learning rate."""
    warmup: float = 0.1
    """Fraction of all steps in which the rate rises to its highest value; a cosine takes it to zero after that."""
    momentum: float = 0.9
    """Nesterov momentum."""
    weight_decay: float = 5e-4
    """Decay of matrices and kernels; biases and normalisation are left alone."""
    clip: float = 5.0
    """Largest norm of the gradient."""
    ema: float = 0.998
    """Decay of the moving average of the weights, which is what is evaluated and kept."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run: a recipe file holds exactly these fields."""

    model: str = "mien-base"
    """Name in `mien.models.MODELS`."""
    epochs: int = 40
    """Passes over the training split."""
    batch: int = 128
    """Pictures a step."""
    sizes: dict[str, int] = field(default_factory=lambda: {"0": 48})
    """Side of the pictures from each epoch on: `{"0" = 40, "14" = 48}` trains small first."""
    smoothing: float = 0.1
    """Label smoothing of the FER2013 head."""
    ferplus_weight: float = 1.0
    """Weight of the FERPlus head's loss beside the FER2013 head's."""
    seed: int = 1
    """Seed of weights, order and augmentation."""
    threads: int = 2
    """Threads of the run."""
    bf16: bool = True
    """Compute in bfloat16 where autocast allows it."""
    data: DataConfig = field(default_factory=DataConfig)
    """What is learned from."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How pictures are varied."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """The optimizer."""

    @staticmethod
    def load(path: str | Path) -> TrainConfig:
        """Read a recipe.

        Raises:
            ConfigError: the file is missing, no TOML, or has a key or a type that no field has.
        """
        path = Path(path)
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"recipe {path} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"recipe {path} is not valid TOML: {error}") from error
        return _build(TrainConfig, table, str(path))

    def size_at(self, epoch: int) -> int:
        """Return the side of the training pictures in an epoch."""
        return max((int(start), side) for start, side in self.sizes.items() if int(start) <= epoch)[1]


def _build(kind: type, table: dict[str, Any], where: str) -> Any:
    types = get_type_hints(kind)
    for key, value in table.items():
        if key not in types:
            near = difflib.get_close_matches(key, types, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(types)}"
            raise ConfigError(f"{where}: unknown key {key!r}{hint}")
        wanted = types[key]
        if dataclasses.is_dataclass(wanted):
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: {key} must be a table, not {value!r}")
            table = {**table, key: _build(wanted, value, f"{where} [{key}]")}
        elif wanted is float and isinstance(value, int) and not isinstance(value, bool):
            table = {**table, key: float(value)}
        elif wanted in (int, float, str, bool) and type(value) is not wanted:
            raise ConfigError(f"{where}: {key} must be a {wanted.__name__}, not {value!r}")
    return kind(**table)
