"""Annotation files that fuzzing (`fuzz/tables.py`) broke a reader with: each is refused in a line, or its row left out."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from miniatures import MINIATURES, write, write_csv

from mien.data.datasets import open_dataset
from mien.data.datasets.listing import Locator, number_in
from mien.errors import DatasetError

HUGE = "9" * 5_000
"""More digits than Python turns into an `int`."""


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(8)


def with_last(old: str, new: str) -> Callable[[str], str]:
    """Replace the last of some text."""
    return lambda text: new.join(text.rsplit(old, 1))


def npz_with(**changes: np.ndarray) -> Callable[[bytes], bytes]:
    def spoil(data: bytes) -> bytes:
        with np.load(io.BytesIO(data)) as file:
            arrays = {**file, **changes}
        whole = io.BytesIO()
        np.savez(whole, **arrays)
        return whole.getvalue()

    return spoil


ROWS = [
    ("rafdb: list_patition_label.txt and Image", "basic/EmoLabel/list_patition_label.txt", lambda t: t.rstrip()[:-1] + HUGE),
    ("rafdb: list_patition_label.txt and Image", "basic/EmoLabel/list_patition_label.txt", lambda t: t.rstrip()[:-1] + "²"),
    ("pooled: train.csv, valid.csv, test.csv with image_path", "test.csv", lambda t: t.rstrip().rsplit(",", 1)[0] + f",{HUGE}"),
    ("affectnet8: affectnet.csv with phases", "affectnet.csv", lambda t: t.rstrip().rsplit(",", 1)[0] + f",{HUGE}"),
]


@pytest.mark.parametrize(("name", "victim", "spoil"), ROWS, ids=itertools.count())
def test_labels_that_are_no_int_are_damaged_rows(name: str, victim: str, spoil: Callable[[str], str], tmp_path: Path) -> None:
    whole = build(name, tmp_path)
    path = next(tmp_path.rglob(Path(victim).name))
    path.write_text(spoil(path.read_text()))
    refused_or_left_out(name, tmp_path, whole)


@pytest.mark.parametrize("text", ["inf", "300", "-1", "1e400", "x" * 5_000], ids=itertools.count())
def test_votes_that_no_image_can_have(text: str, tmp_path: Path) -> None:
    name = "ferplus: fer2013.csv and fer2013new.csv"
    build(name, tmp_path)
    path = tmp_path / "fer2013new.csv"
    path.write_text(path.read_text().rstrip().rsplit(",", 1)[0] + f",{text}\n")
    with pytest.raises(DatasetError) as caught:
        open_dataset("ferplus", tmp_path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["1 2", "1 2 3 x", "\udcff"])
def test_boxes_of_rafdb_that_are_none(text: str, tmp_path: Path) -> None:
    name = "rafdb: list_patition_label.txt and Image images=original"
    whole = build(name, tmp_path)
    path = next(tmp_path.rglob("*_boundingbox.txt"))
    path.write_bytes(text.encode(errors="surrogateescape"))
    refused_or_left_out(name, tmp_path, whole, images="original")


@pytest.mark.parametrize("text", ["0\n0\n9", "0\n0\n-1", "0\n0", "0\n0\nold", "\udcff"])
def test_attributes_of_rafdb_that_are_none(text: str, tmp_path: Path) -> None:
    """`-1` was once read as the last word of the list."""
    name = "rafdb: list_patition_label.txt and Image"
    whole = build(name, tmp_path)
    path = next(tmp_path.rglob("*_manu_attri.txt"))
    path.write_bytes(text.encode(errors="surrogateescape"))
    refused_or_left_out(name, tmp_path, whole)


@pytest.mark.parametrize("text", ["nan\n", "inf 1\n", "9999999999999999999999 1\n", "1.5 1\n"])
def test_action_units_of_ckplus_that_are_none(text: str, tmp_path: Path) -> None:
    build("ckplus: cohn-kanade-images and Emotion", tmp_path)
    next(tmp_path.rglob("*_facs.txt")).write_text(text)
    with pytest.raises(DatasetError):
        open_dataset("ckplus", tmp_path, "all")


def test_a_rating_of_jaffe_that_is_no_number_is_missed(tmp_path: Path) -> None:
    name = "jaffe: images named KA.AN1.39.tiff labels=rated"
    whole = build(name, tmp_path)
    path = next(tmp_path.glob("*.txt"))
    row = next(line for line in path.read_text().splitlines() if "-AN1" in line and "." in line)
    first, second, *rest = row.split()
    path.write_text(path.read_text().replace(row, " ".join([first, f"{second}.", *rest])))
    refused_or_left_out(name, tmp_path, whole, labels="rated")


def test_numbers_of_own_lists_that_are_none(tmp_path: Path) -> None:
    for name in ("1.png", "2.png", "3.png"):
        write(tmp_path / name)
    write_csv(
        tmp_path / "list.csv",
        ["image", "label", "valence"],
        [("1.png", "happy", "1e300"), ("2.png", "sad", "p2"), ("3.png", "sad", "")],
    )
    with pytest.raises(DatasetError):
        open_dataset("csv", tmp_path, "all")
    data = open_dataset("csv", tmp_path, "all", damaged="skip")
    assert data.names.tolist() == ["1.png", "3.png"] and data.valence is not None and np.isnan(data.valence).all()


def test_cells_without_end_are_no_csv(tmp_path: Path) -> None:
    write(tmp_path / "1.png")
    for text in ('image,label\n"' + "x" * 1_100_000, '"' + "x" * 1_100_000):
        (tmp_path / "list.csv").write_text(text)
        with pytest.raises(DatasetError):
            open_dataset("csv", tmp_path, "all")
    (tmp_path / "fer2013.csv").write_text('emotion,pixels\n"' + "x" * 1_100_000)
    with pytest.raises(DatasetError):
        open_dataset("fer2013", tmp_path, "all")


def test_names_that_no_file_system_takes_are_missing_files(tmp_path: Path) -> None:
    assert Locator(tmp_path)("x" * 300 + "/1.png") is None
    assert Locator(tmp_path)("a\0b/1.png") is None


def test_long_rows_make_no_long_message(tmp_path: Path) -> None:
    write(tmp_path / "1.png")
    write_csv(tmp_path / "list.csv", ["image", "label"], [("1.png", "happy"), ("x\ny" * 5_000, "sad")])
    with pytest.raises(DatasetError) as caught:
        open_dataset("csv", tmp_path, "all")
    assert len(str(caught.value)) < 800 and "\n" not in str(caught.value)


def test_long_headers_make_no_long_message(tmp_path: Path) -> None:
    write_csv(tmp_path / "list.csv", ["a\nb" * 500, *map(str, range(1000))], [])
    with pytest.raises(DatasetError) as caught:
        open_dataset("csv", tmp_path, "all")
    assert len(str(caught.value)) < 800 and "\n" not in str(caught.value)


def test_a_list_of_london_without_a_column(tmp_path: Path) -> None:
    build("london: labels.csv and images", tmp_path)
    path = tmp_path / "labels.csv"
    path.write_text(path.read_text().replace("face_age", "years", 1))
    with pytest.raises(DatasetError):
        open_dataset("london", tmp_path, "all")


@pytest.mark.parametrize("expression", ["furious", ""])
def test_expressions_that_london_does_not_have(expression: str, tmp_path: Path) -> None:
    name = "london: labels.csv and images"
    whole = build(name, tmp_path)
    path = tmp_path / "labels.csv"
    first, *rest = path.read_text().splitlines()
    cells = rest[0].split(",")
    cells[first.split(",").index("expression")] = expression
    path.write_text("\n".join([first, ",".join(cells), *rest[1:]]) + "\n")
    refused_or_left_out(name, tmp_path, whole)


@pytest.mark.parametrize("content", [b"x\n", b"\xff\n", b"8\n", b"1\n2\n", b""])
def test_an_emotion_of_ckplus_that_is_none(content: bytes, tmp_path: Path) -> None:
    build("ckplus: cohn-kanade-images and Emotion", tmp_path)
    next(tmp_path.rglob("*_emotion.txt")).write_bytes(content)
    with pytest.raises(DatasetError):
        open_dataset("ckplus", tmp_path, "all")


def test_short_rows_of_london_are_damaged(tmp_path: Path) -> None:
    name = "london: labels.csv and images"
    whole = build(name, tmp_path)
    path = tmp_path / "labels.csv"
    path.write_text(path.read_text().rstrip().rsplit(",", 4)[0] + "\n")
    refused_or_left_out(name, tmp_path, whole)


def test_numbers_of_affwild2_beyond_their_type(tmp_path: Path) -> None:
    """257 would be 1 as an int8, and inf is no index."""
    build("affwild2: cropped_aligned and annotations filter=none", tmp_path)
    path = tmp_path / "training_set_annotations.txt"
    first, *rest = path.read_text().splitlines()[1].split(",")
    path.write_text(path.read_text() + ",".join([first, "1e300", "nan", "inf", *["257"] * 12]) + "\n")
    data = open_dataset("affwild2", tmp_path, "all", filter="none")
    index = np.flatnonzero(data.part == "train")[-1]
    assert data.label[index] == -1 and data.action_units is not None and (data.action_units[index] == -1).all()
    assert data.valence is not None and np.isnan(data.valence[index])
    assert len(rest) == 15


@pytest.mark.parametrize(
    "content",
    [
        b"",
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}"),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': ("),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': ()}"),
    ],
)
def test_numbers_of_affectnet_that_are_no_array(content: bytes, tmp_path: Path) -> None:
    name = "affectnet8: train_set, val_set with annotations"
    whole = build(name, tmp_path)
    (tmp_path / "train_set/annotations/1_val.npy").write_bytes(content)
    refused_or_left_out(name, tmp_path, whole)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:-10],
        lambda data: data[:200],
        npz_with(usage=np.array([9], np.uint8)),
        npz_with(label=np.array(3)),
        npz_with(images=np.zeros((3, 48, 48), np.uint8)),
        npz_with(ferplus_votes=np.zeros((3, 10), "U3")),
        npz_with(label=np.array([None])),
    ],
)
@pytest.mark.parametrize("dataset", ["fer2013", "ferplus"])
def test_arrays_of_fer2013_that_are_damaged(dataset: str, spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    build("fer2013: fer2013.npz" if dataset == "fer2013" else "ferplus: fer2013.npz with votes", tmp_path)
    path = tmp_path / "fer2013.npz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DatasetError) as caught:
        open_dataset(dataset, tmp_path, "all")
    assert "\n" not in str(caught.value)


def test_only_plain_digits_are_numbers() -> None:
    assert [number_in(text) for text in ("0", "07", "123456789")] == [0, 7, 123456789]
    assert {number_in(text) for text in ("", "-1", "²", "٣", "1.0", " 1", HUGE)} == {-1}


def build(name: str, root: Path) -> int:
    """Build a miniature and return how many images it has."""
    miniature = MINIATURES[name]
    miniature.build(root)
    return len(open_dataset(miniature.dataset, root, "all", **miniature.options))


def refused_or_left_out(name: str, root: Path, whole: int, **options: str) -> None:
    dataset = MINIATURES[name].dataset
    with pytest.raises(DatasetError) as caught:
        open_dataset(dataset, root, "all", **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 800
    assert len(open_dataset(dataset, root, "all", damaged="skip", **options)) == whole - 1
