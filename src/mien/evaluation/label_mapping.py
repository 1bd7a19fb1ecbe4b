"""Map the classes of a model to those of a dataset, by name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from ..labels import canonical, map_scores, shared_classes


@dataclass(frozen=True, slots=True)
class Mapping:
    """Mapping from the probabilities of a model to those of the compared classes."""

    source: tuple[str, ...]  # the model's classes
    classes: tuple[str, ...]  # compared classes: those of the dataset that the model has, in the dataset's order
    unknown: tuple[str, ...]  # classes of the dataset that the model lacks; their images are excluded

    @property
    def dropped(self) -> tuple[str, ...]:
        """Classes of the model that the dataset lacks; their probabilities are dropped and the rest rescaled."""
        return tuple(name for name in self.source if canonical(name) not in self.classes)

    @property
    def says(self) -> str:
        """The mapping in one sentence."""
        parts = []
        if self.dropped:
            parts.append(f"the model's {', '.join(self.dropped)} dropped and the rest rescaled to sum to one")
        if self.unknown:
            parts.append(f"images of {', '.join(self.unknown)} excluded, which the model does not have")
        if parts:
            return f"{len(self.classes)} shared classes by name: {'; '.join(parts)}"
        return f"the same {len(self.classes)} classes" + (", in another order" if self.source != self.classes else "")

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Return (N, len(classes)) for (N, len(source))."""
        if self.source == self.classes:
            return probabilities
        return map_scores(probabilities, self.source, self.classes)


def mapping(source: Sequence[str], target: Sequence[str]) -> Mapping:
    """Return the mapping from a model's classes to a dataset's; raises ConfigError for fewer than two common classes."""
    if not target:  # only valence, arousal or action units are annotated
        return Mapping(tuple(source), tuple(source), ())
    classes = shared_classes(source, target)
    if len(classes) < 2:
        both = f"the classes of the model ({', '.join(source)}) and of the dataset ({', '.join(target)})"
        message = f"{both} have {f'only {classes[0]}' if classes else 'none'} in common; expected two or more"
        raise ConfigError(f"{message}, name another dataset", value=tuple(source), expected=tuple(target))
    return Mapping(tuple(source), classes, tuple(name for name in target if canonical(name) not in classes))
