"""The steps of an export: open, trace, convert, compare, measure, and write: ONNX with the card inside, or OpenVINO's two files
with the card beside them.
"""

import dataclasses
import datetime
import functools
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
import tomli_w

from .. import cards
from ..cards import Card, Measured, sha256
from ..data.datasets import Dataset
from ..errors import ConfigError, ExportError, WeightsError, reason
from ..io.files import write_errors, write_file
from ..io.provenance import VERSION
from ..models.torch_runtime import TorchRuntime
from ..registry import lookup
from ..runtime.devices import use
from ..runtime.onnx import OnnxRuntime
from ..runtime.open_model import EnsembleRuntime, Runtime, open_model
from ..runtime.openvino import OpenvinoRuntime, import_openvino
from . import ADVICE, ENDINGS, IMAGES, PRECISIONS, TOLERANCE, Precision, parity
from .graphs import fused_graph, prepend, trace_network
from .parity import Figures
from .precision import halved, is_quantized, quantize, with_convolutions

_write = functools.partial(write_file, advice=ADVICE, error=ExportError)


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A graph to be written as an `.onnx` file."""

    graph: onnx.ModelProto

    def content(self, card: Card) -> bytes:
        """Return the file with the card in its metadata; other metadata is kept."""
        kept = {each.key: each.value for each in self.graph.metadata_props}
        text = _card_bytes(dataclasses.replace(card, sha256="")).decode()
        onnx.helper.set_model_props(self.graph, {**kept, cards.METADATA_KEY: text})
        return self.graph.SerializeToString()

    def runtime(self, threads: int) -> OnnxRuntime:
        """Return a runtime of the graph."""
        return OnnxRuntime(self.graph.SerializeToString(), threads)

    def write(self, path: Path, card: Card) -> Card:
        """Write the file, update its card beside it if there is one, and return the card."""
        beside = path.with_suffix(".toml")
        _write(path, self.content(card))
        card = dataclasses.replace(card, sha256=sha256(path), path=beside)
        if described_by(beside) == path.name:
            _write(beside, _card_bytes(card))
        return card


@dataclass(frozen=True, slots=True)
class OpenvinoFiles:
    """A converted network to be written as an `.xml` and a `.bin` file."""

    graph: bytes
    weights: bytes

    def runtime(self, threads: int) -> OpenvinoRuntime:
        """Return a runtime of the network."""
        return OpenvinoRuntime((self.graph, self.weights), threads)

    def write(self, path: Path, card: Card) -> Card:
        """Write both files and the card, and return the card."""
        _write(path.with_suffix(".bin"), self.weights)
        _write(path, self.graph)
        export = {**card.export, "bin_sha256": hashlib.sha256(self.weights).hexdigest()}
        card = dataclasses.replace(card, sha256=sha256(path), export=export, path=path.with_suffix(".toml"))
        _write(path.with_suffix(".toml"), _card_bytes(card))
        return card


def to_openvino(content: bytes, *, half: bool) -> OpenvinoFiles:
    """Convert the content of an ONNX file; `half` stores float16 weights. Raises ExportError if OpenVINO cannot."""
    openvino = import_openvino()
    with tempfile.TemporaryDirectory() as folder:
        source, converted = Path(folder) / "network.onnx", Path(folder) / "network.xml"
        source.write_bytes(content)
        try:
            openvino.save_model(openvino.convert_model(source), converted, compress_to_fp16=half)
        except RuntimeError as error:
            name = f"OpenVINO {openvino.__version__}"
            raise ExportError(f"{name} cannot convert the network: {reason(error)}; export it as .onnx") from error
        return OpenvinoFiles(converted.read_bytes(), converted.with_suffix(".bin").read_bytes())


def described_by(path: Path) -> str | None:
    """Return the file that a card describes; None if the card is missing or invalid."""
    try:
        return cards.read(path).file if path.is_file() else None
    except WeightsError:
        return None


def size(path: Path) -> int:
    """Return the size of a network in bytes, including the weights beside an OpenVINO graph."""
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" and weights.is_file() else 0)


def _card_bytes(card: Card) -> bytes:
    # A card inside its file cannot contain the digest, but the field is required.
    return tomli_w.dumps({"sha256": "", **card.to_dict()}).encode()


UNCHANGED = "unchanged"  # precision of an exported file that is converted without changing its weights


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported file."""

    path: Path  # the file
    card: Card  # its card
    differences: dict[str, float]  # role → largest difference from the outputs of the source
    source: Figures  # measurements of the source
    file: Figures  # measurements of the file


