"""The card of a weight file: the unit of truth about labels, crop, color, license, data and measured numbers.

A card is a TOML file beside the weights, and the same text inside every ONNX file that the package exports (metadata key
`mien.card`). A file without a card, or one whose card does not fit the file, is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from . import config as tables
from .errors import ConfigError, WeightsError, shown
from .registry import lookup

ASSETS = Path(__file__).parent / "assets"
WEIGHTS = ASSETS / "weights"
CARDS = ASSETS / "cards"
ARCHITECTURES = ASSETS / "architectures.json"


def bundled_file(name: str) -> Path:
    """Return the path of a weight file that ships with the package: `bundled_file("blazeface.onnx")`.

    Raises:
        WeightsError: the installation lacks the file, or has another than its card describes.
    """
    path = WEIGHTS / name
    try:
        digest = tomllib.loads((CARDS / f"{path.stem}.toml").read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"the card of the bundled weight {name} is missing or damaged; reinstall the package") from error
    if not path.is_file():
        raise WeightsError(f"the bundled weight {name} is missing from {WEIGHTS}; reinstall the package")
    return verify(path, digest)


def sha256(path: str | Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def no_weights(path: str | Path) -> WeightsError:
    """Return the error of a weight file that is not there."""
    return WeightsError(f"weight file {path} does not exist; check the path, and where it was trained or exported to")


def verify(path: str | Path, digest: str) -> Path:
    """Return `path` if the file has this sha256.

    Raises:
        WeightsError: the file is missing or has another digest.
    """
    path = Path(path)
    if not path.is_file():
        raise no_weights(path)
    if (found := sha256(path)) != digest:
        raise WeightsError(
            f"weight file {path} has sha256 {found}, its card says {digest[:12]}…; get the file anew, or, if it is your own, "
            "write its digest into the card"
        )
    return path


METADATA_KEY = "mien.card"

MAX_SIDE = 4096
"""Sides of images beyond which a card is refused: a number mistyped, or made to fill the memory."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """What the network wants to be fed."""

    size: tuple[int, ...]
    """Height and width of the image."""
    color: Literal["gray", "rgb", "bgr"] = "rgb"
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
    """How a whole image is brought to `size`."""
    dtype: Literal["float32", "uint8"] = "float32"
    """float32: the values above, at `size`. uint8: RGB images (N, H, W, 3) of any size, whatever the color; the network
    itself does all that is said here."""


@dataclass(frozen=True, kw_only=True)
class Crop:
    """How the face is cut from the image."""

    template: str
    """Name in `mien.faces.alignment.TEMPLATES`."""
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
    """Dataset and, where papers differ, the rule that made the labels."""
    split: str
    """Split by our names: train, validation, test."""
    metric: str
    """Accuracy, UAR, macro-F1, ECE …"""
    value: float
    """The number."""
    n: int
    """Images in the denominator."""
    low: float | None = None
    """Lower end of the 95 % interval."""
    high: float | None = None
    """Upper end."""
    note: str = ""
    """Protocol: which head, which rows."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One model of an ensemble."""

    card: str
    """Path of its card or weight file, relative to the card of the ensemble."""
    sha256: str
    """Digest of its weights."""
    weight: float
    """Weight of its scores in the ensemble."""
    output: str = "scores"
    """Role of its output that is pooled."""
    labels: tuple[str, ...] = ()
    """Classes of that output."""
    input: Input | None = None
    """Its input contract."""
    crop: Crop | None = None
    """Its crop contract."""
    regions: Mapping[str, int] = field(default_factory=dict)
    """Regions of the face that it reads, name → side. Without landmarks it has no vote, if other members need none."""


ARCHITECTURE = "ensemble"
"""`network.architecture` of ensembles; `network.rule` is `"logits"` or `"probabilities"`."""

FOUND = "regions"
"""Input of ensembles with regions: (N,) 1 where the landmarks of the face are known, otherwise 0."""


def contracts(members: Sequence[Member]) -> list[int]:
    """Return the number of each member's input: members with the same contracts share an input."""
    distinct: list[tuple[Any, ...]] = []
    found = []
    for each in members:
        contract = (each.input, each.crop, dict(each.regions))
        if contract not in distinct:
            distinct.append(contract)
        found.append(distinct.index(contract))
    return found


def input_name(contract: int, image: str) -> str:
    """Return the name of an image among the inputs of an ensemble: plain for the first contract, `1/image` for others."""
    return f"{contract}/{image}" if contract else image


