"""One server for all tests of its answers, and the reader it is compared with."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from server import Server, running

import mien
from mien.inference.recognizer import Recognizer

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def read() -> Recognizer:
    return mien.load()


@pytest.fixture(scope="session")
def jpeg(sample: Path) -> bytes:
    """The bundled photograph as a JPEG of 256 pixels, quick to read."""
    return to_jpeg(Image.open(sample).convert("RGB").resize((256, 256)))


def to_jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92)
    return file.getvalue()
