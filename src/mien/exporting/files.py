"""Networks and cards as bytes, and files that are written whole or not at all."""

from __future__ import annotations

import dataclasses
import os
from contextlib import suppress
from pathlib import Path

import onnx
import tomli_w

from .. import cards
from ..cards import Card
from ..errors import ExportError
from ..weights import sha256


def with_card(model: onnx.ModelProto, card: Card) -> bytes:
    """Return the bytes of a model with its card inside; other metadata that it has stays.

    Raises:
        ExportError: the card does not read back as it is.
    """
    kept = {each.key: each.value for each in model.metadata_props}
    onnx.helper.set_model_props(model, {**kept, cards.METADATA_KEY: card_text(dataclasses.replace(card, sha256=""))})
    return model.SerializeToString()


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


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there.

    Raises:
        ExportError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or error}; choose another place with --out") from error
    finally:
        with suppress(OSError):
            part.unlink()


def write_network(path: Path, content: bytes, card: Card) -> Card:
    """Write an `.onnx` file, and return its card as it is read from there; a card beside it that is about it is replaced."""
    beside = path.with_suffix(".toml")
    write_whole(path, content)
    card = dataclasses.replace(card, sha256=sha256(path), path=beside)
    if beside.is_file() and cards.read(beside).file == path.name:
        write_whole(beside, card_text(card).encode())
    return card


def size(path: Path) -> int:
    """Return the bytes of a network's file, with OpenVINO's weights beside it."""
    weights = path.with_suffix(".bin")
    return path.stat().st_size + (weights.stat().st_size if path.suffix == ".xml" and weights.is_file() else 0)
