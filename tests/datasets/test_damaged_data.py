"""What people's copies suffer from: broken rows, lost files, foreign paths, names in no known encoding."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn_files import face, write, write_csv
from fer_miniatures import fer2013_csv, ferplus_csv, pixels_text
from miniatures import MINIATURES

from mien.data.datasets import cache as cache_of
from mien.data.datasets import open_dataset
from mien.data.datasets.layout import Damage, has_column
from mien.data.datasets.listing import Locator, images_below, read_rows
from mien.errors import DatasetError


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line.replace(" ", "", 1),
        lambda line: line.replace(" ", " 300 ", 1),
        lambda line: line[0] + ",256" + line[line.index(" ") :],
        lambda line: line.replace(" ", " x ", 1),
        lambda line: "7" + line[1:],
        lambda line: line.replace("Training", "Trainnig"),
        lambda line: line.partition(",")[0] + "\n",
    ],
)
def test_a_broken_row_is_named_or_left_out(spoil: Callable[[str], str], tmp_path: Path) -> None:
    fer2013_csv(tmp_path)
    path = tmp_path / "fer2013.csv"
    lines = lines_of(path)
    lines[2] = spoil(lines[2])
    path.write_text("".join(lines))
    with pytest.raises(DatasetError) as caught:
        open_dataset("fer2013", tmp_path)
    assert "--skip-damaged" in str(caught.value)
    for _ in range(2):  # the second time from the cache, which must remember what was left out
        data = open_dataset("fer2013", tmp_path, "all", damaged="skip")
        assert "00001" not in data.names and data.names[1] == "00002"
        assert any("1 invalid row skipped" in note for note in data.notes)


def test_a_csv_without_pixels(tmp_path: Path) -> None:
    write_csv(tmp_path / "fer2013.csv", ["emotion", "Usage"], [(0, "Training")])
    with pytest.raises(DatasetError):
        open_dataset("fer2013", tmp_path)


def test_a_changed_csv_is_parsed_again(tmp_path: Path, cache: Path) -> None:
    fer2013_csv(tmp_path)
    before = open_dataset("fer2013", tmp_path, "all")
    assert isinstance(before.label, np.ndarray) and len(list(cache.rglob("images.npy"))) == 1
    path = tmp_path / "fer2013.csv"
    path.write_text(path.read_text() + f"3,{pixels_text(face())},PrivateTest\n")
    assert len(open_dataset("fer2013", tmp_path, "all")) == len(before) + 1
    assert len(list(cache.rglob("images.npy"))) == 2


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fer2013_csv(tmp_path)
    (tmp_path / "file").write_text("where a folder should be")
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "file"))
    assert open_dataset("fer2013", tmp_path, "all")[0].read().shape == (48, 48, 3)


@pytest.mark.parametrize(
    ("name", "victim"),
    [
        ("rafdb: list_patition_label.txt and Image", "basic/Image/aligned/train_00002_aligned.jpg"),
        ("affectnet8: training.csv, validation.csv", "Manually_Annotated_Images/2/train001.jpg"),
        ("affectnet8: train_set, val_set with annotations", "train_set/images/1.jpg"),
        ("affectnet8: train_set, val_set with annotations", "train_set/annotations/1_val.npy"),
        ("affectnet8: affectnet.csv with phases", "train_class/1/1.jpg"),
        ("affwild2: cropped_aligned and annotations filter=none", "cropped_aligned/train-1/00001.jpg"),
        ("csv: csv files", "images/001.png"),
        ("london: labels.csv and images", "images/001_08.jpg"),
    ],
)
def test_a_missing_file_is_named_or_left_out(name: str, victim: str, tmp_path: Path) -> None:
    miniature = MINIATURES[name]
    miniature.build(tmp_path)
    whole = len(open_dataset(miniature.dataset, tmp_path, "all", **miniature.options))
    (tmp_path / victim).unlink()
    with pytest.raises(DatasetError) as caught:
        open_dataset(miniature.dataset, tmp_path, "all", **miniature.options)
    assert victim.rpartition("/")[2].partition(".")[0].partition("_val")[0] in str(caught.value)
    assert len(open_dataset(miniature.dataset, tmp_path, "all", damaged="skip", **miniature.options)) == whole - 1


def test_counts_that_differ_from_the_published_ones_are_noted(tmp_path: Path) -> None:
    MINIATURES["rafdb: list_patition_label.txt and Image"].build(tmp_path)
    notes = open_dataset("rafdb", tmp_path).notes
    assert notes == ("train has 15 images, the published set 12,271", "test has 8 images, the published set 3,068")
    assert open_dataset("rafdb", tmp_path, images="original").notes == ()


def test_votes_that_do_not_belong_to_the_rows(tmp_path: Path) -> None:
    ferplus_csv(tmp_path)
    path = tmp_path / "fer2013new.csv"
    lines = lines_of(path)
    path.write_text("".join([lines[0], *reversed(lines[1:])]))
    with pytest.raises(DatasetError):
        open_dataset("ferplus", tmp_path)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(DatasetError):
        open_dataset("ferplus", tmp_path)
    path.write_text("".join([*lines[:-1], "PrivateTest,fer.png,1,2\n"]))
    with pytest.raises(DatasetError):
        open_dataset("ferplus", tmp_path)


def test_votes_stay_with_their_rows_when_an_image_is_left_out(tmp_path: Path) -> None:
    ferplus_csv(tmp_path)
    whole = {sample.name: sample.votes for sample in open_dataset("ferplus", tmp_path, "all")}
    path = tmp_path / "fer2013.csv"
    lines = lines_of(path)
    lines[6] = "broken\n"
    path.write_text("".join(lines))
    kept = {sample.name: sample.votes for sample in open_dataset("ferplus", tmp_path, "all", damaged="skip")}
    assert kept == {name: votes for name, votes in whole.items() if name != "00005"}


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="file names must be Unicode there")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / "happy"
    write(folder / "plain.png")
    odd = os.fsdecode("caf\u00e9.png".encode("latin-1"))
    (folder / "plain.png").rename(folder / odd)
    sample = open_dataset("folder", tmp_path, "all")[0]
    assert sample.name == f"happy/{odd}" and sample.read().shape == (48, 48, 3)
    with (tmp_path / "list.csv").open("wb") as file:
        file.write(b"image,label\nhappy/caf\xe9.png,happy\n")
    listed = open_dataset("csv", tmp_path, "all")[0]
    assert np.array_equal(listed.read(), sample.read())


def test_paths_of_another_machine_find_their_files(tmp_path: Path) -> None:
    write(tmp_path / "aff" / "anger" / "1.png")
    write(tmp_path / "aff" / "fear" / "2.png")
    paths = [rf"C:\Users\kim\Data\aff\{name}" for name in (r"anger\1.png", r"fear\2.png", r"fear\1.png")]
    locate = Locator(tmp_path, paths)
    assert locate(r"C:\Users\kim\Data\aff\anger\1.png") == "aff/anger/1.png"
    assert locate(r"C:\Users\kim\Data\aff\fear\2.png") == "aff/fear/2.png"
    assert locate("aff/fear/2.png") == "aff/fear/2.png"
    assert locate("./aff//fear/2.png") == "aff/fear/2.png"
    assert locate(r"C:\Users\kim\Data\aff\fear\1.png") is None
    assert locate("/etc/passwd") is None and locate("") is None and locate("../fear/2.png") is None
    assert locate.notes and not Locator(tmp_path, [*paths, "aff/fear/2.png"]).notes


def test_clutter_in_folders_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "happy" / "1.PNG")
    write(tmp_path / "__MACOSX" / "2.png")
    write(tmp_path / "happy" / ".hidden.png")
    (tmp_path / "happy" / "Thumbs.db").write_bytes(b"")
    assert images_below(tmp_path) == ["happy/1.PNG"]
    assert open_dataset("folder", tmp_path, "all").labels == ("happiness",)


def test_a_class_folder_that_is_none_of_the_classes(tmp_path: Path) -> None:
    MINIATURES["affectnet8: part folders of class folders order=affectnet"].build(tmp_path)
    write(tmp_path / "train" / "confused" / "1.jpg")
    with pytest.raises(DatasetError):
        open_dataset("affectnet8", tmp_path, order="affectnet")


def test_an_image_listed_twice_is_kept_twice(tmp_path: Path) -> None:
    write(tmp_path / "1.png")
    write_csv(tmp_path / "list.csv", ["image", "label"], [("1.png", "happy"), ("1.png", "sad")])
    assert [(s.name, s.label) for s in open_dataset("csv", tmp_path, "all")] == [("1.png", "happiness"), ("1.png", "sadness")]


def test_csv_files_that_cannot_be_understood(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["x", "y"], [])
    with pytest.raises(DatasetError):
        open_dataset("csv", tmp_path)
    write_csv(tmp_path / "b.csv", ["image", "label"], [])
    with pytest.raises(DatasetError):
        open_dataset("csv", tmp_path)
    with pytest.raises(DatasetError):
        open_dataset("csv", tmp_path, file="b.csv")
    write(tmp_path / "1.png")
    write_csv(tmp_path / "b.csv", ["image", "label"], [("1.png", "3")])
    with pytest.raises(DatasetError):
        open_dataset("csv", tmp_path, file="b.csv")
    write_csv(tmp_path / "b.csv", ["image", "label"], [("1.png", "9")])
    with pytest.raises(DatasetError):
        open_dataset("csv", tmp_path, "all", file="b.csv", labels="ferplus")


def test_damage_says_how_much_there_is_and_shows_three() -> None:
    damage = Damage("skip")
    assert damage.settle("a set") == ()
    for number in range(5):
        damage(f"line {number}")
    assert damage.settle("a set") == ("5 invalid rows skipped: line 0; line 1; line 2 …",)
    damage.policy = "raise"
    with pytest.raises(DatasetError):
        damage.settle("a set")


def test_jaffe_without_its_ratings(tmp_path: Path) -> None:
    MINIATURES["jaffe: images named KA.AN1.39.tiff"].build(tmp_path)
    with pytest.raises(DatasetError):
        open_dataset("jaffe", tmp_path, "all", labels="rated")
    with pytest.raises(DatasetError):
        open_dataset("jaffe", tmp_path, "test", "author:global-roi", labels="posed")


def test_annotations_of_affwild2_that_are_no_rows(tmp_path: Path) -> None:
    MINIATURES["affwild2: cropped_aligned and annotations filter=none"].build(tmp_path)
    path = tmp_path / "training_set_annotations.txt"
    path.write_text(path.read_text() + "train-1/00000.jpg,0.1,0.2\ntrain-1/00000.jpg,x" + ",0" * 14 + "\n")
    with pytest.raises(DatasetError):
        open_dataset("affwild2", tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "gone"),
    [
        ("rafdb: list_patition_label.txt and Image", {"images": "original"}, "original"),
        ("sfew: Train, Val", {"images": "aligned"}, ""),
    ],
)
def test_a_version_that_is_not_there_is_named(name: str, options: dict[str, str], gone: str, tmp_path: Path) -> None:
    MINIATURES[name].build(tmp_path)
    for folder in [path for path in tmp_path.rglob(gone) if gone and path.is_dir()]:
        folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(DatasetError):
        open_dataset(name.partition(":")[0], tmp_path, "all", **options)


@pytest.mark.parametrize(
    ("name", "file", "column"),
    [
        ("affectnet8: affectnet.csv with phases", "affectnet.csv", "img_path"),
        ("pooled: train.csv, valid.csv, test.csv with image_path", "valid.csv", "image_path"),
    ],
)
def test_a_list_without_a_column(name: str, file: str, column: str, tmp_path: Path) -> None:
    MINIATURES[name].build(tmp_path)
    path = tmp_path / file
    path.write_text(path.read_text().replace(column, "elsewhere", 1))
    with pytest.raises(DatasetError):
        open_dataset(name.partition(":")[0], tmp_path, "all")


def test_an_image_that_the_pooled_lists_name_and_nobody_has(tmp_path: Path) -> None:
    name = "pooled: train.csv, valid.csv, test.csv with image_path"
    MINIATURES[name].build(tmp_path)
    whole = len(open_dataset("pooled", tmp_path, "all"))
    next((tmp_path / "Data" / "RAF" / "img" / "fear").glob("test_*.png")).unlink()
    with pytest.raises(DatasetError):
        open_dataset("pooled", tmp_path, "all")
    assert len(open_dataset("pooled", tmp_path, "all", damaged="skip")) == whole - 1


def test_names_that_jaffe_does_not_have(tmp_path: Path) -> None:
    name = "jaffe: images named KA.AN1.39.tiff"
    MINIATURES[name].build(tmp_path)
    write(tmp_path / "portrait.png")
    with pytest.raises(DatasetError):
        open_dataset("jaffe", tmp_path, "all")


def test_annotations_of_affwild2_without_any_image(tmp_path: Path) -> None:
    MINIATURES["affwild2: cropped_aligned and annotations filter=none"].build(tmp_path)
    for image in tmp_path.rglob("*.jpg"):
        image.unlink()
    with pytest.raises(DatasetError):
        open_dataset("affwild2", tmp_path, "all", damaged="skip", filter="expression")


@pytest.mark.parametrize("number", ["0", "many", "1000000"])
def test_a_number_of_drawn_faces_that_makes_no_sense(number: str) -> None:
    with pytest.raises(DatasetError):
        open_dataset("synthetic", number=number)


def test_images_whose_labels_the_organizers_kept(tmp_path: Path) -> None:
    """Kaggle's test.csv has pixels alone."""
    write_csv(tmp_path / "fer2013.csv", ["pixels", "Usage"], [(pixels_text(face()), "PrivateTest")] * 2)
    data = open_dataset("fer2013", tmp_path, "test")
    assert data.label.tolist() == [-1, -1] and data[0].label is None and sum(data.counts.values()) == 0


