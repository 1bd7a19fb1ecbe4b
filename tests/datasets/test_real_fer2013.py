"""FER2013 and FERPlus as they are: published fingerprints, counts and rules."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from mien.data.datasets import fer2013, open_dataset, reader

COUNTS = {
    "train": [3995, 436, 4097, 7215, 4830, 3171, 4965],
    "validation": [467, 56, 496, 895, 653, 415, 607],
    "test": [491, 55, 528, 879, 594, 416, 626],
}
KEPT = {"majority": [25060, 3199, 3153], "probability": [27956, 3505, 3505]}
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def root(shared: Path) -> Path:
    return shared / "data" / "fer2013"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One cache for this file, so that 79 MB are unpacked once."""
    folder = tmp_path_factory.getbasetemp() / "fer2013-cache"
    monkeypatch.setenv("MIEN_CACHE", str(folder))
    return folder


def arrays(root: Path, split: str) -> list[np.ndarray]:
    """Return images, labels and votes of a split straight from the file."""
    with np.load(root / "fer2013.npz", allow_pickle=False) as file:
        rows = file["usage"] == fer2013.SPLITS[split]
        return [file[name][rows] for name in ("images", "label", "ferplus_votes")]


def test_counts_and_fingerprints_are_the_published_ones(root: Path) -> None:
    for split in SPLITS:
        data = open_dataset("fer2013", root, split)
        assert list(data.counts.values()) == COUNTS[split]
        assert data.digest == reader("fer2013").fingerprints[split] and data.notes == ()


def test_images_are_mapped_and_pickle_as_a_path(root: Path) -> None:
    data = open_dataset("fer2013", root, "train")
    assert isinstance(data.pixels, np.memmap) and data.pixels.base is not None
    pickled = pickle.dumps(data)
    assert len(pickled) < 3_000_000 < data.pixels.nbytes
    assert np.array_equal(pickle.loads(pickled).pixels, data.pixels)


@pytest.mark.parametrize("mode", KEPT)
def test_ferplus_keeps_the_rows_that_microsofts_rules_keep(mode: str, root: Path) -> None:
    data = open_dataset("ferplus", root, "all", mode=mode)
    assert [int((data.part == split).sum()) for split in SPLITS] == KEPT[mode]
    assert data.distribution is not None and np.allclose(data.distribution.sum(1), 1)


def test_multi_target_agrees_with_its_definition_row_by_row(root: Path) -> None:
    _, _, votes = arrays(root, "test")
    distribution, kept = fer2013.label_votes(votes, "multi-target")
    for row, got, keep in zip(votes[:500].astype(float), distribution, kept, strict=False):
        row = np.where(row > 1, row, 0)
        chosen = np.where(row >= 0.3 * row.sum(), row, 0)
        expected = chosen.sum() > 0.5 * row.sum() and chosen.argmax() < 8
        assert keep == expected
        if keep:
            assert np.allclose(got, chosen[:8] / chosen[:8].sum())


def test_the_reader_gives_the_arrays_of_the_file(root: Path) -> None:
    for split in SPLITS:
        (images, label, _), data = arrays(root, split), open_dataset("fer2013", root, split)
        assert np.array_equal(images, data.pixels) and np.array_equal(label, data.label)
