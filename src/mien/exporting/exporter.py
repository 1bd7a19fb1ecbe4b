"""The steps of an export: open, trace, store, prepare, card, check, measure, write."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from ..cards import Card, Measured
from ..data.datasets import Dataset
from ..errors import ExportError
from ..io.provenance import VERSION
from ..models.torch_runtime import TorchRuntime
from ..runtime.devices import use
from ..runtime.onnx import OnnxRuntime
from ..runtime.open_model import Runtime, open_model
from . import parity
from .files import OnnxFile, described_by, size
from .measuring import Figures, batches_of, judged, speeds
from .pixels import prepend
from .prelu import with_convolutions
from .quantization import is_quantized, quantize
from .storage import halved
from .tracing import trace_network

if TYPE_CHECKING:
    from .openvino import OpenvinoFiles

AS_IT_IS = "as it is"
"""Precision of an exported file that is stored anew."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for; the fields are the arguments of `mien.export`."""

    precision: str | None
    runtime: str
    raw_input: bool
    training: Dataset | None
    validation: Dataset | None
    tolerance: float
    images: int
    keep: tuple[str, ...]
    speed: bool
    threads: int


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written."""

    path: Path
    """The file."""
    card: Card
    """Its card, as `mien.load` will see it."""
    differences: dict[str, float]
    """Role → largest difference from the source's answers."""
    source: Figures
    """The source, measured."""
    file: Figures
    """The file, measured in the same way."""


@use("cpu")  # where files are compared and figures are measured, whatever device is chosen around it
def write(model: str | Path, path: Path, request: Request, progress: Callable[[str], None]) -> Exported:
    """Export; see `mien.export`.

    Raises:
        ExportError: the source or the file does not allow what is asked for, or the file would differ from its source.
    """
    if request.runtime == "openvino":
        _spare_card(path)
    card, source = open_model(model, request.threads)
    progress(f"reading {card.file}")
    exported, graph = _graph(card, source)
    precision = request.precision or (AS_IT_IS if isinstance(source, OnnxRuntime) else "fp32")
    if is_quantized(graph) and precision != AS_IT_IS:
        raise ExportError(f"{card.file} has 8-bit weights already and no float ones; leave out the precision {precision}")
    if request.raw_input and card.input is not None and card.input.dtype == "uint8":
        raise ExportError(f"{card.file} prepares its images itself already; leave out raw input")
    more: dict[str, Any] = {}
    if precision == "int8":
        graph, more = _quantized(card, source, graph, request, progress)
    elif request.runtime == "onnx" and precision != AS_IT_IS:
        graph = with_convolutions(graph)
        if precision == "fp16":
            graph = halved(graph)
    if request.raw_input and exported.input is not None:
        progress("putting the preparation of images into the graph")
        graph = prepend(graph, exported)
        exported = dataclasses.replace(exported, input=dataclasses.replace(exported.input, dtype="uint8"))
    exported = _described(exported, card, path, precision, request, more)
    network = OnnxFile(graph)
    product: OnnxFile | OpenvinoFiles = network
    limit = parity.TOLERANCES[None if precision == AS_IT_IS else precision]
    if request.runtime == "openvino":
        from .openvino import convert

        progress("converting for OpenVINO")
        product = convert(network.content(exported), half=precision == "fp16")
        if is_quantized(graph) and limit is not None:  # it rounds sums of 8-bit products in its own way
            limit = parity.ROUNDED
    file = product.runtime(request.threads)
    progress("comparing with the source")
    differences = parity.largest_difference(card, source, exported, file)
    parity.check(differences, limit)
    before, after = (Figures(name, kind, 0) for name, kind in ((card.file, _kind(source)), (path.name, precision)))
    if precision == "int8":
        progress("judging the source and the file on validation images")
        before, after, exported = _judge(before, after, (card, source), (exported, file), request)
    exported = product.write(path, exported)
    if request.speed:
        progress("measuring speed")
        first, second = speeds([(card, source), (exported, file)])
        before, after = dataclasses.replace(before, speed=first), dataclasses.replace(after, speed=second)
    before, after = (dataclasses.replace(each, size=size(place)) for each, place in ((before, card.weights), (after, path)))
    return Exported(path, exported, differences, before, after)


