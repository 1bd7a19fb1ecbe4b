"""Csv files as people write them: dialects, encodings, paths, codes, missing labels; folders with orders and other files."""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from miniatures import write

from mien.data.datasets import Dataset, open_dataset
from mien.errors import DatasetError

WORDS = {
    "english": ("angry", "happy", "sad"),
    "german": ("wütend", "fröhlich", "traurig"),
    "french": ("colère", "joyeux", "triste"),
    "spanish": ("enojo", "alegría", "tristeza"),
    "russian": ("гнев", "радость", "печаль"),
    "chinese": ("愤怒", "高兴", "悲伤"),
}
FILES = ("a/1.png", "a/zwei ; 2.png", 'b/"3",x.png')


def plant(root: Path) -> None:
    for name in FILES:
        write(root / name)


def save(path: Path, rows: list[list[str]], delimiter: str = ",", encoding: str = "utf-8", newline: str = "\n") -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=newline).writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))


def labels_of(data: Dataset) -> list[str | None]:
    return [sample.label for sample in data]


@given(
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    words=st.sampled_from(sorted(WORDS)),
    blanks=st.booleans(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_dialects(delimiter: str, encoding: str, newline: str, words: str, blanks: bool, tmp_path: Path) -> None:
    plant(tmp_path)
    names = [*WORDS[words]]
    rows = [[name, word, "0.5"] for name, word in zip(FILES, names, strict=True)]
    header = [" Path ", "LABEL", "valence"] if blanks else ["path", "label", "valence"]
    save(tmp_path / "list.csv", [header, *rows], delimiter, encoding, newline)
    data = open_dataset("csv", tmp_path / "list.csv", "all")
    assert list(data.names) == list(FILES)
    if words != "english":
        assert labels_of(data) == [unicodedata.normalize("NFC", name) for name in names]
    assert data.valence is not None and data.valence.tolist() == [0.5] * 3 and len(data.labels) == 3


def test_excel_writes_the_separator_and_decimal_commas(tmp_path: Path) -> None:
    plant(tmp_path)
    (tmp_path / "list.csv").write_text('sep=;\npath;label;valence\na/1.png;happy;"0,25"\n')
    (sample,) = open_dataset("csv", tmp_path, "all")
    assert (sample.label, sample.valence) == ("happiness", 0.25)


def test_broken_utf_16_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"\xff\xfe" + "path,label\n".encode("utf-16-le") + b"\x00\xd8\x00")
    with pytest.raises(DatasetError) as caught:
        open_dataset("csv", tmp_path, "all")
    assert caught.value.path == str(tmp_path / "list.csv")


def test_paths_as_written(tmp_path: Path) -> None:
    plant(tmp_path / "images")
    for name, paths in {
        "relative": [f"../images/{name}" for name in FILES],
        "absolute": [str(tmp_path / "images" / name) for name in FILES],
        "elsewhere": [f"/home/kim/images/{name}" for name in FILES],
    }.items():
        (tmp_path / "lists").mkdir(exist_ok=True)
        save(tmp_path / "lists" / f"{name}.csv", [["path", "label"], *([path, "happy"] for path in paths)])
        options = {"images": str(tmp_path / "images")} if name == "elsewhere" else {}
        data = open_dataset("csv", tmp_path / "lists" / f"{name}.csv", "all", **options)
        assert len(data) == 3 and all(sample.read().shape == (48, 48, 3) for sample in data)
        assert bool(data.notes) == (name == "elsewhere")


def test_no_other_file_of_the_same_name_is_taken(tmp_path: Path) -> None:
    plant(tmp_path)
    write(tmp_path / "1.png")
    save(tmp_path / "list.csv", [["path", "label"], ["typo/1.png", "happy"], [FILES[1], "sad"]])
    with pytest.raises(DatasetError) as caught:
        open_dataset("csv", tmp_path, "all")
    assert caught.value.value == 1
    assert list(open_dataset("csv", tmp_path, "all", damaged="skip").names) == [FILES[1]]


@pytest.mark.parametrize(("codes", "labels"), [(("3", "-1", "0"), ("happiness", None, "anger")), (("3.0", "6.0", "4,0"), None)])
def test_numbers_are_codes(codes: tuple[str, ...], labels: tuple[str | None, ...] | None, tmp_path: Path) -> None:
    plant(tmp_path)
    save(tmp_path / "list.csv", [["path", "label"], *zip(FILES, codes, strict=True)])  # pyrefly: ignore
    with pytest.raises(DatasetError) as caught:
        open_dataset("csv", tmp_path, "all")
    assert set(caught.value.value) <= set(codes)
    data = open_dataset("csv", tmp_path, "all", labels="fer2013")
    assert tuple(labels_of(data)) == (labels or ("happiness", "neutral", "sadness"))


@pytest.mark.parametrize("missing", ["nan", "NA", "None", "", "n/a", "null"])
def test_missing_labels(missing: str, tmp_path: Path) -> None:
    plant(tmp_path)
    save(tmp_path / "list.csv", [["path", "label"], [FILES[0], "happy"], [FILES[1], missing], [FILES[2], "sad"]])
    data = open_dataset("csv", tmp_path, "all")
    assert labels_of(data) == ["happiness", None, "sadness"] and data.labels == ("happiness", "sadness")
    assert len(data.notes) == 1


def test_columns_that_are_missing_or_called_otherwise(tmp_path: Path) -> None:
    plant(tmp_path)
    rows = [[name, "happy"] for name in FILES]
    save(tmp_path / "list.csv", [["Image_Path", "Emotions"], *rows])
    assert open_dataset("csv", tmp_path, "all").counts == {"happiness": 3}
    save(tmp_path / "list.csv", [["path", "gender_label"], *rows])
    data = open_dataset("csv", tmp_path, "all")
    assert data.labels == () and len(data.notes) == 1 and "gender_label" in data.notes[0]
    assert open_dataset("csv", tmp_path, "all", label="gender_label").counts == {"happiness": 3}
    with pytest.raises(DatasetError) as caught:
        open_dataset("csv", tmp_path, "all", label="gender")
    assert (caught.value.value, caught.value.expected) == ("gender", ["path", "gender_label"])


def test_unknown_splits_are_noted(tmp_path: Path) -> None:
    plant(tmp_path)
    splits = ("train", "holdout", "Test")
    save(tmp_path / "list.csv", [["path", "label", "split"], *([n, "sad", s] for n, s in zip(FILES, splits, strict=True))])
    data = open_dataset("csv", tmp_path, "all")
    assert data.part.tolist() == ["train", "", "test"] and any("holdout" in note for note in data.notes)
    for name in ("train", "val", "extra"):
        write(tmp_path / "folders" / name / "happy" / "1.png")
    assert any("extra" in note for note in open_dataset("folder", tmp_path / "folders", "all").notes)


def test_every_image_extension_is_read_and_others_are_counted(tmp_path: Path) -> None:
    for number, extension in enumerate((".png", ".JPG", ".jfif", ".webp", ".avif", ".jp2", ".bmp", ".tif")):
        write(tmp_path / "happy" / "1.png").rename(tmp_path / "happy" / f"{number}{extension}")
    (tmp_path / "happy" / "notes.txt").touch()
    data = open_dataset("folder", tmp_path, "all")
    assert len(data) == 8 and any("1 .txt" in note for note in data.notes)


def test_fer2013_of_kaggle_and_incomplete_files(tmp_path: Path) -> None:
    pixels = " ".join(["7"] * 2304)
    (tmp_path / "both").mkdir()
    save(tmp_path / "both" / "train.csv", [["emotion", "pixels"], *([str(number), pixels] for number in range(7))])
    save(tmp_path / "both" / "test.csv", [["pixels"], [pixels], [pixels]])
    data = open_dataset("fer2013", tmp_path / "both", "all")
    assert data.part.tolist() == ["train"] * 7 + ["test"] * 2 and data.label.tolist() == [*range(7), -1, -1]
    (tmp_path / "no-usage").mkdir()
    save(tmp_path / "no-usage" / "fer2013.csv", [["emotion", "pixels"], ["0", pixels]])
    with pytest.raises(DatasetError) as caught:
        open_dataset("fer2013", tmp_path / "no-usage", "all")
    assert caught.value.expected == "Usage"
    (tmp_path / "cut").mkdir()
    save(tmp_path / "cut" / "fer2013.csv", [["emotion", "pixels", "Usage"], *[["0", pixels, "Training"]] * 3])
    path = tmp_path / "cut" / "fer2013.csv"
    path.write_bytes(path.read_bytes()[:-2000])
    data = open_dataset("fer2013", tmp_path / "cut", "all", damaged="skip")
    assert len(data) == 2 and any("line 4" in note and "of 2304" in note for note in data.notes)


def test_numbered_folders_of_affectnet_need_an_order(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for number in range(8):
            write(tmp_path / part / str(number) / "1.png")
    with pytest.raises(DatasetError) as caught:
        open_dataset("affectnet8", tmp_path, "all")
    assert caught.value.expected == ("affectnet", "alphabetical")
    for order, first in (("affectnet", "neutral"), ("alphabetical", "anger")):
        assert open_dataset("affectnet8", tmp_path, "all", order=order)[0].label == first


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.tsv", b"path\tlabel\na/1.png\thappy\n"),
        ("list.csv", b"'path','label'\n'a/1.png','happy'\n"),
        ("list.csv", b"path,label\n\n,\na/1.png,happy\n ,\n"),
        ("list.csv", b"path,label\n../up/a/1.png,happy\n"),
        ("list.csv", "path;label\nBilder ä/1.png;fröhlich\n".encode("cp1252")),
    ],
)
def test_lists_of_other_programs(name: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "up"
    for image in ("a/1.png", "Bilder ä/1.png"):
        write(folder / image)
    (folder / name).write_bytes(content)
    for here, root in ((tmp_path, f"up/{name}"), (folder, name), (folder, str(folder / name))):
        monkeypatch.chdir(here)
        data = open_dataset("csv", root, "all")
        assert labels_of(data) in (["happiness"], ["fröhlich"]) and data[0].image.exists()


def test_a_workbook_and_a_missing_folder_of_images_are_named(tmp_path: Path) -> None:
    plant(tmp_path)
    (tmp_path / "list.csv").write_bytes(b"PK\x03\x04workbook")
    with pytest.raises(DatasetError) as caught:
        open_dataset("csv", tmp_path / "list.csv")
    assert caught.value.path == str(tmp_path / "list.csv")
    save(tmp_path / "list.csv", [["path", "label"], ["a/1.png", "happy"]])
    with pytest.raises(DatasetError) as caught:
        open_dataset("csv", tmp_path / "list.csv", images=str(tmp_path / "nowhere"))
    assert caught.value.path == str(tmp_path / "nowhere")
