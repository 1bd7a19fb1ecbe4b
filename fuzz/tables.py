"""Annotation files of every dataset in every layout, predictions, clean protocols and recipes.

The first byte says which file is replaced, and whether damaged rows are left out; the rest is the file's new content.
"""

from __future__ import annotations

import atexit
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/datasets"))

from miniatures import MINIATURES, Miniature

from mien.data.datasets import open_dataset, reader
from mien.data.datasets.protocols import read_clean
from mien.evaluation.report.predictions import read_predictions
from mien.io.decoding import EXTENSIONS
from mien.training.config import TrainConfig

_folder = tempfile.TemporaryDirectory()
atexit.register(_folder.cleanup)
ROOT = Path(_folder.name)
(ROOT / "no-cache").touch()


def _read_dataset(miniature: Miniature, root: Path, path: Path, skip: bool) -> None:
    data = open_dataset(miniature.dataset, root, "all", damaged="skip" if skip else "raise", **miniature.options)
    reader(miniature.dataset).deal(data)
    assert sum(data.counts.values()) <= len(data)
    assert all(sample.name for sample in itertools.islice(data, 3))


def _files() -> list[tuple[Path, Callable[[Path, bool], object]]]:
    """Build the layouts; return each of their files that is no image, with what reads it."""
    found: dict[tuple[str, bytes], tuple[Path, Callable[[Path, bool], object]]] = {}
    for number, miniature in enumerate(MINIATURES.values()):
        root = ROOT / str(number)
        miniature.build(root)
        kinds = set[str]()
        for path in sorted(path for path in root.rglob("*") if path.is_file() and path.suffix.lower() not in EXTENSIONS):
            kind = re.sub(r"\d+", "0", path.name)  # one of the many files of one kind is enough
            if kind not in kinds:
                kinds.add(kind)
                found[miniature.dataset + kind, repr(miniature.options).encode()] = (
                    path,
                    lambda path, skip, miniature=miniature, root=root: _read_dataset(miniature, root, path, skip),
                )
    for name, read in (("predictions.csv", read_predictions), ("clean.json", read_clean), ("recipe.toml", TrainConfig.load)):
        found[name, b""] = ROOT / name, lambda path, skip, read=read: read(path)
    return [found[key] for key in sorted(found)]


FILES = _files()
assert len(FILES) < 128
ORIGINALS = {path: path.read_bytes() for path, _ in FILES if path.is_file()}


PREDICTIONS = """\
sample,label,part,status,predicted,confidence,certain,subject,p:anger,p:fear,valence,AU1,group:age,slice:yaw
a,anger,test,ok,anger,0.9,yes,s1,0.9,0.1,0.5,1,old,3
b,fear,test,unreadable,,,,s2,,,,0,young,
"""
CLEAN = '{"dataset": "fer2013", "protocol": "official", "digests": {"train": "00"}, "drop": {}, "why": {}}'


def target(data: bytes) -> None:
    """Read a dataset of which one file is another."""
    if not data:
        return
    path, read = FILES[(data[0] & 127) % len(FILES)]
    path.write_bytes(data[1:])
    try:
        with patch.dict(os.environ, MIEN_CACHE=str(ROOT / "no-cache")):  # a file: no folder can be made there, nothing is kept
            read(path, data[0] > 127)
    finally:
        if path in ORIGINALS:
            path.write_bytes(ORIGINALS[path])


def seeds() -> Iterator[bytes]:
    """Yield the files as they were, cut after a few lines, with black images in csvs of pixels."""
    recipe = Path(__file__).parents[1] / "recipes/fer2013-mien-nano.toml"
    texts = {"predictions.csv": PREDICTIONS, "clean.json": CLEAN, "recipe.toml": recipe.read_text(encoding="utf-8")}
    for number, (path, _) in enumerate(FILES):
        content = ORIGINALS.get(path, texts.get(path.name, "").encode())
        if path.suffix == ".csv" and max(map(len, content.splitlines()), default=0) > 2_000:
            content = re.sub(rb"\d+( \d+){2303}", b"0" + b" 0" * 2303, content)
            content = b"".join(content.splitlines(keepends=True)[:3])
        yield bytes([number]) + content
        yield bytes([number | 128]) + content
