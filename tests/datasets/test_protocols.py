"""Protocols keep apart what must be kept apart, and draw the same lots everywhere."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniatures import MINIATURES

from mien.data.datasets import Dataset, Draw, open_dataset
from mien.data.datasets.dataset import Files
from mien.data.datasets.protocols import Clean, cut, held_out, origins, subject_folds
from mien.errors import DatasetError


def columns_only(label: np.ndarray, subject: np.ndarray | None = None, part: str = "train") -> Dataset:
    """A dataset whose images are never read."""
    names = np.array([f"{number:05d}" for number in range(len(label))])
    return Dataset(
        name="drawn",
        labels=tuple("abcdefg"),
        images=Files(Path(), names),
        names=names,
        label=label,
        part=np.full(len(label), part),
        subject=subject,
    )


@given(st.integers(0, 10**6), st.integers(20, 400), st.sampled_from([0.05, 0.1, 0.3]))
def test_the_cut_takes_the_same_share_of_every_class(seed: int, number: int, fraction: float) -> None:
    label = np.random.default_rng(seed).integers(0, 7, number)
    data = columns_only(label)
    chosen = cut(data, np.arange(number), Draw(seed=seed, fraction=fraction))
    assert len(set(chosen)) == len(chosen)
    for kind in np.unique(label):
        assert (label[chosen] == kind).sum() == round(fraction * (label == kind).sum())


@given(st.integers(0, 10**6), st.integers(3, 30))
def test_the_cut_never_parts_a_person(seed: int, people: int) -> None:
    random = np.random.default_rng(seed)
    subject = np.array([f"s{n}" for n in random.integers(0, people, 200)])
    label = random.integers(0, 7, 200)
    chosen = cut(columns_only(label, subject), np.arange(200), Draw(seed=seed))
    rest = np.setdiff1d(np.arange(200), chosen)
    assert not set(subject[chosen]) & set(subject[rest])
    for kind in np.unique(label):  # whole people, so perhaps more than asked for, but never less
        assert (label[chosen] == kind).sum() >= round(0.1 * (label == kind).sum())


def test_a_new_image_moves_no_other() -> None:
    label = np.zeros(1000, int)
    few, many = columns_only(label[:900]), columns_only(label)
    before = set(few.names[cut(few, np.arange(900), Draw())])
    after = set(many.names[cut(many, np.arange(1000), Draw())])
    assert len(before - after) <= 15  # 90 and 100 are chosen; only those that the new ones push out may leave
    assert len(after & before) >= 75


def test_the_draw_is_the_same_on_every_machine() -> None:
    chosen = cut(columns_only(np.zeros(40, int)), np.arange(40), Draw())
    assert chosen.tolist() == [4, 10, 12, 39]
    assert cut(columns_only(np.zeros(40, int)), np.arange(40), Draw(seed=1)).tolist() != chosen.tolist()


@given(st.integers(0, 10**6), st.integers(3, 10), st.integers(10, 40))
def test_folds_by_subject_cover_everything_once_and_share_nobody(seed: int, folds: int, people: int) -> None:
    random = np.random.default_rng(seed)
    subject = np.array([f"s{n}" for n in (*range(people), *random.integers(0, people, 150))])
    data = columns_only(random.integers(0, 7, len(subject)), subject)
    seen = Counter()
    for fold in range(folds):
        splits = subject_folds(data, Draw(seed=seed, folds=folds, fold=fold))
        seen.update(splits["test"].tolist())
        who = {split: set(subject[rows]) for split, rows in splits.items()}
        assert not who["test"] & who["train"] and not who["test"] & who["validation"] and not who["validation"] & who["train"]
        assert sum(map(len, splits.values())) == len(subject)
    assert set(seen.values()) == {1} and len(seen) == len(subject)


def test_folds_that_cannot_be_made() -> None:
    data = columns_only(np.zeros(4, int), np.array(["a", "b", "a", "b"]))
    with pytest.raises(DatasetError):
        subject_folds(data, Draw())
    with pytest.raises(DatasetError):
        subject_folds(columns_only(np.zeros(6, int), np.array(["a", "b", "c"] * 2)), Draw(folds=2))  # no training split
    with pytest.raises(DatasetError):
        subject_folds(columns_only(np.zeros(6, int), np.array(["a", "b", "c"] * 2)), Draw(folds=3, fold=3))
    with pytest.raises(DatasetError):
        subject_folds(columns_only(np.zeros(4, int)), Draw())
    with pytest.raises(DatasetError):
        cut(data, np.arange(4), Draw(fraction=1.5))


def test_held_out_reports_on_what_papers_report_on() -> None:
    train, published = columns_only(np.zeros(50, int)), columns_only(np.zeros(8, int), part="validation")
    both = dataclasses.replace(
        train,
        names=np.append(train.names, [f"v{name}" for name in published.names]),
        label=np.append(train.label, published.label),
        part=np.append(train.part, published.part),
    )
    splits = held_out(both, Draw())
    assert both.part[splits["test"]].tolist() == ["validation"] * 8
    assert (len(splits["train"]), len(splits["validation"])) == (45, 5)


def test_origin_is_the_subject_before_the_recording_before_the_image() -> None:
    data = columns_only(np.zeros(3, int), np.array(["ann", "", ""]))
    data = dataclasses.replace(data, sequence=np.array(["clip", "clip", ""]))
    assert origins(data).tolist() == ["subject ann", "recording clip", "picture 00002"]


def test_the_authors_pooled_split_leaks_and_ours_does_not(tmp_path: Path) -> None:
    MINIATURES["pooled: train.csv, valid.csv, test.csv with image_path"].build(tmp_path)
    author = {
        split: open_dataset("pooled", tmp_path, split, "author:dan-efficientnet") for split in ("train", "validation", "test")
    }
    assert np.isin(author["validation"].names, author["train"].names).mean() == 0.76
    assert any("76 %" in flaw for flaw in author["validation"].flaws)
    ours = {split: open_dataset("pooled", tmp_path, split) for split in ("train", "validation", "test")}
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not set(ours[first].names) & set(ours[second].names)
        assert not set(ours[first].subject) & set(ours[second].subject) - {""}
    assert set(ours["test"].groups["official part"][ours["test"].groups["source"] == "rafdb"]) == {"test"}
    assert set(ours["test"].groups["source"]) == {"affectnet", "rafdb", "ckplus"}
    assert sum(map(len, ours.values())) == len(set(open_dataset("pooled", tmp_path, "all").names))


def test_authors_protocols_select_on_what_they_report(tmp_path: Path) -> None:
    MINIATURES["rafdb: list_patition_label.txt and Image"].build(tmp_path)
    validation, test = (open_dataset("rafdb", tmp_path, split, "author:ddamfn") for split in ("validation", "test"))
    assert list(validation) == list(test) and test.flaws[0] == "selected on test"
    ours = open_dataset("rafdb", tmp_path, "validation", "held-out", draw=Draw(fraction=0.5))
    assert not set(ours.names) & set(test.names) and ours.flaws == ()


def test_image_folds_of_the_authors_share_people(tmp_path: Path) -> None:
    MINIATURES["ckplus: cohn-kanade-images and Emotion"].build(tmp_path)
    train, test = (open_dataset("ckplus", tmp_path, split, "author:global-roi") for split in ("train", "test"))
    assert "neutral" in train.labels and set(train.subject) & set(test.subject)
    assert len(train) + len(test) == 4 * 3 + 6


def test_a_clean_file_leaves_out_what_it_lists_and_refuses_other_copies(tmp_path: Path) -> None:
    data = open_dataset("synthetic", split="test")
    path = tmp_path / "clean.json"
    Clean("synthetic", "official", {"test": data.digest}, {"test": [str(data.names[0])]}, {"test": "just because"}).write(path)
    clean = open_dataset("synthetic", split="test", protocol=f"clean:{path}")
    assert clean.names.tolist() == data.names[1:].tolist()
    assert clean.protocol == "clean:clean.json" and clean.notes[-1] == "1 of 42 images excluded: just because"
    with pytest.raises(DatasetError):
        open_dataset("synthetic", split="test", protocol=f"clean:{path}", number="140")
    with pytest.raises(DatasetError):
        open_dataset("synthetic", split="train", protocol=f"clean:{path}")
    with pytest.raises(DatasetError):
        open_dataset("synthetic", protocol="clean:nowhere.json")
    path.write_text("[]")
    with pytest.raises(DatasetError):
        open_dataset("synthetic", protocol=f"clean:{path}")
