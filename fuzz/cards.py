"""Cards: as files, and inside ONNX files."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mien import cards
from mien.cards import CARDS
from mien.faces.preprocessing import Preprocess
from mien.runtime.open_model import open_model

_folder = tempfile.TemporaryDirectory()
atexit.register(_folder.cleanup)
ROOT = Path(_folder.name)

SHORT = b"""name = "tiny"
kind = "classifier"
summary = "two classes"
file = "tiny.onnx"
sha256 = ""
license = "Apache-2.0"
labels = ["happiness", "neutral"]
outputs = {scores = "p"}
input = {size = [48, 48], color = "gray", layout = "NCHW", offset = [-1.0], std = [2]}
crop = {template = "arcface112", margin = 1.5}
calibration = {threshold = 0.5}
reading = {inputs = {image = 48, mouth = 24}}
[[measured]]
dataset = "fer2013"
split = "test"
metric = "accuracy"
value = 1
n = 10
"""


def target(data: bytes) -> None:
    """Read a card file (first byte even), or a network with this card inside (odd); prepare images as it says."""
    if not data:
        return
    if data[0] % 2:
        path = ROOT / "card.onnx"
        path.write_bytes(network(data[1:]))
        card, _ = open_model(path)
    else:
        path = ROOT / "card.toml"
        path.write_bytes(data[1:])
        card = cards.read(path)
    if card.kind == "classifier":
        Preprocess.of(card)


def seeds() -> Iterator[bytes]:
    """Yield the cards that ship with the package and a short one that has every part."""
    for kind in (b"\0", b"\1"):
        yield kind + SHORT
        for path in sorted(CARDS.glob("*.toml")):
            yield kind + path.read_bytes()[:8_000]


def network(card: bytes) -> bytes:
    """Return an ONNX file of one Identity, x → p, with this card: the few fields of the format, written by hand."""
    shape = _part(2, _part(1, _number(1, 1) + _part(2, _part(1, _part(2, b"N")))))
    graph = _part(1, _part(1, b"x") + _part(2, b"p") + _part(4, b"Identity")) + _part(2, b"g")
    graph += _part(11, _part(1, b"x") + shape) + _part(12, _part(1, b"p") + shape)
    metadata = _part(14, _part(1, cards.METADATA_KEY.encode()) + _part(2, card))
    return _number(1, 8) + _part(7, graph) + _part(8, _number(2, 13)) + metadata


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _part(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])
