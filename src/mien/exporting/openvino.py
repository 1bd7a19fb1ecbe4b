"""From ONNX to OpenVINO's two files, with the card beside them."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..cards import Card, sha256
from ..errors import ExportError
from ..runtime.open_model import Runtime
from ..runtime.openvino import OpenvinoRuntime, import_openvino
from .files import card_text
from .writing import write_whole


@dataclass(frozen=True, slots=True)
class OpenvinoFiles:
    """A converted network on its way to an `.xml` and a `.bin` file."""

    graph: bytes
    weights: bytes

    def runtime(self, threads: int) -> Runtime:
        """Return what runs the network."""
        return OpenvinoRuntime((self.graph, self.weights), threads)

    def write(self, path: Path, card: Card) -> Card:
        """Write both files and the card beside them, and return the card."""
        beside = path.with_suffix(".toml")
        write_whole(path.with_suffix(".bin"), self.weights)
        write_whole(path, self.graph)
        export = {**card.export, "bin_sha256": hashlib.sha256(self.weights).hexdigest()}
        card = dataclasses.replace(card, sha256=sha256(path), export=export, path=beside)
        write_whole(beside, card_text(card).encode())
        return card


def convert(content: bytes, *, half: bool) -> OpenvinoFiles:
    """Convert an ONNX file.

    Args:
        content: its bytes.
        half: whether weights are stored as float16.

    Raises:
        MissingExtra: openvino is not installed.
        ExportError: OpenVINO cannot convert the network.
    """
    openvino = import_openvino()
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "network.onnx", Path(folder) / "network.xml"
        source.write_bytes(content)
        try:
            openvino.save_model(openvino.convert_model(source), made, compress_to_fp16=half)
        except RuntimeError as error:
            reason = str(error).splitlines()[0][:200]
            raise ExportError(
                f"OpenVINO {openvino.__version__} cannot convert the network: {reason}; export it as .onnx"
            ) from error
        return OpenvinoFiles(made.read_bytes(), made.with_suffix(".bin").read_bytes())