def test_a_cache_lies_where_the_system_says_and_a_file_in_its_place_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MIEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = cache_of.folder()
    assert place == tmp_path / "mien" / "datasets"
    place.mkdir(parents=True)
    taken = place / f"numbers-v{cache_of.VERSION}-{'d' * 32}"
    taken.write_text("not ours")
    for _ in range(2):
        assert cache_of.mapped("numbers", "d" * 64, lambda: {"n": np.arange(3)})["n"].tolist() == [0, 1, 2]
    assert taken.read_text() == "not ours" and list(place.iterdir()) == [taken]


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("affectnet8: training.csv, validation.csv", "training.csv"),
        ("affectnet8: train_set, val_set with annotations", "train_set/annotations"),
    ],
)
def test_half_of_affectnet_is_read_as_what_it_is(name: str, gone: str, tmp_path: Path) -> None:
    """The training part has 122 GB: many hold the validation part alone."""
    MINIATURES[name].build(tmp_path)
    whole = open_dataset("affectnet8", tmp_path, "all")
    missing = next(path for path in tmp_path.rglob("*") if path.as_posix().endswith(gone))
    missing.rename(missing.with_name("elsewhere"))
    half = open_dataset("affectnet8", tmp_path, "all")
    assert set(half.part) == set(whole.part) - {"train"}


