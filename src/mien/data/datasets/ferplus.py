"""FERPlus: ten crowd votes for each image of FER2013 (Barsoum et al. 2016), and the rules for turning them into labels.

Votes are columns in the order of `mien.labels.FERPLUS_VOTES`. The rules are those of `src/ferplus.py` in
microsoft/FERPlus (MIT): a class with a single vote loses it; an image whose winner is `unknown` or `NF` is dropped.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import DatasetError
from ...labels import FERPLUS, FERPLUS_VOTES
from . import fer2013
from .dataset import Dataset
from .folders import of_files, part_of
from .layout import Place, child
from .listing import images_below, read_rows

FOLDERS = {
    "FER2013Train": "train", "FER2013Valid": "validation", "FER2013Test": "test", "Training": "train",
    "PublicTest": "validation", "PrivateTest": "test", "train": "train", "test": "test",
}  # fmt: skip
"""Folder → part, in the exports of Microsoft's script and of others."""

Mode = Literal["majority", "probability", "multi-target", "dda"]


def targets(votes: np.ndarray, mode: Mode = "majority") -> tuple[np.ndarray, np.ndarray]:
    """Turn votes (N, 10) into label distributions (N, 8), rows that sum to one or are zero, and whether they are kept (N,).

    Args:
        votes: counts.
        mode: `"majority"`: the winner, if it holds more than half of the votes left after single votes are removed.
            `"probability"`: classes in order of votes until three quarters of the votes are covered or three classes
            are taken, stopping at `unknown` or `NF`; kept if they hold more than half of the votes.
            `"multi-target"`: every class with 30 % of the votes or more, if together they hold more than half. A loss
            over single classes takes each non-zero entry as a full target.
            `"dda"`: what Dual-Domain Attention does instead: only images are removed whose winner is `NF`, the
            votes for `unknown` count as neutral, and the first of equals wins.
    """
    if mode == "dda":
        return _dda(np.asarray(votes, np.float64))
    counts = np.where(np.asarray(votes) <= 1, 0, votes).astype(np.float64)
    total = counts.sum(1)
    if mode == "majority":
        taken = np.zeros_like(counts)
        rows = np.flatnonzero(counts.max(1, initial=0) > total / 2)
        winner = counts[rows].argmax(1)
        taken[rows, winner] = counts[rows, winner]
    elif mode == "multi-target":
        taken = np.where(counts >= 0.3 * total[:, None], counts, 0)
        taken[taken.sum(1) <= 0.5 * total] = 0
    else:
        taken = np.stack([_covering(row) for row in counts]) if len(counts) else counts
    kept = taken.any(1) & (taken.argmax(1) < 8)
    distribution = np.where(kept[:, None], taken[:, :8], 0)
    return distribution / np.where(kept, distribution.sum(1), 1)[:, None], kept


def _covering(row: np.ndarray) -> np.ndarray:
    """The classes that the probability mode takes from one row of cleaned counts, or zeros if it drops the row."""
    left, total = row.copy(), row.sum()
    taken, covered, number, stop = np.zeros_like(row), 0.0, 0, False
    while covered < 0.75 * total and number < 3 and not stop:
        best = left.max()
        for index in np.flatnonzero(left == best):  # classes with equal votes are taken together
            taken[index], left[index] = best, 0
            covered, number = covered + best, number + 1
            if index >= 8:  # unknown and NF end the taking, and count only when nothing better came before
                stop = True
                if taken.sum() > best:
                    taken[index], number = 0, number - 1
                break
    return np.zeros_like(row) if taken.sum() <= 0.5 * total or number > 3 else taken