@dataclass(frozen=True, kw_only=True)
class Card:
    """The contract of one weight file."""

    name: str
    """Name by which the weights are asked for."""
    kind: Literal["classifier", "detector", "landmarks", "blendshapes"]
    """What the network does."""
    summary: str
    """One sentence."""
    file: str
    """File name of the weights, beside the card or among the bundled weights."""
    sha256: str
    """Digest of that file. Empty in a card that lies inside it."""
    license: str
    """SPDX expression of the weights' license."""
    license_note: str = ""
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
    """How the face is cut out. None: the whole image."""
    calibration: Calibration = field(default_factory=Calibration)
    """Temperature and abstention."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Architecture of `mien.models` and the options it was built with, for weights that come without their graph."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Recipe, seed, commit, data digests."""
    export: Mapping[str, Any] = field(default_factory=dict)
    """How an exported file was made: source and its digest, precision, images that ranges were taken from, loss."""
    limits: str = ""
    """What the model must not be used for."""
    measured: tuple[Measured, ...] = ()
    """Numbers written by the evaluation."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Other figures, name → number (conversion error, recall …)."""
    reading: Mapping[str, Any] = field(default_factory=dict)
    """Input of networks that are not classifiers: layout, color, range, size. Of classifiers that read several images of a
    face: `inputs`, name → side; `image` is the face."""
    members: tuple[Member, ...] = ()
    """Models of an ensemble, which has no weight file of its own unless it was exported."""
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
        if self.members and not self.file:
            raise WeightsError(
                f"the ensemble {self.name} has no weight file of its own; export it as one file", value=self.name
            )
        return verify(self.folder / self.file, self.sha256)

    @property
    def folder(self) -> Path:
        """Folder of its files."""
        return WEIGHTS if self.path is None or self.path.parent == CARDS else self.path.parent

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain tables without empty fields."""
        return tables.plain(dataclasses.replace(self, path=None), empty=False)


def parse(text: str, where: str) -> Card:
    """Read a card from TOML text.

    Raises:
        WeightsError: the text is no card: broken TOML, a missing or unknown field, a wrong type or a contradiction.
    """
    try:
        table = tables.parse(text, f"card {where}")
        if table.get("schema", 1) != 1:
            raise WeightsError(
                f"card {where} has schema {shown(table['schema'])}; this version of mien reads schema 1; install a newer one"
            )
        card = tables.build(Card, upgraded(table), f"card {where}", without={"path"})
    except ConfigError as error:
        raise WeightsError(str(error)) from error
    if card.kind == "classifier":
        _check_classifier(card, where)
    return card


def upgraded(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of a card with the names of today; cards of mien 0.1 have British keys and values.

    Example:
        >>> upgraded({"licence": "MIT", "input": {"colour": "grey"}})
        {'license': 'MIT', 'input': {'color': 'gray'}}
    """
    keys = {"licence": "license", "licence_note": "license_note", "colour": "color"}
    values = {("color", "grey"): "gray", ("kind", "actions"): "blendshapes"}
    found = {}
    for name, value in table.items():
        key = keys.get(name, name)
        if isinstance(value, Mapping) and name in ("input", "reading"):
            value = upgraded(value)
        found[key] = values.get((key, value), value) if isinstance(value, str) else value
    return found


def read(path: str | Path) -> Card:
    """Read a card file.

    Raises:
        WeightsError: the file is missing or no card.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"card {path} cannot be read: {error}; check its path and its TOML") from error
    return dataclasses.replace(parse(text, str(path)), path=path)


def bundled() -> dict[str, Card]:
    """Return the cards of all weights that ship with the package, by name."""
    cards = [read(path) for path in sorted(CARDS.glob("*.toml"))]
    return {card.name: card for card in cards}


def load(model: str | Path) -> Card:
    """Return the card of a bundled model's name or of a card file.

    Raises:
        UnknownName: no bundled model has that name.
        WeightsError: the file is missing or no card, or a path leads to nothing.
    """
    if Path(model).suffix == ".toml":
        return read(model)
    known = bundled()
    if str(model) in known:
        return known[str(model)]
    if "/" in str(model) or os.sep in str(model):
        there = os.path.exists(model)  # noqa: PTH110 - Path.exists raises on a name too long
        what = "is no run, weight file or card" if there else "does not exist; check the path, or name a model of `mien models`"
        raise WeightsError(f"{model} {what}")
    classifiers = {name: card for name, card in known.items() if card.kind == "classifier"}  # others are no models to a user
    return lookup(str(model), classifiers, "model", plugins=False)


def _check_classifier(card: Card, where: str) -> None:
    """Refuse a classifier's card that says too little, or what no image can be prepared by."""
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