@pytest.mark.parametrize("cells", ["x,5,40,41", "4,5,40"])
def test_a_row_of_affectnet_that_is_no_row(cells: str, tmp_path: Path) -> None:
    MINIATURES["affectnet8: training.csv, validation.csv"].build(tmp_path)
    path = tmp_path / "Manually_Annotated_file_lists" / "training.csv"
    path.write_text(path.read_text().replace("4,5,40,41", cells, 1))
    with pytest.raises(DatasetError):
        open_dataset("affectnet8", tmp_path, order="affectnet")
    assert any("1 invalid row skipped" in note for note in open_dataset("affectnet8", tmp_path, damaged="skip").notes)


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    name = "rafdb: list_patition_label.txt and Image"
    MINIATURES[name].build(tmp_path)
    whole = open_dataset("rafdb", tmp_path, "all").names
    path = next(tmp_path.rglob("list_patition_label.txt"))
    path.write_text(path.read_text().replace("\n", "\n\n", 2))
    assert open_dataset("rafdb", tmp_path, "all").names.tolist() == whole.tolist()
    (tmp_path / "gaps.csv").write_text("image,label\n\n1.png,happy\n\n")
    assert [row for _, row in read_rows(tmp_path / "gaps.csv")] == [{"image": "1.png", "label": "happy"}]
    (tmp_path / "gaps.csv").write_text("")
    with pytest.raises(DatasetError):
        list(read_rows(tmp_path / "gaps.csv"))