def _spare_card(path: Path) -> None:
    """Refuse a name under which the card of OpenVINO's files would take the place of another file's card, or of a recipe."""
    beside = path.with_suffix(".toml")
    if beside.exists() and (other := described_by(beside)) != path.name:
        what = f"the card of {other}" if other else "no card of it"
        raise ExportError(f"{path} needs a card in {beside.name}, which is {what} already; choose another name with --out")


def _graph(card: Card, source: Runtime) -> tuple[Card, onnx.ModelProto]:
    if isinstance(source, TorchRuntime):
        return trace_network(source)
    if not isinstance(source, OnnxRuntime):
        raise ExportError(f"{card.file} cannot be exported: give its weights (.safetensors) or an .onnx file")
    return card, onnx.load(card.weights)


def _kind(source: Runtime) -> str:
    return "fp32" if isinstance(source, TorchRuntime) else AS_IT_IS


def _quantized(
    card: Card, source: Runtime, graph: onnx.ModelProto, request: Request, progress: Callable[[str], None]
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    training = request.training
    assert training is not None
    progress(f"taking ranges from {min(request.images, len(training))} images of {training.name} {training.split}")
    batches = batches_of(card, source, training, request.images)
    count = sum(len(next(iter(batch.values()))) for batch in batches)
    told = {"calibration": f"{count} images of {training.name} {training.split}, digest {training.digest[:12]}"}
    return quantize(graph, batches, request.keep), told | ({"kept_float": list(request.keep)} if request.keep else {})


def _judge(
    before: Figures, after: Figures, source: tuple[Card, Runtime], file: tuple[Card, Runtime], request: Request
) -> tuple[Figures, Figures, Card]:
    """Measure the accuracy of source and file, and return their figures and the file's card with them."""
    data = request.validation
    assert data is not None
    (old, new), card = (judged(*each, data) for each in (source, file)), file[0]
    before, after = dataclasses.replace(before, **old), dataclasses.replace(after, **new)
    lost = 100 * (old["accuracy"] - new["accuracy"])
    if not lost <= request.tolerance:
        raise ExportError(
            f"int8 loses {lost:.2f} points of accuracy on {data.name} {data.split} ({100 * old['accuracy']:.2f} → "
            f"{100 * new['accuracy']:.2f}, {new['n']:,} images), more than the tolerance of {request.tolerance:g}; nothing "
            "was written. Keep what quantizes badly in float (--keep), or export as fp16"
        )
    new = {key: round(value, 4) for key, value in new.items() if key != "n"}

    def row(metric: str, value: float, **ends: float) -> Measured:
        number, note = len(data), "output scores, this int8 file"
        return Measured(dataset=data.name, split=data.split, metric=metric, value=value, n=number, note=note, **ends)

    measured = (row("accuracy", new["accuracy"], low=new["low"], high=new["high"]), row("ECE", new["ece"]))
    loss = {"accuracy_lost": round(lost / 100, 4), "ece_before": round(old["ece"], 4)}
    return before, after, dataclasses.replace(card, measured=measured, export={**card.export, **loss})


def _described(exported: Card, card: Card, path: Path, precision: str, request: Request, more: dict[str, Any]) -> Card:
    """Return the card of the file: the source's, with what the export changed."""
    told = {
        "source": card.file,
        "source_sha256": card.sha256,
        "precision": precision,
        "runtime": request.runtime,
        "mien": VERSION,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    measured = card.measured
    if precision == "fp16":
        note = "before weights were stored as float16"
        measured = tuple(dataclasses.replace(each, note=f"{each.note}; {note}".removeprefix("; ")) for each in measured)
    elif precision == "int8":
        measured = ()
    return dataclasses.replace(
        exported, file=path.name, sha256="", path=None, measured=measured, export={**card.export, **told, **more}
    )
