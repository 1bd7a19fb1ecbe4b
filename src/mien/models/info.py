"""What architectures share: the types of their descriptions in `architectures.toml`, and the renaming of authors' entries."""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from ..cards import ARCHITECTURES
from ..errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Input:
    """One image a network reads, by the name of the argument of `forward`: `"image"`, `"eye"` …

    `size` is the side in pixels that the published network was trained at; `fits` tells whether a side works, and `sizes` in
    words which do: it ends the sentence "height and width must be …". `channels` is 3 for RGB, 1 for gray.
    """

    name: str
    size: int
    sizes: str
    fits: Callable[[int], bool]
    channels: int = 3

    def check(self, image: "Tensor") -> None:
        """Raise `ValueError` unless `image` is (N, channels, H, W) with sides that work."""
        shape = tuple(image.shape)
        if len(shape) != 4 or shape[1] != self.channels:
            raise ValueError(f"{self.name}: expected images of shape (N, {self.channels}, height, width), got {shape}")
        if not (self.fits(shape[2]) and self.fits(shape[3])):
            sides = f"got {shape[2]} and {shape[3]}; resize to {self.size}"
            raise ValueError(f"{self.name}: height and width must be {self.sizes}, {sides}")


def at_least(pixels: int, name: str = "image", size: int = 224) -> Input:
    """Return an input that takes any height and width from `pixels` on."""
    return Input(name, size, f"{pixels} or more", lambda side: side >= pixels)


@dataclass(frozen=True, slots=True)
class Figure:
    """One published result, on a dataset as the authors call it, with a note on what to know before comparing with it.

    `recipes` are the names of those that train what the result is of; or a sentence, why none does.
    """

    dataset: str
    value: float
    metric: str = "accuracy %"
    note: str = ""
    recipes: tuple[str, ...] | str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Everything about an architecture that is not code; `name` is its key in `MODELS`.

    `repository` is the authors' code, with the commit that was read; `license` is that of their code and weights, ours is
    Apache-2.0. `inputs` are the images that `forward` takes, in order, `outputs` output field → its meaning. `published` are
    the authors' results, read in `source`. `cam_layers` are the modules whose (N, C, H, W) output Grad-CAM uses. `diagram` is
    Mermaid source, in which `${module.path}` is the shape of that module's output, `${image}` of an input.
    """

    name: str
    summary: str
    paper: str
    repository: str
    license: str
    inputs: tuple[Input, ...]
    outputs: Mapping[str, str]
    published: tuple[Figure, ...] = ()
    source: str = ""
    cam_layers: tuple[str, ...] = ()
    diagram: str = field(default="", repr=False)
    options: Mapping[str, str] = field(default_factory=dict)


Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """What one image costs: numbers in all parameters, and how many of them are dead, that is, no output depends on them.

    `macs` are the multiply-accumulates of convolutions, linear layers and attention products for a batch of one. `outputs` is
    output field → its shape without the batch, `field[i]` for a field of several tensors; `shapes` is module path or input name
    → the same.
    """

    parameters: int
    dead: int
    macs: int
    outputs: Mapping[str, Shape]
    shapes: Mapping[str, Shape]


@cache
def described() -> Mapping[str, dict[str, Any]]:
    """Return name → table of `architectures.toml`, with costs and inputs as plain values; this needs no torch."""
    tables = tomllib.loads(ARCHITECTURES.read_text(encoding="utf-8"))
    for table in tables.values():
        if "published" in table:  # The bundled networks are described by their cards.
            table["published"] = [{"metric": "accuracy %", "note": "", **figure} for figure in table["published"]]
    return tables


def model_info(name: str, inputs: tuple[Input, ...]) -> ModelInfo:
    """Return the description of an architecture of the package."""
    table = described()[name]
    plain = ("summary", "paper", "repository", "license", "source", "outputs", "diagram", "options")
    names = [row["recipes"] if isinstance(row["recipes"], str) else tuple(row["recipes"]) for row in table["published"]]
    figures = tuple(Figure(**row | {"recipes": each}) for row, each in zip(table["published"], names, strict=True))
    texts = {key: table[key] for key in plain}
    return ModelInfo(name, inputs=inputs, published=figures, cam_layers=tuple(table["cam_layers"]), **texts)


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