def test_images_of_other_names_and_texts_without_ratings_are_passed_over(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    MINIATURES["ckplus: cohn-kanade-images and Emotion"].build(frames)
    whole = len(open_dataset("ckplus", frames, "all"))
    write(frames / "extended-cohn-kanade-images" / "cohn-kanade-images" / "S005" / "001" / "cover.png")
    assert len(open_dataset("ckplus", frames, "all")) == whole
    rated = tmp_path / "rated"
    MINIATURES["jaffe: images named KA.AN1.39.tiff labels=rated"].build(rated)
    (rated / "0.txt").write_text("nothing about faces\n")
    assert len(open_dataset("jaffe", rated, "all", labels="rated"))


def test_an_age_outside_the_bands_is_in_none(tmp_path: Path) -> None:
    MINIATURES["london: labels.csv and images"].build(tmp_path)
    path = tmp_path / "labels.csv"
    path.write_text(path.read_text().replace("neutral,18,", "neutral,17,", 1))
    ages = open_dataset("london", tmp_path, "all").groups["age"].tolist()
    assert ages[:3] == ["", "18 to 24", "25 to 34"] and ages[-1] == ""


def test_a_csv_that_is_none_has_no_pixels(tmp_path: Path) -> None:
    fer2013_csv(tmp_path)
    assert has_column(tmp_path / "fer2013.csv", "pixels") and len(open_dataset("fer2013", tmp_path, "all").images) > 0
    (tmp_path / "fer2013.csv").write_text('"' + "x" * 200_000)
    assert not has_column(tmp_path / "fer2013.csv", "pixels")
