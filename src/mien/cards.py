"""Model cards: labels, preprocessing, license, training data and metrics of a weights file.

A card is a TOML file next to the weights, and is embedded in every exported ONNX file (metadata key `mien.card`). Weights
without a card, or with a card for another file, are refused.
"""

import dataclasses
import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from . import config as tables
from .errors import ConfigError, WeightsError, needs, shown
from .io.files import sha256 as sha256
from .io.files import write_file
from .registry import lookup

ASSETS = Path(__file__).parent / "assets"
WEIGHTS = ASSETS / "weights"
CARDS = ASSETS / "cards"
ARCHITECTURES = ASSETS / "architectures.toml"


def bundled_file(name: str) -> Path:
    """Return the path of a weight file that ships with the package: `bundled_file("blazeface.onnx")`.

    Raises WeightsError: the file is missing or does not match its card.
    """
    path = WEIGHTS / name
    try:
        digest = tomllib.loads((CARDS / f"{path.stem}.toml").read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"the card of the bundled weight {name} is missing or invalid; reinstall the package") from error
    if not path.is_file():
        raise WeightsError(f"the bundled weight {name} is missing from {WEIGHTS}; reinstall the package")
    return verify(path, digest)


def run_name(folder: Path) -> str:
    """Return the name of a training run: RECIPE of runs/RECIPE/SEED and runs/RECIPE/seed-1/fold-0, or the folder name."""
    folder = folder.absolute()
    while re.fullmatch(r"(seed-|fold-)?\d+", folder.name) and folder.parent.name:
        folder = folder.parent
    return folder.name


def no_weights(path: str | Path) -> WeightsError:
    """Return the error for a missing weights file."""
    return WeightsError(f"weights file {path} does not exist; check the path", path=path)


def verify(path: str | Path, digest: str) -> Path:
    """Return `path` if the file has this sha256. Raises WeightsError: the file is missing or has another digest."""
    path = Path(path)
    if not path.is_file():
        raise no_weights(path)
    if (found := sha256(path)) != digest:
        advice = "download it again, or update the card of your own file"
        message = f"weights file {path} has sha256 {found}, expected {digest[:12]}… from its card; {advice}"
        raise WeightsError(message, path=path, value=found, expected=digest)
    return path


METADATA_KEY = "mien.card"

MAX_SIDE = 4096
"""Largest valid side of an input image, against typos and memory exhaustion."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """Input of the network and its normalization."""

    size: tuple[int, ...]
    """Height and width of the image."""
    color: Literal["gray", "rgb", "bgr"] = "rgb"
    """Channels and their order."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    """Order of the axes."""
    scale: float = 1 / 127.5
    """Input values are (pixel × scale + offset) / std with pixels 0 … 255."""
    offset: tuple[float, ...] = (-1.0,)
    """One offset for all channels, or one per channel."""
    std: tuple[float, ...] = ()
    """One divisor for all channels, or one per channel; empty for none."""
    resize: Literal["pil-bilinear", "cv2-bilinear"] = "pil-bilinear"
    """Interpolation: antialiased (Pillow) or not (OpenCV)."""
    dtype: Literal["float32", "uint8"] = "float32"
    """float32: normalized values at `size`. uint8: RGB images (N, H, W, 3) of any size; the network contains the
    preprocessing described here."""


VALUE_RANGES: Mapping[str, Mapping[str, Any]] = {
    "unit": {"scale": 1 / 255, "offset": (0.0,), "std": ()},
    "half": {"scale": 1 / 127.5, "offset": (-1.0,), "std": ()},
    "imagenet": {"scale": 1 / 255, "offset": (-0.485, -0.456, -0.406), "std": (0.229, 0.224, 0.225)},
}
"""Usual value ranges, 0 … 1, −1 … 1, and ImageNet's mean and deviation, as fields of an `Input`."""


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Alignment and crop of the face."""

    template: str
    """Name in `mien.faces.alignment.TEMPLATES`."""
    fit: Literal["five", "eyes-mouth"] = "five"
    """Landmarks that are aligned with the template."""
    margin: float = 1.0
    """Side of the crop relative to the template."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Temperature scaling and the abstention threshold."""

    temperature: Annotated[float, tables.Range(0, open=True)] = 1.0
    """Divisor of the logits: inside the graph of ONNX files, applied at inference for other weights."""
    threshold: float = 0.0
    """Confidence below which `certain` is False."""
    fitted_on: str = ""
    """Dataset and split on which both were fitted."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One metric and its conditions."""

    dataset: str
    """Dataset and, where papers differ, the label rule."""
    split: str
    """train, validation or test."""
    metric: str
    """Accuracy, UAR, macro-F1, ECE …"""
    value: float
    """Value of the metric."""
    n: int
    """Number of images."""
    low: float | None = None
    """Lower bound of the 95 % interval."""
    high: float | None = None
    """Upper bound."""
    note: str = ""
    """Output and protocol."""


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
    keys = [(each.input, each.crop, dict(each.regions)) for each in members]
    distinct = [key for place, key in enumerate(keys) if key not in keys[:place]]
    return [distinct.index(key) for key in keys]


