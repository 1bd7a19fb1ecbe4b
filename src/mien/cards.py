"""The card of a weight file: the unit of truth about labels, crop, colour, licence, data and measured numbers.

A card is a TOML file beside the weights, and the same text inside every ONNX file that the package exports (metadata key
`mien.card`). A file without a card, or one whose card does not fit the file, is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .errors import WeightsError, shown
from .lookup import lookup
from .weights import CARDS, WEIGHTS, verify

METADATA_KEY = "mien.card"

MAX_SIDE = 4096
"""Sides of pictures beyond which a card is refused: a number mistyped, or made to fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """What the network wants to be fed."""

    size: tuple[int, ...]
    """Height and width of the picture."""
    colour: Literal["grey", "rgb", "bgr"] = "rgb"
    """Channels and their order."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    """Order of the axes."""
    scale: float = 1 / 127.5
    """Values are pixel × scale + offset, channel by channel …"""
    offset: tuple[float, ...] = (-1.0,)
    """… with pixels 0 … 255; one offset for all channels or one for each …"""
    std: tuple[float, ...] = ()
    """… and then divided by these, one for all channels or one for each; nothing: not divided."""
    resize: Literal["pil-bilinear", "cv2-bilinear"] = "pil-bilinear"
    """How a whole picture is brought to `size`."""
    dtype: Literal["float32", "uint8"] = "float32"
    """float32: the values above, at `size`. uint8: RGB pictures (N, H, W, 3) of any size, whatever the colour; the network
    itself does all that is said here."""


@dataclass(frozen=True, kw_only=True)
class Crop:
    """How the face is cut from the picture."""

    template: str
    """Name in `mien.alignment.TEMPLATES`."""
    fit: Literal["five", "eyes-mouth"] = "five"
    """Points that are laid on the template."""
    margin: float = 1.0
    """The crop shows this many times the template's side."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What turns raw outputs into probabilities that can be trusted."""

    temperature: float = 1.0
    """The logits were divided by this inside the network; weights without their graph are divided when they are run."""
    threshold: float = 0.0
    """Below this confidence the model abstains: `certain` is False."""
    fitted_on: str = ""
    """Data and split that both were fitted on."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One number and what it takes to repeat it."""

    dataset: str
    """Data set and, where papers differ, the rule that made the labels."""
    split: str
    """Split by our names: train, validation, test."""
    metric: str
    """Accuracy, UAR, macro-F1, ECE …"""
    value: float
    """The number."""
    n: int
    """Pictures in the denominator."""
    low: float | None = None
    """Lower end of the 95 % interval."""
    high: float | None = None
    """Upper end."""
    note: str = ""
    """Protocol: which head, which rows."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """The contract of one weight file."""

    name: str
    """Name by which the weights are asked for."""
    kind: Literal["classifier", "detector", "landmarks", "actions"]
    """What the network does."""
    summary: str
    """One sentence."""
    file: str
    """File name of the weights, beside the card or among the bundled weights."""
    sha256: str
    """Digest of that file. Empty in a card that lies inside it."""
    licence: str
    """SPDX expression of the weights' licence."""
    licence_note: str = ""
    """Terms of the training data, and what else a user must know."""
    origin: str = ""
    """Package and file the weights were taken from, or the recipe that made them."""
    origin_sha256: str = ""
    """Digest of that package file."""
    data: str = ""
    """What the network was trained on."""
    version: str = "1"
    """Version of the weights."""
    labels: tuple[str, ...] = ()
    """Classes in the order of the output `scores`."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Role → output of the network (for weights without their graph: field of the network's answer): `scores` gives
    probabilities in the order of `labels`, `valence_arousal` (N, 2), `action_units` (N, 12), `feature` (N, D)."""
    input: Input | None = None
    """What the network is fed (classifiers; others say it in `reading`)."""
    crop: Crop | None = None
    """How the face is cut out. None: the whole picture."""
    calibration: Calibration = field(default_factory=Calibration)
    """Temperature and abstention."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Architecture of `mien.models` and the options it was built with, for weights that come without their graph."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Recipe, seed, commit, data digests."""
    export: Mapping[str, Any] = field(default_factory=dict)
    """How an exported file was made: source and its digest, precision, pictures that ranges were taken from, loss."""
    limits: str = ""
    """What the model must not be used for."""
    measured: tuple[Measured, ...] = ()
    """Numbers written by the evaluation."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Other figures, name → number (conversion error, recall …)."""
    reading: Mapping[str, Any] = field(default_factory=dict)
    """Input of networks that are not classifiers: layout, colour, range, size. Of classifiers that read several pictures of a
    face: `inputs`, name → side; `image` is the face."""
    schema: int = 1
    """Version of this layout."""
    path: Path | None = field(default=None, compare=False)
    """Where the card was read; not part of the file."""

    @property
    def weights(self) -> Path:
        """Return the checked path of the weight file.

        Raises:
            WeightsError: the file is missing or is not the one the card describes.
        """
        folder = WEIGHTS if self.path is None or self.path.parent == CARDS else self.path.parent
        return verify(folder / self.file, self.sha256)

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain tables without empty fields."""
        return _plain({f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "path"})


def parse(text: str, where: str) -> Card:
    """Read a card from TOML text.

    Raises:
        WeightsError: the text is no card: broken TOML, a missing or unknown field, a wrong type or a contradiction.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: TOMLDecodeError is one, and numbers of thousands of digits
        raise WeightsError(f"card {where} is not valid TOML: {' '.join(str(error).split())[:200]}") from error
    if table.get("schema", 1) != 1:
        raise WeightsError(f"card {where} has schema {shown(table['schema'])}; this version of mien reads schema 1")
    card = _build(Card, table, where)
    if card.kind == "classifier":
        _check_classifier(card, where)
    return card


