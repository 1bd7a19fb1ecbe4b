"""Networks and cards as bytes, on their way to files."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import onnx
import tomli_w

from .. import cards
from ..cards import Card, sha256
from ..errors import ExportError, WeightsError
from ..runtime.onnx import OnnxRuntime
from ..runtime.open_model import Runtime
from .writing import write_whole


def card_text(card: Card) -> str:
    """Return a card as TOML.

    Raises:
        ExportError: it does not read back as it is.
    """
    table = {"sha256": "", **card.to_dict()}  # a card inside its file cannot hold the digest, and must have the field
    text = tomli_w.dumps(table)
    if {"sha256": "", **cards.parse(text, card.name).to_dict()} != table:
        raise ExportError(f"the card of {card.name} does not read back as it is; nothing was written")
    return text


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A graph on its way to an `.onnx` file."""

    graph: onnx.ModelProto

    def content(self, card: Card) -> bytes:
        """Return the bytes of the file, with the card inside; other metadata that the graph has stays."""
        kept = {each.key: each.value for each in self.graph.metadata_props}
        text = card_text(dataclasses.replace(card, sha256=""))
        onnx.helper.set_model_props(self.graph, {**kept, cards.METADATA_KEY: text})
        return self.graph.SerializeToString()

    def runtime(self, threads: int) -> Runtime:
        """Return what runs the graph."""
        return OnnxRuntime(self.graph.SerializeToString(), threads)

    def write(self, path: Path, card: Card) -> Card:
        """Write the file, and return its card as it is read from there; one beside it that is about it is replaced."""
        beside = path.with_suffix(".toml")
        write_whole(path, self.content(card))
        card = dataclasses.replace(card, sha256=sha256(path), path=beside)
        if described_by(beside) == path.name:
            write_whole(beside, card_text(card).encode())
        return card


def described_by(path: Path) -> str | None:
    """Return the name of the file that a card describes, or None without a valid card."""
    try:
        return cards.read(path).file if path.is_file() else None
    except WeightsError:
        return None


def size(path: Path) -> int:
    """Return the bytes of a network's file, with OpenVINO's weights beside it."""
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" and weights.is_file() else 0)