def input_name(contract: int, image: str) -> str:
    """Return the name of an image among the inputs of an ensemble: plain for the first contract, `1/image` for others."""
    return f"{contract}/{image}" if contract else image


@dataclass(frozen=True, kw_only=True)
class Card:
    """Model card of one weights file."""

    name: str
    """Name of the model."""
    kind: Literal["classifier", "detector", "landmarks", "blendshapes"]
    """Task of the network."""
    summary: str
    """One sentence."""
    file: str
    """File name of the weights, next to the card or bundled."""
    sha256: str
    """SHA-256 of that file; empty in an embedded card."""
    license: str
    """SPDX expression of the weights' license."""
    license_note: str = ""
    """Terms of the training data and other notes."""
    origin: str = ""
    """Source package and file, or the training recipe."""
    origin_sha256: str = ""
    """Digest of that package file."""
    data: str = ""
    """Training data."""
    version: str = "1"
    """Version of the weights."""
    labels: tuple[str, ...] = ()
    """Classes in the order of the output `scores`."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Role → output of the network, or field of its output for torch weights: `scores` (probabilities in the order of
    `labels`), `valence_arousal` (N, 2), `action_units` (N, 12), `feature` (N, D)."""
    input: Input | None = None
    """Input of a classifier; other networks use `reading`."""
    crop: Crop | None = None
    """Crop of the face; None for the whole image."""
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further linear heads on the feature: output → its classes. Outputs of other names have the classes of that label set."""
    calibration: Calibration = field(default_factory=Calibration)
    """Temperature and abstention."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Architecture of `mien.models` and its options, for weights without a graph."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Recipe, seed, commit, data digests."""
    export: Mapping[str, Any] = field(default_factory=dict)
    """Export: source and its digest, precision, calibration images, accuracy loss."""
    limits: str = ""
    """Limitations and prohibited uses."""
    measured: tuple[Measured, ...] = ()
    """Metrics, written by tools."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Other metrics, name → number (conversion error, recall …)."""
    reading: Mapping[str, Any] = field(default_factory=dict)
    """Input of networks that are not classifiers: layout, color, range, size. For classifiers with facial regions:
    `inputs`, name → side; `image` is the face."""
    members: tuple[Member, ...] = ()
    """Models of an ensemble, which has no weights file unless it was exported."""
    schema: int = 1
    """Version of the card format."""
    path: Path | None = field(default=None, compare=False)
    """Path of the card; not part of the file."""

    @property
    def weights(self) -> Path:
        """Return the path of the weights file after checking its digest.

        Raises WeightsError: the file is missing or has another digest.
        """
        if self.members and not self.file:
            raise WeightsError(f"the ensemble {self.name} has no weights file; export it as one file", value=self.name)
        return verify(self.folder / self.file, self.sha256)

    @property
    def folder(self) -> Path:
        """Folder of the weights."""
        if self.path is None or self.path.parent.resolve() == CARDS.resolve():  # members of ensembles have relative paths
            return WEIGHTS
        return self.path.parent

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain tables without empty fields."""
        return tables.plain(dataclasses.replace(self, path=None), empty=False)


def write(card: Card, path: Path) -> None:
    """Write a card as TOML, atomically.

    Raises ConfigError: the disk is full or the folder is not writable; MissingExtra: tomli-w is not installed.
    """
    with needs("train", "tomli-w"):
        import tomli_w
    write_file(path, tomli_w.dumps({"file": "", **card.to_dict()}))


def parse(text: str, where: str) -> Card:
    """Read a card from TOML text.

    Raises WeightsError: invalid TOML, a missing or unknown field, an invalid type, or a contradiction.
    """
    try:
        table = tables.parse(text, f"card {where}")
        if table.get("schema", 1) != 1:
            raise WeightsError(f"card {where} has schema {shown(table['schema'])}, expected 1; install a newer version of mien")
        card = tables.build(Card, upgraded(table), f"card {where}", without={"path"})
    except ConfigError as error:
        raise WeightsError(str(error)) from error
    if card.kind == "classifier":
        _check_classifier(card, where)
    return card


def upgraded(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of a card with current names; cards of mien 0.1 have British keys and values.

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
    """Read a card file. Raises WeightsError: the file is missing or invalid."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"cannot read card {path}: {error}; check the path and the TOML syntax", path=path) from error
    return dataclasses.replace(parse(text, str(path)), path=path)


