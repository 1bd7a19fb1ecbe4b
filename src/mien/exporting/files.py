"""Exported networks as files: ONNX with the card inside, or OpenVINO's two files with the card beside them."""

import dataclasses
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
import tomli_w

from .. import cards
from ..cards import Card, sha256
from ..errors import ExportError, WeightsError, reason
from ..io.files import write_file
from ..runtime.onnx import OnnxRuntime
from ..runtime.openvino import OpenvinoRuntime, import_openvino
from . import ADVICE


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


def _write(path: Path, content: bytes) -> None:
    write_file(path, content, ADVICE, ExportError)
