"""The audit finds what was planted, and the published figures of the real FER2013."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from miniatures import MINIATURES, fer2013_csv, write
from PIL import Image, ImageOps

from mien.data.audit import UNEVEN, ZEROED, audit, clean_protocol, copies, open_splits, signatures
from mien.data.audit.report import Audit, findings, page
from mien.data.datasets import Dataset, open_dataset
from mien.data.datasets.dataset import Pixels
from mien.errors import ConfigError, DatasetError

LABELS = ("anger", "happiness")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.getbasetemp() / "audit-cache"
    monkeypatch.setenv("MIEN_CACHE", str(folder))
    return folder


def faces(number: int, first: int = 0, side: int = 48) -> np.ndarray:
    """Images that do not look alike, as drawn faces do: blotches of light and shade."""
    return np.stack([_blotches(np.random.default_rng(first + seed), side) for seed in range(number)])


def _blotches(random: np.random.Generator, side: int) -> np.ndarray:
    coarse = Image.fromarray(random.integers(40, 200, (7, 7), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(coarse) + random.normal(0, 3, (side, side)), 0, 255).astype(np.uint8)


def dataset(images: np.ndarray, split: str, label: list[int] | None = None, **columns: object) -> Dataset:
    number = len(images)
    return Dataset(
        name="drawn",
        labels=LABELS,
        images=Pixels(images, np.arange(number)),
        names=np.array([f"{split}{row:03d}" for row in range(number)]),
        label=np.array(label if label is not None else [row % 2 for row in range(number)]),
        part=np.full(number, split),
        split=split,
        **columns,  # pyrefly: ignore
    )


def texts(report: Audit, level: str) -> str:
    return "\n".join(finding.text for finding in report.findings if finding.level == level)


def leaks(report: Audit, near: bool = False) -> Mapping[tuple[str, str], int]:
    found = report.near if near else report.exact
    assert found is not None
    return {(leak.split, leak.other): leak.images for leak in found.leaks}


def test_splits_without_fault_are_said_to_be_so() -> None:
    report = audit({"train": dataset(faces(20), "train"), "test": dataset(faces(10, 100), "test")})
    assert leaks(report) == {} and leaks(report, near=True) == {}
    assert texts(report, "error") == texts(report, "warning") == ""
    assert "no duplicates and no subjects in two splits" in texts(report, "note")
    assert (report.exact.distinct, report.exact.groups) == (30, 0)


def test_planted_copies_are_counted_from_both_sides() -> None:
    train, test = faces(20), faces(10, 100)
    test[:3], train[19] = train[:3], train[0]
    report = audit({"train": dataset(train, "train"), "test": dataset(test, "test")})
    assert leaks(report) == {("train", "test"): 4, ("test", "train"): 3}
    assert (report.exact.distinct, report.exact.groups, report.exact.images) == (26, 3, 7)
    assert report.exact.conflicting == 1  # row 19 is a happy copy of an angry row 0
    assert "3 of the test images (30.0%) also occur in train (exact duplicates): test000 and train000, for example" in texts(
        report, "error"
    )
    first = report.exact.examples[0]
    assert [(member.split, member.name, member.label) for member in first] == [
        ("train", "train000", "anger"),
        ("train", "train019", "happiness"),
        ("test", "test000", "anger"),
    ]


def brighter(image: np.ndarray) -> np.ndarray:
    return np.clip(image * 0.8 + 30, 0, 255).astype(np.uint8)


def smaller_crop(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((48, 48), Image.Resampling.BILINEAR, (1, 0, 48, 47)))


def through_jpeg(image: np.ndarray, quality: int = 90) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("change", [brighter, smaller_crop, through_jpeg, np.fliplr], ids=lambda change: change.__name__)
def test_altered_copies_are_found_apart_from_exact_ones(change) -> None:
    train, test = faces(20), faces(10, 100)
    test[4] = change(train[7])
    splits = {"train": dataset(train, "train"), "test": dataset(test, "test")}
    report = audit(splits)
    assert leaks(report) == {} and leaks(report, near=True) == {("train", "test"): 1, ("test", "train"): 1}
    assert texts(report, "error").startswith("1 more test images are near duplicates in train")
    assert texts(report, "error").endswith("(crop, brightness, mirror): test004 and train007")
    assert audit(splits, near=False).near is None


def test_images_that_all_look_alike_make_copies_doubtful() -> None:
    report = audit(open_splits("synthetic", "."))
    assert report.near is not None and report.near.groups and report.quality.resemblance > 0.6
    assert "all images are similar" in texts(report, "warning")
    train, test = faces(20), faces(10, 100)
    test[4] = brighter(train[7])
    report = audit({"train": dataset(train, "train"), "test": dataset(test, "test")})
    assert report.near is not None and report.near.groups == 1 and abs(report.quality.resemblance) < 0.3
    assert "similar" not in texts(report, "warning")


def test_blank_images_are_not_each_others_copies_to_the_eye() -> None:
    blank = np.stack([np.full((48, 48), level, np.uint8) for level in (0, 90, 200)])
    report = audit({"train": dataset(np.concatenate([faces(4), blank]), "train", [0, 1, 0, 1, 0, 1, 0])})
    assert report.near is not None and report.near.groups == 0
    assert report.quality.blank == ("train/train004", "train/train005", "train/train006")
    faint = np.stack([np.full((48, 48), level, np.uint8) + np.arange(48, dtype=np.uint8) // 8 for level in (0, 90, 200)])
    report = audit({"train": dataset(faint, "train")})
    assert report.near is not None and report.near.groups == 0


def test_an_image_is_the_same_as_csv_row_png_or_equal_channels(tmp_path: Path) -> None:
    images = faces(3)
    for row, image in enumerate(images):
        write(tmp_path / "angry" / f"{row}.png", np.stack([image] * 3, 2) if row else image)
    files = open_dataset("folder", tmp_path, "all")
    assert np.array_equal(signatures(files)["identity"], signatures(dataset(images, "all"))["identity"])
    assert np.array_equal(signatures(files, workers=4)["hash"], signatures(dataset(images, "all"))["hash"])


def test_other_data_sets_are_searched_for_the_images() -> None:
    mine, theirs = faces(10), faces(8, 50)
    theirs[2:5] = mine[:3]
    report = audit({"test": dataset(mine, "test")}, {"rafdb train": dataset(theirs, "rafdb")})
    assert leaks(report) == {("test", "rafdb train"): 3}
    assert report.exact.distinct == 10 and list(report.splits) == ["test"]


def test_people_and_recordings_on_both_sides() -> None:
    train = dataset(faces(4), "train", subject=np.array(["a", "b", "", "c"]), groups={"film": np.array(["x", "x", "y", "z"])})
    test = dataset(faces(3, 50), "test", subject=np.array(["c", "c", ""]), groups={"film": np.array(["w", "w", "w"])})
    report = audit({"train": train, "test": test})
    assert [(o.what, o.split, o.other, o.shared, o.images) for o in report.overlaps] == [
        ("subject", "train", "test", 1, 1),
        ("subject", "test", "train", 1, 2),
    ]
    assert "2 of the test images share 1 subjects with train" in texts(report, "error")


def test_equalized_and_recompressed_images_are_recognized() -> None:
    plain = faces(60)
    equal = np.stack([np.asarray(ImageOps.equalize(Image.fromarray(image))) for image in plain])
    jpeg = np.stack([through_jpeg(image, 75) for image in plain])
    assert (signatures(dataset(plain, "train"))["unevenness"] > UNEVEN).all()
    assert (signatures(dataset(plain, "train"))["zeroed"] < ZEROED).all()
    fine = np.stack([through_jpeg(image, 95) for image in plain])
    assert (signatures(dataset(fine, "train"))["zeroed"] > ZEROED).all()
    report = audit({"train": dataset(equal, "train")}, near=False)
    assert "histogram-equalized copy (60 images" in texts(report, "error")
    report = audit({"train": dataset(jpeg, "train")}, near=False)
    assert "JPEG-compressed at this size (60 of 60)" in texts(report, "note") and not texts(report, "error")
    mixed = audit({"train": dataset(np.concatenate([plain, equal[:6]]), "train")}, near=False)
    assert "6 images are histogram-equalized, the others are not" in texts(mixed, "warning")


def test_corrupt_odd_and_faceless_images(tmp_path: Path, sample: Path) -> None:
    with Image.open(sample) as photo:
        for row in range(20):
            write(tmp_path / "angry" / f"{row:02d}.png", np.asarray(photo.convert("RGB").crop((180 - row, 60, 330 - row, 210))))
    write(tmp_path / "happy" / "large.png", np.full((160, 160, 3), np.arange(160)[:, None], np.uint8))
    (tmp_path / "happy" / "corrupt.png").write_bytes((tmp_path / "angry" / "00.png").read_bytes()[:200])
    report = audit(open_splits("folder", tmp_path), search=0)
    quality = report.quality
    assert quality.odd_sizes == ("all/happy/large.png",) == quality.without_face and quality.searched == 21
    assert len(quality.unreadable) == 1 and quality.unreadable[0].startswith("happy/corrupt.png: ")
    assert "1 images cannot be read: happy/corrupt.png" in texts(report, "error")
    assert "no face was detected in 1 of 21 images" in texts(report, "warning")
    assert "times as many images of anger as of happiness" in texts(report, "note")
    few = audit(open_splits("folder", tmp_path), search=5)
    assert few.quality.searched == 5 and few.quality.without_face == ("all/happy/large.png",)
    assert audit(open_splits("folder", tmp_path)).quality.without_face is None


def test_the_leak_of_the_pooled_set_is_found(tmp_path: Path) -> None:
    MINIATURES["pooled: train.csv, valid.csv, test.csv with image_path"].build(tmp_path)
    report = audit(open_splits("pooled", tmp_path), near=False)
    assert report.protocol == "author:dan-efficientnet"
    assert leaks(report)["validation", "train"] == 38 and ("test", "train") not in leaks(report)
    assert "38 of the validation images (76.0%) also occur in train" in texts(report, "error")
    assert "6 of the test images belong to the official part train" in texts(report, "error")
    ours = audit(open_splits("pooled", tmp_path, "leak-free"), near=False)
    assert leaks(ours) == {} and not ours.overlaps


def test_a_data_set_without_parts_is_one_split(tmp_path: Path) -> None:
    MINIATURES["jaffe: images named KA.AN1.39.tiff"].build(tmp_path)
    assert list(open_splits("jaffe", tmp_path)) == ["all"]
    with pytest.raises(DatasetError):
        clean_protocol(open_splits("jaffe", tmp_path))


def test_damaged_rows_are_reported_instead_of_raised(tmp_path: Path) -> None:
    fer2013_csv(tmp_path)
    with (tmp_path / "fer2013.csv").open("a") as file:
        file.write("broken\n")
    report = audit(open_splits("fer2013", tmp_path))
    assert "1 invalid row skipped: fer2013.csv line 33" in texts(report, "note")
    assert "differ from the published original" in texts(report, "warning")
    assert "modified copy" not in texts(report, "warning")
    MINIATURES["rafdb: list_patition_label.txt and Image"].build(tmp_path / "rafdb")
    report = audit(open_splits("rafdb", tmp_path / "rafdb"), near=False)
    assert "most images are 48×48, the published ones 100×100" in texts(report, "warning")


def test_clean_protocol_drops_what_leaks_repeats_or_contradicts() -> None:
    train, test = faces(8), faces(6, 100)
    test[0], test[5] = train[0], test[4]  # leaked; repeated within the test split, which stays
    train[3], train[5], train[7] = train[1], train[4], train[6]
    label = [0, 1, 0, 1, 0, 1, 1, 1]  # 4 and 5 contradict, 1 and 3, 6 and 7 agree
    splits = {"train": dataset(train, "train", label), "test": dataset(test, "test")}
    clean = clean_protocol(splits)
    assert clean.drop == {"train": ["train000", "train003", "train004", "train005", "train007"], "test": ["test000"]}
    after = {name: clean.apply(data, "f.json") for name, data in splits.items()}
    assert leaks(audit(after)) == {}
    assert audit({"train": after["train"]}).exact.groups == 0


def test_clean_protocol_can_count_similar_images_too() -> None:
    train, test = faces(8), faces(6, 100)
    test[2] = brighter(train[5])
    splits = {"train": dataset(train, "train"), "test": dataset(test, "test")}
    assert clean_protocol(splits).drop == {"train": [], "test": []}
    assert clean_protocol(splits, near=True).drop == {"train": ["train005"], "test": ["test002"]}


class Balanced(HTMLParser):
    """Fails where a tag is closed that was not opened last."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.images = 0

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.images += tag == "img"
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_shows_images_only_on_request() -> None:
    train, test = faces(6), faces(4, 100)
    test[0] = train[0]
    splits = {"train": dataset(train, "train"), "test": dataset(test, "test")}
    report = audit(splits)
    report = dataclasses.replace(report, notes=("<script>",), layout="<b>")
    for shown, images in ((None, 0), (splits, 4)):
        parser = Balanced()
        text = page(report, shown)
        parser.feed(text)
        assert parser.open == [] and parser.images == images and "<b>" in parser.text
        assert all(finding.text in parser.text for finding in report.findings)
        assert "http" not in text


