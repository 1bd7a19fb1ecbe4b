"""Data that was opened before a fork gives the same batches in every process."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from runs import environment

from mien.data.datasets.synthetic import draw_face
from mien.labels import FER2013

LOADED = """
import hashlib, itertools, multiprocessing, sys
import numpy as np
from runs import config
from mien.training.data import open_splits
from mien.training.loader import Loader

def open_loader(root, cache, workers):
    settings = config(data={"dataset": "fer2013", "root": root, "cache": cache}, workers=workers)
    split, _ = open_splits(settings)
    place = split.data.pixels
    while place is not None and not isinstance(place, np.memmap):
        place = place.base
    assert place is not None  # images are mapped from the cache of parsed files
    return Loader(split, settings)

def batches(epoch):
    digest = hashlib.sha256()
    for batch in itertools.islice(loader.epoch(epoch), 6):
        for values in (batch.rows, *batch.images.values(), *batch.targets.values()):
            digest.update(np.asarray(values).tobytes())
    return digest.hexdigest()

def forked(epochs):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map_async(batches, epochs, chunksize=1).get(timeout=300)

for cache, workers in itertools.product(["", sys.argv[2]], [0, 2]):
    loader = open_loader(sys.argv[1], cache, workers)
    before = forked([0, 1, 0])  # no image is decoded yet
    ours = [batches(0), batches(1)]
    assert ours[0] != ours[1]
    assert before == [ours[0], ours[1], ours[0]], (cache, workers)
    assert forked([1, 0, 1]) == [ours[1], ours[0], ours[1]], (cache, workers)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """FER2013 as its csv, with so many images (over 1 MB) that they are mapped from the cache."""
    folder = tmp_path / "fer2013"
    folder.mkdir()
    pixels = [" ".join(map(str, draw_face(label, seed).ravel())) for seed, label in enumerate(FER2013)]
    with (folder / "fer2013.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["emotion", "pixels", "Usage"])
        for number in range(480):
            usage = "Training" if number < 440 else "PublicTest"
            rows.writerow([number % 7, f"{number % 256} {number // 256} {pixels[number % 7].split(' ', 2)[2]}", usage])
    return folder


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="forking is for Linux")
def test_processes_forked_after_data_was_opened(root: Path, tmp_path: Path) -> None:
    """Decoded images lie in memory or in a mapped file that all share; threads of the loader ran before the second fork."""
    paths = f"{environment()['PYTHONPATH']}:{Path(__file__).parent}"
    variables = {**environment(), "PYTHONPATH": paths, "MIEN_CACHE": str(tmp_path / "parsed")}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", LOADED, root, tmp_path / "decoded"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
