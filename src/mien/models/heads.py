"""Further linear heads on the `feature` of any network: for a second set of labels, or the labels of another dataset.

A head is an `nn.Linear` under `extra_heads`, computed by a hook after the network; its scores are a further field of the
output. Names and values of everything else stay the same.
"""

from collections import namedtuple
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError

PREFIX = "extra_heads."  # start of the names of the parameters of further heads


class Heads(nn.ModuleDict):
    """Linear heads by name."""

    def forward(self, feature: Tensor) -> list[Tensor]:
        """Return the scores (N, classes) of each head for features (N, D)."""
        return [head(feature) for head in self.values()]


def add_heads(network: nn.Module, sizes: Mapping[str, int], width: int) -> None:
    """Add linear heads to a network, in place: name → number of classes; `width` is the length of its `feature`."""
    network.add_module(PREFIX[:-1], Heads({name: nn.Linear(width, size) for name, size in sizes.items()}))
    network.register_forward_hook(_with_heads)


def feature_width(output: Any, names: Mapping[str, Any]) -> int:
    """Return the length of the feature in the output of a network to which heads with these names are added.

    Raises ConfigError: the output `feature` is missing, or a head has the name of an output.
    """
    feature = getattr(output, "feature", None)
    if feature is None:
        raise ConfigError("model.heads: the network has no output 'feature'", value="feature", expected=output._fields)
    for name in names:
        if hasattr(output, name):
            raise ConfigError(f"model.heads: the network already has an output {name!r}; choose another name", value=name)
    return feature.shape[1]


def output_type(network: nn.Module, kind: type) -> type:
    """Return the type of the output of a network whose own `forward` returns a NamedTuple of type `kind`."""
    heads = getattr(network, PREFIX[:-1], None)
    return kind if heads is None else _extended(kind, tuple(heads))


@cache
def _extended(kind: type, names: tuple[str, ...]) -> type:
    fields = namedtuple(kind.__name__, (*kind._fields, *names))  # pyrefly: ignore
    return type(kind.__name__, (fields,), {name: value for name, value in vars(kind).items() if isinstance(value, property)})


def _with_heads(network: nn.Module, inputs: Any, output: Any) -> Any:
    heads: Any = network.extra_heads
    return _extended(type(output), tuple(heads))(*output, *heads(output.feature))
