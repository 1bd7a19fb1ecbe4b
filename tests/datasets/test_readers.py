"""Every layout of every dataset, built in miniature and read back."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from miniatures import MINIATURES, Miniature
from PIL import Image

from mien.data.datasets import DATASETS, open_dataset, reader
from mien.data.datasets.listing import Locator
from mien.data.datasets.protocols import validation_is_test
from mien.errors import DatasetError, UnknownName

every_miniature = pytest.mark.parametrize("miniature", MINIATURES.values(), ids=MINIATURES)


def parts_of(miniature: Miniature, root: Path) -> dict[str, dict[str, int]]:
    data = open_dataset(miniature.dataset, root, "all", **miniature.options)
    found: dict[str, dict[str, int]] = {}
    for sample, part in zip(data, data.part, strict=True):
        kinds = found.setdefault(str(part), {})
        kinds[sample.label or "none"] = kinds.get(sample.label or "none", 0) + 1
    return found


@every_miniature
def test_every_image_is_found_with_its_label_and_part(miniature: Miniature, tmp_path: Path) -> None:
    expected = miniature.build(tmp_path)
    assert parts_of(miniature, tmp_path) == expected


@every_miniature
def test_samples_decode_pickle_and_come_in_the_same_order_again(miniature: Miniature, tmp_path: Path) -> None:
    miniature.build(tmp_path)
    data = open_dataset(miniature.dataset, tmp_path, "all", **miniature.options)
    assert data.layout == miniature.layout
    assert data[len(data) - 1].read().dtype == np.uint8
    copy = pickle.loads(pickle.dumps(data))
    again = open_dataset(miniature.dataset, tmp_path, "all", **miniature.options)
    assert list(copy) == list(data) == list(again)
    assert copy.digest == data.digest == again.digest
    assert all(np.array_equal(a.read(), b.read()) for a, b in zip(copy[:3], data[:3], strict=True))


@every_miniature
def test_every_protocol_gives_the_splits_it_names(miniature: Miniature, tmp_path: Path) -> None:
    miniature.build(tmp_path)
    known = reader(miniature.dataset)
    for name, protocol in known.protocols.items():
        if any(miniature.options.get(key, value) != value for key, value in protocol.options.items()):
            continue
        options = dict(miniature.options) | dict(protocol.options)
        if options.get("labels") == "rated" and "labels" not in miniature.options:
            continue  # this copy lies there without the table of ratings
        whole = open_dataset(miniature.dataset, tmp_path, "all", name, **options)
        if name == "subject-folds" and (whole.subject is None or len(set(whole.subject)) < 10):
            continue
        if ("held-out" in name or protocol.splits is validation_is_test) and "train" not in whole.part:
            with pytest.raises(DatasetError):
                known.deal(whole)
            continue
        for split, dealt in known.deal(whole).items():
            data = open_dataset(miniature.dataset, tmp_path, split, name, **options)
            assert list(data) == list(dealt)
            assert (data.split, data.protocol, data.flaws) == (split, name, protocol.flaws)
            assert set(data.names) <= set(whole.names)


def test_every_data_set_of_the_registry_has_a_miniature_or_needs_none() -> None:
    assert {miniature.dataset for miniature in MINIATURES.values()} == set(DATASETS) - {"synthetic"}
    for name in DATASETS:
        known = reader(name)
        assert known.name == name
        layouts = {layout.name for layout in known.layouts}
        built = {miniature.layout for miniature in MINIATURES.values() if miniature.dataset == name}
        assert built == (layouts if name != "synthetic" else set())


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"synthetic"}))
def test_an_empty_folder_is_refused_with_what_was_looked_for_and_where_to_get_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(DatasetError) as caught:
        open_dataset(name, tmp_path)
    message = str(caught.value)
    known = reader(name)
    assert known.obtain in message and "notes.txt" in message
    assert all(layout.name in message for layout in known.layouts)


def test_a_missing_root_an_unknown_name_protocol_and_option(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        open_dataset("fer2013", tmp_path / "nowhere")
    with pytest.raises(UnknownName):
        open_dataset("fer-2013", tmp_path)
    with pytest.raises(UnknownName):
        open_dataset("synthetic", protocol="oficial")
    with pytest.raises(UnknownName):
        open_dataset("synthetic", numbre="3")
    with pytest.raises(DatasetError):
        open_dataset("ferplus", tmp_path, mode="mean")


def test_a_split_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    MINIATURES["rafdb: list_patition_label.txt and Image"].build(tmp_path)
    with pytest.raises(DatasetError):
        open_dataset("rafdb", tmp_path, "validation")


@pytest.mark.parametrize("columns", ["path,label", "path,label,split"])
def test_own_images_without_parts_are_one_test_split(columns: str, tmp_path: Path) -> None:
    for kind in ("happiness", "neutral"):
        (tmp_path / kind).mkdir()
        for number in range(3):
            Image.new("RGB", (48, 48), (number, 0, 0)).save(tmp_path / kind / f"{number}.png")
    assert len(open_dataset("folder", tmp_path, "test")) == len(open_dataset("folder", tmp_path, "all")) == 6
    rows = [
        columns,
        *(f"{kind}/{n}.png,{kind}{',' * columns.count('split')}" for kind in ("happiness", "neutral") for n in (0, 1)),
    ]
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    assert len(open_dataset("csv", tmp_path, "test")) == len(open_dataset("csv", tmp_path, "all")) == 4
    for name in ("folder", "csv"):
        with pytest.raises(DatasetError):
            open_dataset(name, tmp_path, "train")
        with pytest.raises(DatasetError):
            open_dataset(name, tmp_path, "train", "held-out")


def test_of_several_lists_one_is_named(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (48, 48), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "all.csv").write_text("path,label\n0.png,fear\n1.png,fear\n2.png,fear\n")
    (tmp_path / "few.csv").write_text("path,label\n0.png,fear\n")
    assert (
        len(open_dataset("csv", tmp_path / "few.csv", "test"))
        == len(open_dataset("csv", tmp_path, "test", file="few.csv"))
        == 1
    )
    assert len(open_dataset("csv", tmp_path / "few.csv", "test", file="all.csv")) == 3
    with pytest.raises(DatasetError):
        open_dataset("csv", tmp_path)
    with pytest.raises(DatasetError):
        open_dataset("csv", tmp_path, file="fwe.csv")


def test_the_root_may_lie_above_or_be_the_file_itself(tmp_path: Path) -> None:
    MINIATURES["fer2013: one csv"].build(tmp_path / "archive" / "data")
    above = open_dataset("fer2013", tmp_path, "test")
    file = open_dataset("fer2013", tmp_path / "archive" / "data" / "fer2013.csv", "test")
    assert list(above) == list(file)
    with pytest.raises(DatasetError):
        (tmp_path / "other.bin").write_bytes(b"")
        open_dataset("fer2013", tmp_path / "other.bin")


@pytest.mark.parametrize("name", ["fer2013: one csv", "ferplus: fer2013.csv and fer2013new.csv"])
def test_results_that_bear_the_name_of_the_data_are_not_taken_for_it(name: str, tmp_path: Path) -> None:
    """A checkout has results/fer2013.csv, and its data may lie in a folder that is searched later."""
    miniature, results = MINIATURES[name], tmp_path / "results"
    results.mkdir()
    (results / "fer2013.csv").write_text("model,version,accuracy\nmien-base,1,0.7\n")
    (results / "fer2013new.csv").write_text("Usage,Image name\n")
    with pytest.raises(DatasetError):
        open_dataset(miniature.dataset, tmp_path, "all", **miniature.options)
    with pytest.raises(DatasetError):
        open_dataset(miniature.dataset, results, "all", **miniature.options)
    (tmp_path / "searched" / "later").mkdir(parents=True)
    expected = miniature.build(tmp_path / "searched" / "later")
    assert parts_of(miniature, tmp_path) == expected


def test_slices_and_takes_are_data_sets_with_all_their_columns(tmp_path: Path) -> None:
    MINIATURES["rafdb: list_patition_label.txt and Image images=original"].build(tmp_path)
    data = open_dataset("rafdb", tmp_path, "all", images="original")
    assert list(data[2:6:2]) == [data[2], data[4]]
    assert list(data.take(np.array([5, 0]))) == [data[5], data[0]]
    assert data[-1] == data[len(data) - 1]
    with pytest.raises(IndexError):
        data[len(data)]


def test_what_each_data_set_says_beyond_the_label(tmp_path: Path) -> None:
    def first(name: str, split: str = "train", **options: str):
        root = tmp_path / name.replace("/", "-")
        MINIATURES[name].build(root)
        return open_dataset(MINIATURES[name].dataset, root, split, **{**MINIATURES[name].options, **options})

    raf = first("rafdb: list_patition_label.txt and Image images=original")[0]
    assert raf.groups == {"gender": "female", "race": "Asian", "age": "40-69"} and raf.box == (3.0, 4.5, 60.0, 62.0)
    affect = first("affectnet8: training.csv, validation.csv")
    assert (affect[0].valence, affect[0].arousal) == (None, None)  # −2 in the file
    assert (affect[1].valence, affect[1].arousal, affect[1].box) == (0.25, -0.5, (4, 5, 44, 46))
    arrays = first("affectnet7: train_set, val_set with annotations")
    assert (arrays[0].valence, arrays[1].valence, arrays[1].arousal) == (None, 0.25, -0.5)
    plus = first("ferplus: fer2013.csv and fer2013new.csv")[0]
    assert (
        plus.votes is not None
        and plus.votes["anger"] == 8
        and plus.distribution is not None
        and plus.distribution["anger"] == 1.0
    )
    tree = first("ckplus: cohn-kanade-images and Emotion", "all")
    peak = next(sample for sample in tree if sample.name.endswith("S010_002_00000005.png"))
    before = next(sample for sample in tree if sample.name.endswith("S010_002_00000004.png"))
    assert (peak.subject, peak.sequence) == ("S010", "S010_002")
    assert peak.action_units == {"AU1": True, "AU2": True, "AU4": False, "AU5": True, "AU6": False, "AU9": False, "AU12": False}
    assert before.action_units is None
    film = first("sfew: Train_Aligned_Faces, Val_Aligned_Faces")[0]
    assert film.groups == {"film": "AlexEmma"} and film.sequence == "AlexEmma_000000000"
    wild = first("affwild2: cropped_aligned and annotations filter=none")
    assert (wild[0].valence, wild[0].arousal, wild[0].label, wild[0].sequence) == (0.25, -0.5, "neutral", "train-1")
    assert wild[4].valence is None and wild[6].action_units is not None and "AU1" not in wild[6].action_units
    pool = first("pooled: train.csv, valid.csv, test.csv with image_path")
    assert {sample.groups["source"] for sample in pool} == {"affectnet", "rafdb", "ckplus"}
    own = first("csv: csv files")
    assert own[3].groups == {"glasses": "b"} and own[3].subject == "p1" and own[3].valence == 0.25
    assert own[3].action_units == {"AU12": True} and own[4].action_units == {"AU12": False} and own[5].action_units is None


def test_ferplus_modes_differ_in_what_they_keep(tmp_path: Path) -> None:
    MINIATURES["ferplus: fer2013.csv and fer2013new.csv"].build(tmp_path)
    kept = {
        mode: [s.name for s in open_dataset("ferplus", tmp_path, "all", mode=mode)]
        for mode in ("majority", "probability", "multi-target", "dda")
    }
    assert not {"00001", "00002", "00003"} & set(kept["majority"])
    assert "00001" in kept["dda"] and "00002" not in kept["dda"]  # unknown counts as neutral, no face is dropped
    torn = open_dataset("ferplus", tmp_path, "all", mode="dda")[kept["dda"].index("00003")]
    assert torn.label == "neutral"  # the first of equals


def test_numbered_class_folders_without_an_order_are_refused(tmp_path: Path) -> None:
    MINIATURES["rafdb: part folders of class folders order=rafdb"].build(tmp_path)
    with pytest.raises(DatasetError):
        open_dataset("rafdb", tmp_path)
    with pytest.raises(DatasetError):
        open_dataset("folder", tmp_path)


def test_kaggle_class_folders_cannot_carry_votes(tmp_path: Path) -> None:
    MINIATURES["fer2013: folders train, test"].build(tmp_path)
    MINIATURES["ferplus: class folders and fer2013new.csv"].build(tmp_path / "other")
    (tmp_path / "other" / "fer2013new.csv").rename(tmp_path / "fer2013new.csv")
    with pytest.raises(DatasetError):
        open_dataset("ferplus", tmp_path / "train" / "..")


def test_london_says_who_is_shown(tmp_path: Path) -> None:
    MINIATURES["london: labels.csv and images"].build(tmp_path)
    data = open_dataset("london", tmp_path, "test")
    assert data.subject is not None and len(set(data.subject.tolist())) == 6
    assert data.groups["gender"].tolist() == ["female", "female", "male", "male"] * 3
    assert data.groups["age"].tolist()[::2] == ["18 to 24", "25 to 34", "25 to 34", "35 and over", "35 and over", ""]
    assert open_dataset("london", tmp_path, "test", classes="two").labels == ("neutral", "happiness")


def test_choices_name_another_variant(tmp_path: Path) -> None:
    """What is chosen beside the protocol tells figures apart; what the protocol means, and defaults, do not."""
    plain = open_dataset("synthetic", split="all")
    assert plain.choices == {} and plain.variant == plain.protocol == "official"
    other = open_dataset("synthetic", split="all", number="28")
    assert other.variant == "official, number=28" and other[:2].variant == other.variant
    groups = {"side": np.array(["left", "right"])}
    assert list(plain.take(np.array([3, 1]), groups=groups).groups["side"]) == ["left", "right"]


def test_a_part_of_a_data_set(tmp_path: Path) -> None:
    data = open_dataset("synthetic", tmp_path, "train", number="70")  # pyrefly: ignore
    numbers = np.arange(len(data))
    some = data.evenly(10)
    places = [data.names.tolist().index(name) for name in some.names.tolist()]
    assert len(some) == 10 and places[0] == 0 and places[-1] == numbers[-1]
    assert set(np.diff(places)) <= {(len(data) - 1) // 9, (len(data) - 1) // 9 + 1}
    shares = data.of_each_class(14).counts
    assert all(abs(shares[name] - 14 * count / len(data)) <= 1 for name, count in data.counts.items())
    for part in (data.evenly, data.of_each_class):
        assert part(0) is part(len(data)) is data
        with pytest.raises(DatasetError):
            part(-3)


def test_links_in_a_circle_are_passed_over(tmp_path: Path) -> None:
    """Or each image would be there forty times, in training and in test."""
    for name in ("anger/one.png", "anger/deep/two.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / "data" / name)
    (tmp_path / "elsewhere").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "elsewhere" / "three.png")
    (tmp_path / "data/anger/up").symlink_to(tmp_path / "data")
    (tmp_path / "data/anger/deep/here").symlink_to(".")
    (tmp_path / "data/anger/more").symlink_to(tmp_path / "elsewhere")
    data = open_dataset("folder", tmp_path / "data", "all")
    assert data.names.tolist() == ["anger/deep/two.png", "anger/more/three.png", "anger/one.png"]


def test_no_path_matches_another_file_of_the_same_name(tmp_path: Path) -> None:
    for name in ("1.jpg", "b/1.jpg", "c/b/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    written = Locator(tmp_path, ["b/1.jpg", "gone/1.jpg"])
    assert [written(path) for path in ("b/1.jpg", "gone/1.jpg", "x/../1.jpg", "b/2.jpg")] == ["b/1.jpg", None, None, None]
    paths = ["/data/b/1.jpg", "/data/c/b/1.jpg", "/data/gone/1.jpg", "/other/b/1.jpg"]
    shortened = Locator(tmp_path, paths)
    assert [shortened(path) for path in paths] == ["b/1.jpg", "c/b/1.jpg", None, None]
