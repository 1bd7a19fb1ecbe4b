"""Rename the entries of a state dict: from the authors' module names to ours."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ..errors import WeightsError

Value = TypeVar("Value")
Rule = tuple[str, str | Callable[[re.Match[str]], str]]


def rename(state: Mapping[str, Value], rules: Sequence[Rule]) -> dict[str, Value]:
    r"""Return `state` with every rule, (pattern, replacement) as for `re.sub`, applied in order to every name.

    Raises WeightsError if two entries would get the same name.

    Example:
        >>> rename({"cat_head1.fc.weight": 0}, [(r"^cat_head(\d+)", r"heads.\1")])
        {'heads.1.fc.weight': 0}
    """
    renamed: dict[str, Value] = {}
    for name, value in state.items():
        ours = name
        for pattern, replacement in rules:
            ours = re.sub(pattern, replacement, ours)
        if ours in renamed:
            problem = f"two entries of the checkpoint would both be {ours!r}, one of them {name!r}"
            raise WeightsError(f"{problem}: not this model's layout; name another model")
        renamed[ours] = value
    return renamed


def children(theirs: str, ours: str, names: Mapping[str, str | int]) -> tuple[Rule, ...]:
    r"""Return rules that rename the children of a module: `theirs` is a pattern before their names, `ours` our name.

    Example:
        >>> rename({"net.se.fc1.weight": 0}, children(r"^net\.", "gate.", {"se.fc1": 0, "se.fc2": 2}))
        {'gate.0.weight': 0}
    """
    return tuple((rf"{theirs}{re.escape(name)}\.", f"{ours}{own}.") for name, own in names.items())


# Names of a ResNet's children in order: `nn.Sequential(*resnet.children())[i]` is the authors' `features.i`.
RESNET_CHILDREN: tuple[str, ...] = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4")