def test_the_report_is_plain_json(tmp_path: Path) -> None:
    report = audit({"test": dataset(faces(4), "test")})
    table = json.loads(json.dumps(report.to_dict()))
    assert table["exact"]["distinct"] == 4 and table["splits"]["test"]["classes"] == {"anger": 2, "happiness": 2}


def test_an_empty_split_has_no_copies() -> None:
    some, none = dataset(faces(4), "train"), dataset(faces(1), "test").take(np.empty(0, int))
    report = audit({"train": some, "test": none})
    assert report.exact.distinct == 4 and not report.exact.leaks and report.splits["test"].images == 0
    assert audit({"test": none}).exact.distinct == 0 and "no images of anger" in str(audit({"test": none}).findings)


def test_another_data_set_needs_another_name() -> None:
    with pytest.raises(ConfigError):
        audit({"test": dataset(faces(4), "test")}, {"test": dataset(faces(4), "test")})


def test_gray_images_are_the_same_among_colored_ones() -> None:
    gray = faces(4)
    color = np.repeat(gray[..., None], 3, 3)
    color[3, :, :, 2] //= 2
    report = audit({"test": dataset(color, "test")}, {"other": dataset(gray, "train")}, near=False)
    assert [leak.images for leak in report.exact.leaks] == [3]


