"""From ONNX to OpenVINO's two files, with the card beside them."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

from ..cards import METADATA_KEY, Card
from ..errors import ExportError
from ..openvino_runtime import OpenvinoRuntime, import_openvino
from ..runtime import Runtime
from ..weights import sha256
from .files import card_text, write_whole


def write_openvino(
    content: bytes, card: Card, path: Path, *, half: bool, check: Callable[[Card, Runtime], None], threads: int
) -> tuple[Card, Runtime]:
    """Convert a network, check it, write it, and return its card and what runs it.

    Args:
        content: the ONNX file.
        card: its card.
        path: where the `.xml` goes; `.bin` and `.toml` go beside it.
        half: whether weights are stored as float16.
        check: called with card and runtime of the converted network before anything is written; raises where it differs.
        threads: threads inside one call.

    Raises:
        MissingExtra: openvino is not installed.
        ExportError: OpenVINO cannot convert the network, or the files cannot be written.
    """
    openvino = import_openvino()
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "network.onnx", Path(folder) / path.name
        source.write_bytes(content)
        try:
            model = openvino.convert_model(source)
            model.set_rt_info(card_text(card), METADATA_KEY)
            openvino.save_model(model, made, compress_to_fp16=half)
        except RuntimeError as error:
            raise ExportError(f"OpenVINO cannot convert {card.name}: {str(error).splitlines()[0][:200]}") from error
        weights = made.with_suffix(".bin")
        export = {**card.export, "bin_sha256": sha256(weights)}
        beside = made.with_suffix(".toml")
        card = dataclasses.replace(card, sha256=sha256(made), export=export, path=beside)
        check(card, OpenvinoRuntime(card, threads))
        for part in (weights, made):
            write_whole(path.with_suffix(part.suffix), part.read_bytes())
        write_whole(path.with_suffix(".toml"), card_text(card).encode())
    card = dataclasses.replace(card, path=path.with_suffix(".toml"))
    return card, OpenvinoRuntime(card, threads)