@use("cpu")  # Files are compared and measured on the CPU, whatever device the caller selected.
def export(
    model: str | Path,
    out: str | Path,
    *,
    precision: Precision | None = None,
    runtime: Literal["onnx", "openvino"] = "onnx",
    raw_input: bool = False,
    training: Dataset | None = None,
    validation: Dataset | None = None,
    tolerance: float = TOLERANCE,
    images: int = IMAGES,
    keep: Sequence[str] = (),
    speed: bool = False,
    threads: int = 1,
    progress: Callable[[str], None] = lambda step: None,
) -> Exported:
    """Write a network as a file that runs without torch, atomically; return it with its measurements and those of the source.

    The model is any that `mien.load` opens: folder of a run, card (also of an ensemble), `.safetensors`, exported `.onnx`. The
    output is `.onnx`, or `.xml` for the runtime `"openvino"` (its weights go beside it, as `.bin`). With `raw_input` the file
    includes preprocessing: its input is (N, H, W, 3) uint8 RGB of any size.

    The precision is `"fp32"`; `"fp16"`: float16 weights, float32 arithmetic; `"int8"`: quantized weights and arithmetic; None:
    fp32, or that of an exported file. For int8 there are that many `images` of `training` for the activation ranges, and
    `validation` for the accuracy, of which it may lose `tolerance` points; nodes whose name or operator type matches a pattern
    of `keep` stay float32.

    With `speed` images per second of source and file are measured, with `threads` threads inside one call. `progress` is called
    with the next step.

    Raises:
        ExportError: the file would differ from its source by more than 1e-4 (fp32), or lose more accuracy than `tolerance`
            (int8); an int8 source with another precision; `out` cannot be written; or the card of OpenVINO's files would
            replace another file.
        ConfigError: contradictory options.
        WeightsError: the model cannot be opened.
        MissingExtra: torch, onnx or openvino is not installed.

    Example:
        >>> mien.export("mien-base", "face.onnx", raw_input=True).card.input.dtype  # doctest: +SKIP
        'uint8'
    """
    path = Path(out)
    for name, known, kind in ((precision or "fp32", PRECISIONS, "precision"), (runtime, ENDINGS, "runtime")):
        lookup(name, dict.fromkeys(known), kind, plugins=False)
    if precision == "int8" and (training is None or validation is None):
        raise ConfigError("int8 needs training and validation images (--calibration)", value=precision)
    if precision != "int8" and (training is not None or validation is not None or keep):
        message = f"training, validation and keep are options of int8, got {precision or 'fp32'}"
        raise ConfigError(message, value=precision, expected="int8")
    if images < 1:
        raise ConfigError(f"images must be at least 1, got {images} (--calibration-images)", value=images, expected=">= 1")
    _check_output(model, path, runtime)
    card, source = open_model(model, threads)
    name = card.file or card.name
    progress(f"opening {name}")
    exported, graph = _graph(card, source)
    chosen = precision or (UNCHANGED if isinstance(source, OnnxRuntime) else "fp32")
    if is_quantized(graph) and chosen != UNCHANGED:
        message = f"{card.file} has 8-bit weights and no float ones; omit the precision {chosen}"
        raise ExportError(message, path=card.file, value=chosen)
    if raw_input and (card.members or (card.input is not None and card.input.dtype == "uint8")):
        reason = "is an ensemble, whose members have different preprocessing" if card.members else "includes preprocessing"
        raise ExportError(f"{name} {reason}; omit raw input", path=card.file)
    more: dict[str, Any] = {}
    if chosen == "int8":
        assert training is not None
        progress(f"measuring activation ranges on {min(images, len(training))} images of {training.name} {training.split}")
        batches = parity.batches_of(card, source, training, images)
        count = sum(len(next(iter(batch.values()))) for batch in batches)
        more = {"calibration": f"{count} images of {training.name} {training.split}, digest {training.digest[:12]}"}
        more |= {"kept_float": list(keep)} if keep else {}
        graph = halved(quantize(graph, batches, keep))
    elif runtime == "onnx" and chosen != UNCHANGED:
        graph = with_convolutions(graph)
        if chosen == "fp16":
            graph = halved(graph)
    if raw_input and exported.input is not None:
        progress("adding preprocessing to the graph")
        graph = prepend(graph, exported)
        exported = dataclasses.replace(exported, input=dataclasses.replace(exported.input, dtype="uint8"))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    about = {"source": name, "source_sha256": card.sha256, "precision": chosen, "runtime": runtime, "mien": VERSION}
    measured = () if chosen == "int8" else card.measured
    if chosen == "fp16":
        note = "before weights were stored as float16"
        measured = tuple(dataclasses.replace(each, note=f"{each.note}; {note}".removeprefix("; ")) for each in measured)
    about = {**card.export, **about, "date": today, **more}
    exported = dataclasses.replace(exported, file=path.name, sha256="", path=None, measured=measured, export=about)
    product: Any = OnnxFile(graph)
    limit = parity.TOLERANCES[None if chosen == UNCHANGED else chosen]
    if runtime == "openvino":
        progress("converting to OpenVINO")
        product = to_openvino(product.content(exported), half=chosen == "fp16")
        if is_quantized(graph) and limit is not None:  # OpenVINO rounds sums of 8-bit products differently.
            limit = parity.ROUNDED
    file = product.runtime(threads)
    progress("comparing with the source")
    differences = parity.largest_difference(card, source, exported, file, limit)
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    if chosen == "int8":
        progress("evaluating the source and the file on validation images")
        assert validation is not None
        before, after = (parity.accuracy(*each, validation) for each in ((card, source), (exported, file)))
        exported = _with_accuracy(exported, before, after, validation, tolerance)
    exported = product.write(path, exported)
    if speed:
        progress("measuring speed")
        before["speed"], after["speed"] = parity.speeds([(card, source), (exported, file)])
    sources = [member.weights for member, *_ in source.members] if isinstance(source, EnsembleRuntime) else [card.weights]
    kind = "fp32" if isinstance(source, (TorchRuntime, EnsembleRuntime)) else UNCHANGED
    figures = Figures(name, kind, sum(map(size, sources)), **before), Figures(path.name, chosen, size(path), **after)
    return Exported(path, exported, differences, *figures)