def test_what_cannot_be_read_is_no_copy(tmp_path: Path) -> None:
    (tmp_path / "anger").mkdir()
    (tmp_path / "anger/broken.png").write_bytes(b"no image")
    data = open_dataset("folder", tmp_path, "all", labels="fer2013")  # pyrefly: ignore
    report = audit({"all": data}, {"again": data})
    assert not report.exact.leaks and report.near and not report.near.leaks
    assert len(report.quality.unreadable) == 1


def test_nothing_to_audit() -> None:
    with pytest.raises(ValueError):
        audit({})
    with pytest.raises(DatasetError):
        clean_protocol({"test": dataset(faces(2), "test")})


def test_missing_classes_labels_and_people_are_reported() -> None:
    train = dataset(faces(30), "train", [0] * 27 + [1] + [-1] * 2, subject=np.array(["a"] * 30))
    test = dataset(faces(4, 50), "test", [0] * 4, subject=np.array(["a", "b", "b", "b"]))
    report = audit({"train": train, "test": test})
    assert "test has no images of happiness" in texts(report, "warning")
    assert "2 of the train images have no label" in texts(report, "note")
    assert "train has 27 times as many images of anger as of happiness" in texts(report, "note")
    parser = Balanced()
    parser.feed(page(report))
    assert parser.open == [] and "Overlap of splits" in parser.text and "subject" in parser.text