def bundled() -> dict[str, Card]:
    """Return the cards of all weights that ship with the package, by name."""
    cards = [read(path) for path in sorted(CARDS.glob("*.toml"))]
    return {card.name: card for card in cards}


ZOO = "zoo:"
"""Start of the names of models that a checkout has and the package has not: `zoo:dan-mien-base`."""


def zoo_folder() -> Path:
    """Return the folder of the zoo: `$MIEN_ZOO`, that of the source tree of the package, or `zoo` in the current folder."""
    tree = Path(__file__).parents[2] / "zoo"
    return Path(os.environ.get("MIEN_ZOO") or (tree if tree.is_dir() else "zoo"))


def zoo() -> dict[str, Card]:
    """Return the cards of the zoo by name, `zoo:NAME`; none without its folder. Raises WeightsError: a card is invalid."""
    return {f"{ZOO}{path.stem}": read(path) for path in sorted(zoo_folder().glob("*.toml"))}


def zoo_names(pattern: str) -> list[str]:
    """Return the models of the zoo that match a shell pattern, such as `zoo:*`.

    Raises WeightsError: no model matches, or the zoo is missing; the message states how to get the folder.
    """
    known = zoo()
    found = [name for name in known if fnmatchcase(name, pattern)]
    if not found:
        folder = zoo_folder()
        reason = f"the models in {folder} are {', '.join(known)}"
        if not known:
            reason = f"no models in {folder}; run mien in a clone of its repository, or set MIEN_ZOO to its folder zoo"
        raise WeightsError(f"{pattern} not found: {reason}", path=folder, value=pattern, expected=tuple(known))
    return found


def load(model: str | Path) -> Card:
    """Return the card of a bundled model, of a model of the zoo or of a card file.

    Raises UnknownName: unknown model; WeightsError: the file is missing or invalid.
    """
    if str(model).startswith(ZOO):
        return zoo()[zoo_names(str(model))[0]]
    if Path(model).suffix == ".toml":
        return read(model)
    if f"{model}.toml" in [path.name for path in CARDS.iterdir()]:
        return read(CARDS / f"{model}.toml")
    if "/" in str(model) or os.sep in str(model):
        reason = "does not exist; check the path, or name a model of `mien models`"
        if os.path.exists(model):  # noqa: PTH110 - Path.exists raises on a name too long
            reason = "is not a run, weights file or card"
        raise WeightsError(f"{model} {reason}", path=model)
    classifiers = {name: card for name, card in bundled().items() if card.kind == "classifier"}
    return lookup(str(model), classifiers, "model", plugins=False)


def _check_classifier(card: Card, where: str) -> None:
    """Raise unless a classifier's card describes its labels and a valid input."""
    if not card.labels or card.input is None or "scores" not in card.outputs:
        raise WeightsError(f"card {where} of a classifier must have labels, [input] and outputs.scores")
    if len(set(card.labels)) != len(card.labels):
        raise WeightsError(f"card {where} has duplicate labels: {', '.join(card.labels)}", value=card.labels)
    size, numbers = card.input.size, (card.input.scale, *card.input.offset, *card.input.std)
    if len(size) != 2 or not all(1 <= side <= MAX_SIDE for side in size):
        raise WeightsError(f"card {where}: input.size must be height and width from 1 to {MAX_SIDE}, got {shown(list(size))}")
    if not all(map(math.isfinite, numbers)) or not all(card.input.std):
        raise WeightsError(f"card {where}: input.scale, offset and std must be finite, and std must not be 0")
    sides = card.reading.get("inputs", {})
    if not isinstance(sides, dict) or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides.values()):
        raise WeightsError(f"card {where}: reading.inputs must map names to sides from 1 to {MAX_SIDE}, got {shown(sides)}")