def read(path: str | Path) -> Card:
    """Read a card file.

    Raises:
        WeightsError: the file is missing or no card.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"card {path} cannot be read: {error}") from error
    return dataclasses.replace(parse(text, str(path)), path=path)


def bundled() -> dict[str, Card]:
    """Return the cards of all weights that ship with the package, by name."""
    cards = [read(path) for path in sorted(CARDS.glob("*.toml"))]
    return {card.name: card for card in cards}


def load(model: str | Path) -> Card:
    """Return the card of a bundled model's name or of a card file.

    Raises:
        UnknownName: no bundled model has that name.
        WeightsError: the file is missing or no card.
    """
    if Path(model).suffix == ".toml":
        return read(model)
    known = bundled()
    if str(model) in known:
        return known[str(model)]
    classifiers = {name: card for name, card in known.items() if card.kind == "classifier"}  # others are no models to a user
    return lookup(str(model), classifiers, "model", plugins=False)


def _check_classifier(card: Card, where: str) -> None:
    """Refuse a classifier's card that says too little, or what no picture can be prepared by."""
    if not card.labels or card.input is None or "scores" not in card.outputs:
        raise WeightsError(f"card {where} of a classifier must say labels, [input] and outputs.scores")
    if len(set(card.labels)) != len(card.labels):
        raise WeightsError(f"card {where} names a class twice: {', '.join(card.labels)}")
    size, numbers = card.input.size, (card.input.scale, *card.input.offset, *card.input.std)
    if len(size) != 2 or not all(1 <= side <= MAX_SIDE for side in size):
        raise WeightsError(f"card {where}: input.size must be height and width, 1 to {MAX_SIDE}, not {shown(list(size))}")
    if not all(map(math.isfinite, numbers)) or not all(card.input.std):
        raise WeightsError(f"card {where}: scale, offset and std of its input must be finite, and std not 0")
    if not 0 < card.calibration.temperature < math.inf:
        raise WeightsError(f"card {where}: calibration.temperature must be above 0, not {card.calibration.temperature}")
    sides = card.reading.get("inputs", {})
    if not isinstance(sides, dict) or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides.values()):
        raise WeightsError(f"card {where}: reading.inputs must be name → side, 1 to {MAX_SIDE}, not {shown(sides)}")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, Mapping):
        return {
            key: _plain(item) for key, item in value.items() if item is not None and item != () and item != {} and item != ""
        }
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _build(kind: type, table: Any, where: str) -> Any:
    if not isinstance(table, dict):
        raise WeightsError(f"card {where}: {kind.__name__.lower()} must be a table, not {shown(table)}")
    hints = get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name != "path"}
    if unknown := sorted(table.keys() - fields):
        raise WeightsError(f"card {where}: unknown field {shown(unknown[0])} in {kind.__name__}")
    missing = [
        name
        for name, f in fields.items()
        if name not in table and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise WeightsError(f"card {where}: {kind.__name__} lacks {', '.join(missing)}")
    return kind(**{name: _value(hints[name], value, f"{where}: {name}") for name, value in table.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return _value(next(arg for arg in args if arg is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)  # pyrefly: ignore
    if origin is tuple and isinstance(value, list):
        return tuple(_value(args[0], item, where) for item in value)
    if origin is Literal and value in args:
        return value
    if origin is not None and origin not in (tuple, Literal) and isinstance(value, dict):
        return value if args[1] is Any else {key: _value(args[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            return float(value)
    if origin is None and hint in (str, int) and type(value) is hint:
        return value
    wanted = " or ".join(map(repr, args)) if origin is Literal else getattr(hint, "__name__", str(hint))
    raise WeightsError(f"card {where} must be {wanted}, not {shown(value)}")
