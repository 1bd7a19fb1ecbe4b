"""The same image gives the same answer: again, in a batch, with more threads, in many threads at once, and after a fork.

Exactly, not nearly: through the whole pipeline an image's result does not depend on what is read beside it. Only the networks
themselves, asked for whole batches, differ in the last bit of a float (6e-8), for onnxruntime adds up in another order.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from command import environment, line
from PIL import Image

import mien
from mien.inference.recognizer import Recognizer
from mien.runtime.open_model import open_model
from mien.types import Result


@pytest.fixture(scope="module")
def read() -> Recognizer:
    return mien.load()


@pytest.fixture(scope="module")
def images(sample: Path) -> list[np.ndarray]:
    """Six different images, one of them without a face and one with two."""
    whole = np.asarray(Image.open(sample).convert("RGB"))
    face = whole[20:280, 100:340]
    small = np.asarray(Image.fromarray(whole).resize((300, 300)))
    return [whole, whole[:, ::-1].copy(), face.copy(), np.full((200, 300, 3), 127, np.uint8), np.hstack([face, face]), small]


@pytest.fixture(scope="module")
def alone(read: Recognizer, images: list[np.ndarray]) -> list[Result]:
    results = [read(image) for image in images]
    assert [len(result.faces) for result in results] == [1, 1, 1, 0, 2, 1]
    return results


def difference(ours: list[Result], theirs: list[Result]) -> float:
    """The largest difference of any number, infinity where the faces are others."""
    largest = 0.0
    for one, other in zip(ours, theirs, strict=True):
        if len(one.faces) != len(other.faces):
            return np.inf
        for a, b in zip(one.faces, other.faces, strict=True):
            assert a.points is not None and b.points is not None and a.blendshapes is not None and b.blendshapes is not None
            largest = max(
                largest,
                *(abs(a.scores[label] - b.scores[label]) for label in a.scores),
                *(abs(a.blendshapes[name] - b.blendshapes[name]) for name in a.blendshapes),
                float(np.abs(a.points - b.points).max()),
                abs(a.box.left - b.box.left),
            )
    return largest


@pytest.mark.parametrize("batch", [2, 4, 64])
def test_batches(batch: int, read: Recognizer, images: list[np.ndarray], alone: list[Result]) -> None:
    assert difference(list(read.many(images, batch=batch)), alone) <= 1e-6


@pytest.mark.parametrize("threads", [2, 0])
def test_threads_of_the_network(threads: int, images: list[np.ndarray], alone: list[Result]) -> None:
    read = mien.load(threads=threads)
    assert difference([read(image) for image in images], alone) <= 1e-6


def test_many_threads_at_once(read: Recognizer, images: list[np.ndarray], alone: list[Result]) -> None:
    """Each of eight threads reads other images than its neighbors."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, images * 6))
    for first in range(0, len(found), len(images)):
        assert difference(found[first : first + len(images)], alone) <= 1e-6


@pytest.mark.parametrize("model", ["mien-base", "mien-nano"])
def test_rows_of_the_network_depend_on_no_other_row(model: str) -> None:
    card, run = open_model(model)
    assert card.input is not None
    images = np.random.default_rng(0).uniform(0, 1, (32, 1, *card.input.size)).astype(np.float32)
    name = card.outputs["scores"]
    alone = np.concatenate([run(images[row : row + 1])[name] for row in range(32)])
    for batch in (2, 7, 32):
        rows = np.concatenate([run(images[first : first + batch])[name] for first in range(0, 32, batch)])
        assert np.abs(rows - alone).max() <= 1e-6
    assert np.abs(open_model(model, threads=3)[1](images)[name] - alone).max() <= 1e-6


def test_processes_write_the_same_bytes(sample: Path) -> None:
    outputs = {
        subprocess.run(
            line("predict", sample, "--json", "--points", "all", "--threads", threads),
            capture_output=True, check=True, env=environment(PYTHONHASHSEED=seed),
        ).stdout
        for threads, seed in ((1, "1"), (1, "2"), (3, "3"))
    }  # fmt: skip
    assert len(outputs) == 1


FORKED = """
import multiprocessing, sys
import mien

read = mien.load(threads=int(sys.argv[1]))
before = read(mien.sample())

def again(_):
    return read(mien.sample()) == before

with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map_async(again, range(4)).get(timeout=60) == [True] * 4
assert again(None)
"""


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="forking is for Linux")
@pytest.mark.parametrize("threads", [1, 2])
def test_processes_forked_from_a_loaded_recognizer(threads: int) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 0, done.stderr