def test_images_below_the_grid_of_jpeg_have_no_trace_of_it() -> None:
    assert (signatures(dataset(faces(3, side=7), "train"))["zeroed"] == 0).all()


def test_as_many_images_as_were_published_is_a_good_sign() -> None:
    """A copy made of files has no digest of pixels to compare; its size is what can be told."""
    report = audit({"train": dataset(faces(2), "train"), "test": dataset(faces(2, 50), "test")})
    for number, said in ((12271, True), (12270, False)):
        counts = {"train": number, "test": 3068}
        splits = {part: dataclasses.replace(split, images=counts[part]) for part, split in report.splits.items()}
        judged = findings(dataclasses.replace(report, dataset="rafdb", splits=splits))
        assert ("the splits have the published numbers of images" in texts(judged, "note")) == said


@pytest.mark.shared
def test_the_published_figures_of_fer2013(shared: Path, tmp_path: Path) -> None:
    splits = open_splits("fer2013", shared / "data" / "fer2013")
    report = audit(splits, near=False)
    assert report.exact.distinct == 34034
    assert (report.exact.groups, report.exact.images, report.exact.conflicting) == (1516, 3369, 57)
    found = leaks(report)
    assert (found["validation", "train"], found["test", "train"], found["test", "validation"]) == (280, 288, 44)
    assert all(split.original for split in report.splits.values())
    assert "(digest)" in texts(report, "note") and len(report.quality.blank) == 13
    clean_protocol(splits).write(tmp_path / "clean.json")
    clean = open_dataset("fer2013", shared / "data" / "fer2013", "test", f"clean:{tmp_path / 'clean.json'}")
    assert len(clean) == 3275
    train = open_dataset("fer2013", shared / "data" / "fer2013", "train", f"clean:{tmp_path / 'clean.json'}")
    group, _ = copies(signatures(train), near=False)
    assert len(np.unique(group)) == len(train) == 26912


@pytest.mark.shared
def test_similar_images_of_fer2013_are_one_photograph(shared: Path) -> None:
    """A part of the real set, small enough for every run; the whole has 504 and 538 such images."""
    splits = open_splits("fer2013", shared / "data" / "fer2013")
    part = {"train": splits["train"][:6000], "test": splits["test"]}
    report = audit(part)
    assert report.near is not None
    exact, near = leaks(report)["test", "train"], leaks(report, near=True)["test", "train"]
    assert (exact, near) == (71, 168)
