"""When a model's classes are not those of the dataset: by name, stated, and the same for every model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from ..labels import canonical, map_scores, shared_classes


@dataclass(frozen=True, slots=True)
class Mapping:
    """How probabilities of a model become probabilities of the classes that are compared."""

    source: tuple[str, ...]
    """The model's classes."""
    classes: tuple[str, ...]
    """The classes compared: those of the dataset that the model knows, in the dataset's order."""
    unknown: tuple[str, ...]
    """Classes of the dataset that the model lacks; their images are left out."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """The model's classes that the dataset lacks: their probabilities are left out and the rest scaled to one."""
        return tuple(name for name in self.source if canonical(name) not in self.classes)

    @property
    def says(self) -> str:
        """The mapping in one sentence."""
        parts = []
        if self.dropped:
            parts.append(f"the model's {', '.join(self.dropped)} left out and the rest scaled to sum to one")
        if self.unknown:
            parts.append(f"images of {', '.join(self.unknown)} left out, which the model does not know")
        if parts:
            return f"{len(self.classes)} shared classes by name: {'; '.join(parts)}"
        return f"the same {len(self.classes)} classes" + (", in another order" if self.source != self.classes else "")

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Return (N, len(classes)) for (N, len(source))."""
        if self.source == self.classes:
            return probabilities
        return map_scores(probabilities, self.source, self.classes)


def mapping(source: Sequence[str], target: Sequence[str]) -> Mapping:
    """Return how a model with the classes `source` is judged on a dataset with the classes `target`.

    Raises:
        ConfigError: they share no class, or only one, so that nothing could be told apart.
    """
    if not target:  # nothing but valence, arousal or action units
        return Mapping(tuple(source), tuple(source), ())
    classes = shared_classes(source, target)
    if len(classes) < 2:
        raise ConfigError(
            f"the model's classes ({', '.join(source)}) and the dataset's ({', '.join(target)}) share "
            f"{f'only {classes[0]}' if classes else 'none'}: there is nothing to compare; name another dataset"
        )
    unknown = tuple(name for name in target if canonical(name) not in classes)
    return Mapping(tuple(source), classes, unknown)