def _dda(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = votes.argmax(1) != FERPLUS_VOTES.index("NF")
    winner_only = votes[:, :8].copy()
    winner_only[:, 0] += votes[:, 8]
    kept &= winner_only.any(1)
    return np.where(kept[:, None], np.eye(8)[winner_only.argmax(1)], 0), kept


def read_votes(path: Path) -> tuple[np.ndarray, list[str], list[str]]:
    """Read `fer2013new.csv`, or the `label.csv` that Microsoft's script writes into each folder (no header line).

    Returns (N, 10) uint8 votes, N image names, and N words of `Usage` (empty in `label.csv`). A row without ten valid votes
    raises DatasetError.
    """
    columns = ["Image name", "box", *FERPLUS_VOTES] if path.name.lower() == "label.csv" else None
    votes, names, usage = [], [], []
    for line, row in read_rows(path, columns):
        try:
            votes.append([_vote(row[name]) for name in FERPLUS_VOTES])
        except (KeyError, ValueError) as error:
            raise DatasetError(f"{path} line {line}: expected ten votes ({error}); download the file again") from error
        names.append(row.get("Image name", ""))
        usage.append(row.get("Usage", ""))
    return np.array(votes, np.uint8).reshape(-1, 10), names, usage


def _vote(text: str) -> int:
    try:
        count = int(float(text))
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:40]!r} is not a number of votes") from None
    if not 0 <= count <= 255:
        raise ValueError(f"{text[:40]!r} votes")
    return count


def read_with_csv(place: Place) -> Dataset:
    """Read the csv of FER2013 and `fer2013new.csv`, matched by row; DatasetError if their rows differ."""
    images, path = place.marked
    data = fer2013.of_arrays(place, fer2013.csv_arrays(images))
    votes, _, usage = read_votes(path)
    row = data.names.astype(np.int64)
    if len(votes) < (row.max(initial=-1) + 1) or (len(votes) != len(row) and not place.damage.found):
        message = f"{path} has {len(votes)} rows of votes for {len(row)} images; rows are matched, so both must be complete"
        raise DatasetError(message)
    part = np.array([part_of(word) for word in usage])
    if len(wrong := np.flatnonzero(part[row] != data.part)):
        first = int(row[wrong[0]])
        raise DatasetError(
            f"{path} is not aligned with the images: row {first} is {usage[first]!r} there and {data.part[wrong[0]]} in "
            f"the csv ({len(wrong)} rows differ). Use the two files in their original order"
        )
    return _labeled(place, data, votes[row])


def read_npz(place: Place) -> Dataset:
    """Read `fer2013.npz`."""
    arrays = fer2013.npz_arrays(place.marked[0])
    return _labeled(place, fer2013.of_arrays(place, arrays), arrays["votes"])


def read_microsoft(place: Place) -> Dataset:
    """Read folders of files with FERPlus names (`fer0000000.png`), also in class folders; DatasetError for other names."""
    known: dict[str, np.ndarray] = {}
    files = [path for folder in FOLDERS if (path := child(place.base, f"{folder}/label.csv"))]
    for path in files or place.marked[-1:]:
        votes, names, _ = read_votes(path)
        known |= {name.rpartition(".")[0]: row for name, row in zip(names, votes, strict=True) if name}
    names, parts, rows = [], [], []
    for folder, part in FOLDERS.items():
        below = child(place.base, folder)
        for name in images_below(below) if below else ():
            stem = name.rpartition("/")[2].rpartition(".")[0]
            if stem in known:
                names.append(f"{below.name}/{name}" if below else name)
                parts.append(part)
                rows.append(known[stem])
            else:
                place.damage(f"no votes for {folder}/{name}")
    if not rows:
        raise DatasetError(
            f"no image under {place.base} has a name of fer2013new.csv (fer0000000.png …). Votes go by row of fer2013.csv, "
            "and the names in class folders of other copies (Training_123.jpg) do not contain the row: use fer2013.csv beside "
            "fer2013new.csv"
        )
    return _labeled(place, of_files(place.base, FERPLUS, names, [-1] * len(names), parts), np.array(rows))


def _labeled(place: Place, data: Dataset, votes: np.ndarray) -> Dataset:
    """Apply the selected label rule and exclude the images that it drops."""
    mode = place.options["mode"]
    distribution, kept = targets(votes, mode)  # pyrefly: ignore  # one of Mode: the reader checked it
    label = np.where(kept, distribution.argmax(1), -1)
    note = f"rule {mode}: {int(kept.sum()):,} of {len(kept):,} images have a label, the rest is dropped"
    data = dataclasses.replace(
        data, labels=FERPLUS, label=label, distribution=distribution, votes=votes, vote_names=FERPLUS_VOTES
    )
    return data.take(np.flatnonzero(kept), notes=(note,))