def _check_output(model: str | Path, path: Path, runtime: str) -> None:
    """Raise ConfigError or ExportError if the file is of another kind, the source itself, or cannot be written."""
    ending = ENDINGS[runtime]
    if path.suffix.lower() != ending:
        raise ConfigError(f"{path}: the suffix for {runtime} must be {ending}", value=path.suffix, expected=ending)
    if not path.parent.is_dir():
        raise ExportError(f"{path} cannot be written: folder {path.parent} not found; create it first", path=path)
    if path.is_dir():
        raise ExportError(f"{path} is a folder; choose another name with --out", path=path)
    if path.exists() and Path(model).exists() and path.samefile(model):
        raise ConfigError(f"{path} is the source of the export; give another output", path=path)
    with write_errors(path, ADVICE, ExportError), tempfile.TemporaryFile(dir=path.parent):
        pass
    # The card of OpenVINO's files must not replace the card of another file, or a recipe.
    beside = path.with_suffix(".toml")
    if runtime == "openvino" and beside.exists() and (other := described_by(beside)) != path.name:
        owner = f"the card of {other}" if other else "another file"
        message = f"{path} needs a card in {beside.name}, which is {owner}; choose another name with --out"
        raise ExportError(message, path=beside, value=other)


def _graph(card: Card, source: Runtime) -> tuple[Card, onnx.ModelProto]:
    """Return the graph of a model, and its card with the outputs of the graph."""
    if isinstance(source, EnsembleRuntime):
        return fused_graph(card, [(*_graph(member, runtime), names) for member, runtime, names in source.members])
    if isinstance(source, TorchRuntime):
        return trace_network(source)
    if not isinstance(source, OnnxRuntime):
        message = f"{card.file} cannot be exported; give its weights (.safetensors) or an .onnx file"
        raise ExportError(message, path=card.file)
    graph = onnx.load(card.weights)
    constants = {each.name for each in graph.graph.initializer}
    needed = [each for each in graph.graph.input if each.name not in constants]
    del graph.graph.input[:]  # Optional inputs keep their defaults: other runtimes warn about them.
    graph.graph.input.extend(needed)
    return card, graph


def _with_accuracy(card: Card, old: dict[str, Any], new: dict[str, Any], data: Dataset, tolerance: float) -> Card:
    """Return the card of an int8 file with its accuracy; raises ExportError if it loses more than `tolerance` points."""
    lost = 100 * (old["accuracy"] - new["accuracy"])
    if not lost <= tolerance:
        values = f"{100 * old['accuracy']:.2f} → {100 * new['accuracy']:.2f}, {new['n']:,} images"
        loss = f"int8 loses {lost:.2f} points of accuracy on {data.name} {data.split} ({values})"
        advice = "Keep sensitive layers in float (--keep), or export as fp16"
        message = f"{loss}, more than the tolerance of {tolerance:g}; nothing was written. {advice}"
        raise ExportError(message, value=lost, expected=tolerance)
    shared = {"dataset": data.name, "split": data.split, "n": len(data), "note": "output scores, this int8 file"}
    value, low, high, ece = (round(new[key], 4) for key in ("accuracy", "low", "high", "ece"))
    measured = (
        Measured(metric="accuracy", value=value, low=low, high=high, **shared),
        Measured(metric="ECE", value=ece, **shared),
    )
    about = {**card.export, "accuracy_lost": round(lost / 100, 4), "ece_before": round(old["ece"], 4)}
    return dataclasses.replace(card, measured=measured, export=about)
