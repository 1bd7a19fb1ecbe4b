"""Preparation: the published geometry, the same files however often it is stopped, and nothing half-written."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import MINIATURES, write
from PIL import Image

from mien.data.datasets import Dataset, open_dataset
from mien.data.datasets.synthetic import draw_face
from mien.data.preparation import CROPS, Align, FacePicker, Made, PreparedFace, Regions, contact_sheet, curate, prepare
from mien.data.preparation.crops import AUTHORS, SIDE, _clamped, _published
from mien.errors import ConfigError, DatasetError, UnknownName
from mien.faces.alignment import TEMPLATES, apply
from mien.faces.landmarks import Landmarker
from mien.io.images import read_image
from mien.labels import ACTION_UNITS
from mien.types import points5, points68


@dataclass(frozen=True)
class Halves:
    """A light work: the upper and the lower half. It fails, or is stopped, at the image of that number."""

    stop: int = 10**9
    broken: int = 10**9

    def describe(self) -> dict[str, Any]:
        return {"work": "halves"}

    def open(self) -> Callable[[np.ndarray], Made]:
        numbers = itertools.count()

        def make(pixels: np.ndarray) -> Made:
            number = next(numbers)
            if number == self.stop:
                raise KeyboardInterrupt
            lower = pixels[24:] if number != self.broken else np.zeros((2, 2, 7), np.uint8)  # which no format holds
            return Made("ok", {"upper": pixels[:24], "lower": lower}, {"mean": float(pixels.mean())})

        return make


@pytest.fixture
def splits() -> dict[str, Dataset]:
    return {split: open_dataset("synthetic", split=split, number="140")[:12] for split in ("train", "test")}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_files_lie_by_split_folder_class_and_name(splits: dict[str, Dataset], tmp_path: Path) -> None:
    summary = prepare(splits, Halves(), tmp_path)
    assert summary.status == {"train": {"ok": 12}, "test": {"ok": 12}} and summary.new == 24
    sample = splits["test"][0]
    made = read_image(tmp_path / "test" / "upper" / "anger" / f"{sample.name}.png").pixels
    assert np.array_equal(made, sample.read()[:24])
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["source"]["train"]["digest"] == splits["train"].digest and manifest["digest"] == summary.digest
    lines = [json.loads(line) for line in (tmp_path / "prepared.jsonl").read_text().splitlines()]
    assert len(lines) == 24 and lines[0]["files"][0] == f"train/upper/anger/{splits['train'].names[0]}.png"
    assert len(files_of(tmp_path)) == 48 + 3


def test_no_two_images_get_one_name(tmp_path: Path) -> None:
    """A number that tells equal names apart may make a name that is there already."""
    names = ["anger/a.jpg", "anger/a.png", "anger/a-2.png", "fear/anger_a.png"]
    for number, name in enumerate(names):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_face("anger", number)).save(path)
    splits = {"all": open_dataset("folder", tmp_path / "data", "all")}
    summary = prepare(splits, Halves(), tmp_path / "out")
    assert summary.status == {"all": {"ok": 4}} and len(list((tmp_path / "out").rglob("*.png"))) == 8
    lines = (tmp_path / "out" / "prepared.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["name"] for line in lines) == sorted(names)
    assert prepare(splits, Halves(), tmp_path / "out").new == 0


HOLD = """
import sys
from mien.io.files import locked
with locked(sys.argv[1]):
    print(flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time(splits: dict[str, Dataset], tmp_path: Path) -> None:
    """Two would write the same file at the same time, and one of them give it its name half-written."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline()
        with pytest.raises(ConfigError):
            prepare(splits, Halves(), tmp_path)
        other.kill()
    assert prepare(splits, Halves(), tmp_path).new == 24 and not list(tmp_path.glob(".lock"))
    with pytest.raises(ConfigError):
        prepare(splits, Halves(), tmp_path / "manifest.json")


def test_a_second_run_changes_nothing(splits: dict[str, Dataset], tmp_path: Path) -> None:
    first = prepare(splits, Halves(), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    ticks: list[int] = []
    again = prepare(splits, Halves(), tmp_path, progress=ticks.append)
    assert (again.new, again.digest, sum(ticks)) == (0, first.digest, 24)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == before


@pytest.mark.parametrize("stop", [0, 1, 7])
def test_a_stopped_run_resumes_to_the_same_files(stop: int, splits: dict[str, Dataset], tmp_path: Path) -> None:
    whole = prepare(splits, Halves(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        prepare(splits, Halves(stop=stop), tmp_path / "stopped")
    with (tmp_path / "stopped" / "prepared.jsonl").open("a") as journal:
        journal.write('{"split": "train", "stem": "0')  # stopped while writing
    rest = prepare(splits, Halves(), tmp_path / "stopped")
    assert rest.new == 24 - stop and rest.digest == whole.digest
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "whole")


def test_a_file_that_was_lost_is_made_again(splits: dict[str, Dataset], tmp_path: Path) -> None:
    first = prepare(splits, Halves(), tmp_path)
    next(tmp_path.rglob("lower/*/*.png")).unlink()
    again = prepare(splits, Halves(), tmp_path)
    assert (again.new, again.digest) == (1, first.digest)


def test_an_image_leaves_all_its_files_or_none(splits: dict[str, Dataset], tmp_path: Path) -> None:
    with pytest.raises((TypeError, KeyError)):
        prepare(splits, Halves(broken=3), tmp_path)
    stem = splits["train"].names[3]
    assert not list(tmp_path.rglob(f"{stem}.*")) and len(list(tmp_path.rglob("[!.]*.png"))) == 6
    assert prepare(splits, Halves(), tmp_path).new == 24 - 3


def test_processes_give_the_same_files(splits: dict[str, Dataset], tmp_path: Path) -> None:
    one = prepare(splits, Halves(), tmp_path / "one")
    two = prepare(splits, Halves(), tmp_path / "two", workers=2)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two") and one.digest == two.digest


def test_folders_that_hold_something_else_are_left_alone(splits: dict[str, Dataset], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ConfigError):
        prepare(splits, Halves(), tmp_path / "mine")
    prepare(splits, Halves(), tmp_path / "done")
    with pytest.raises(ConfigError):
        prepare(splits, Halves(), tmp_path / "done", format="jpg")
    with pytest.raises(ConfigError):
        prepare({**splits, "test": splits["test"][:5]}, Halves(), tmp_path / "done")


def test_what_is_known_of_an_image_can_be_read_back(tmp_path: Path) -> None:
    MINIATURES["csv: csv files"].build(tmp_path / "data")
    splits = {split: open_dataset("csv", tmp_path / "data", split) for split in ("train", "test")}
    prepare(splits, Halves(), tmp_path / "out")
    for split, before in splits.items():
        after = open_dataset("csv", tmp_path / "out", split)
        assert [s.label for s in after] == [s.label for s in before]
        assert [(s.subject, s.valence, s.groups["glasses"]) for s in after] == [
            (s.subject, s.valence, s.groups["glasses"]) for s in before
        ]


def test_names_that_clash_and_names_that_do_not_print(tmp_path: Path) -> None:
    for place in ("a/1.png", "b/1.png", "b/2.png"):
        write(tmp_path / "data" / "happy" / place)
    data = {"all": open_dataset("folder", tmp_path / "data", "all")}
    prepare(data, Halves(), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "upper" / "happiness").iterdir()) == [
        "2.png",
        "happy_a_1.png",
        "happy_b_1.png",
    ]


def test_unreadable_images_are_counted_not_raised(tmp_path: Path) -> None:
    write(tmp_path / "data" / "happy" / "good.png")
    (tmp_path / "data" / "happy" / "torn.png").write_bytes(b"no image")
    summary = prepare({"all": open_dataset("folder", tmp_path / "data", "all")}, Halves(), tmp_path / "out")
    assert summary.status == {"all": {"ok": 1, "unreadable": 1}}
    line = json.loads((tmp_path / "out" / "prepared.jsonl").read_text().splitlines()[1])
    assert line["files"] == [] and "torn.png" in line["message"]


# Geometry


@pytest.mark.shared
def test_the_authors_matrices_are_reproduced(shared: Path) -> None:
    facts = json.loads((shared / "golden" / "align_matrices.json").read_text())
    for number, face in enumerate(facts["faces"]):
        found = PreparedFace(np.zeros(4), np.array(face["points"]), None, 1)
        for size in (112, 224):
            wanted = face.get(f"author_arcface_{size}", face[f"arcface_{size}"])
            assert np.allclose(AUTHORS["arcface112"].matrix(found, size), wanted, atol=1e-6), number
        assert np.allclose(AUTHORS["ddamfn5"].matrix(found, 112), face["five_template_112"], atol=1e-6), number


@pytest.mark.shared
def test_the_eyes_of_real_people_lie_on_the_template(shared: Path, tmp_path: Path) -> None:
    """The matrices of a whole run on some portraits take their hand-set pupils to the template's eyes."""
    people = open_dataset("csv", shared / "data" / "london", "all")
    chosen = people.take(np.flatnonzero(people.label == people.labels.index("neutral"))[::12])
    prepare({"all": chosen}, Align("arcface112"), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "prepared.jsonl").read_text().splitlines()]
    assert len(lines) == 9 and all(line["status"] == "ok" and line["faces"] == 1 for line in lines)
    for line in lines:
        pupils = np.load(shared / "data" / "london" / "landmarks" / f"{line['stem']}.npy")[:2]
        placed = apply(np.array(line["matrix"]), pupils)
        assert np.abs(placed - TEMPLATES["arcface112"].poses[0, :2]).max() < 5


@pytest.mark.shared
def test_the_authors_region_boxes_are_reproduced(shared: Path) -> None:
    from mien.faces.regions import global_roi_boxes

    chip = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    for face in json.loads((shared / "golden" / "roi_boxes.json").read_text()):
        boxes = global_roi_boxes(np.array(face["landmarks"], float))
        for made in (_clamped(chip, boxes, {}), _published(chip, boxes, {})):
            assert made.status == "ok"
            for name in ("eye", "nose", "mouth"):
                x0, y0, x1, y1 = face[name]
                assert np.array_equal(made.images[f"roi/{name}"], chip[y0:y1, x0:x1])


CHIP = np.arange(SIDE * SIDE * 3, dtype=np.uint32).astype(np.uint8).reshape(SIDE, SIDE, 3)


def test_boxes_beyond_the_image_are_clamped_or_fail_whole() -> None:
    boxes = {"eye": (-5, -3, 60, 40), "nose": (80, 60, 240, 130), "mouth": (70, 140, 150, 222)}
    made = _clamped(CHIP, boxes, {})
    assert made.status == "ok" and set(made.images) == {"align", "roi/eye", "roi/nose", "roi/mouth"}
    assert made.images["roi/eye"].shape == (40, 60, 3) and made.images["roi/nose"].shape == (70, 144, 3)
    failed = _clamped(CHIP, {**boxes, "mouth": (70, 221, 150, 300)}, {})
    assert failed.status == "no region" and set(failed.images) == {"error"}


def test_the_published_cut_wraps_and_leaves_orphans() -> None:
    boxes = {"eye": (20, 20, 60, 40), "nose": (-5, 60, 240, 130), "mouth": (70, 140, 150, 222)}
    made = _published(CHIP, boxes, {})
    assert made.status == "ok" and made.images["roi/nose"].shape == (70, 5, 3)  # a wrong slice, from the right edge
    made = _published(CHIP, {**boxes, "nose": (-5, 60, 130, 130)}, {})
    assert made.status == "no region" and set(made.images) == {"error", "roi/eye"}


@pytest.fixture(scope="module")
def portrait(sample: Path) -> np.ndarray:
    return read_image(sample).pixels


DLIB_CHIP = [(71.0, 70.2), (150.1, 70.2), (110.5, 114.3), (75.3, 153.8), (145.8, 153.9)]
"""Eyes, nose tip and mouth corners of dlib's mean face in a chip of 224 pixels with a padding of 0.25."""


@pytest.mark.parametrize(("crop", "author"), [*((name, False) for name in CROPS), *((name, True) for name in AUTHORS)])
def test_the_face_lies_where_the_crop_says(crop: str, author: bool, portrait: np.ndarray) -> None:
    work = Align(crop, author)
    made = work.open()(portrait)
    assert made.status == "ok" and made.facts["faces"] >= 1
    image = next(iter(made.images.values()))
    recipe = work.recipe()
    assert image.shape == (recipe.size, recipe.size, *(() if recipe.gray else (3,)))
    large = np.asarray(Image.fromarray(image).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC))
    found = points5(Landmarker("mesh478").crops([large]).points[0]) * recipe.size / 224
    if crop == "dlib-chip":
        poses = np.array([DLIB_CHIP])
    else:
        template = TEMPLATES["fer2013" if crop == "fer2013-like" else crop]
        poses = template.poses * recipe.size / template.size
    error = np.linalg.norm(found - poses, axis=-1).mean(-1).min()
    assert error < 0.06 * recipe.size, error


def test_images_without_a_face_are_kept_put_aside_or_left_out() -> None:
    blank = np.full((90, 60, 3), 128, np.uint8)
    kept = Align("arcface112").open()(blank)
    assert kept.status == "no face" and kept.images[""].shape == (112, 112, 3) and (kept.images[""] == 128).all()
    assert set(Align("dlib-chip").open()(blank).images) == {"error"}
    assert Align("arcface112", author=True).open()(blank).images == {}
    assert Align("arcface112", faceless="discard").open()(blank) == Made("no face", {})
    assert Align("ddamfn5", author=True).open()(blank).images[""].shape == (112, 112, 3)
    assert set(Regions().open()(blank).images) == {"error"}


@pytest.fixture(scope="module")
def three_faces(portrait: np.ndarray) -> np.ndarray:
    """A large face on the left, a small one in the middle, a middling one on the right."""
    canvas = np.full((512, 1200, 3), 200, np.uint8)
    image = Image.fromarray(portrait[0:330, 130:430])
    for x, y, width in ((10, 20, 420), (540, 190, 150), (840, 120, 300)):
        face = np.asarray(image.resize((width, width * 11 // 10), Image.Resampling.LANCZOS))
        face = face[: 512 - y]
        canvas[y : y + len(face), x : x + width] = face
    return canvas


def test_which_face_is_meant(three_faces: np.ndarray) -> None:
    where = {choice: FacePicker("retinaface", choice=choice)(three_faces) for choice in ("largest", "central", "first", "last")}
    center = {choice: face.points5[2, 0] for choice, face in where.items() if face is not None}
    assert center["largest"] < 450 and 540 < center["central"] < 700
    assert where["largest"] is not None and where["largest"].faces == 3
    assert center["first"] != center["last"]


def test_points_of_the_detector_need_a_detector_that_has_them(portrait: np.ndarray) -> None:
    with pytest.raises(ConfigError):
        FacePicker("blazeface", points="detector")(portrait)
    with pytest.raises(UnknownName):
        Align("fer2013-like", author=True).describe()


def test_tight_crops_need_no_detector(portrait: np.ndarray) -> None:
    crop = next(iter(Align("arcface112").open()(portrait).images.values()))
    again = Align("arcface112", detector="whole").open()(crop)
    matrix = np.array(again.facts["matrix"])
    moved = apply(matrix, TEMPLATES["arcface112"].poses[0]) - TEMPLATES["arcface112"].poses[0]
    assert again.status == "ok" and np.abs(moved).max() < 4


def test_regions_show_what_they_are_named_for(portrait: np.ndarray) -> None:
    made = Regions().open()(portrait)
    chip = made.images["align"]
    mesh = Landmarker("mesh478").crops([chip]).points[0]
    points = points68(mesh)
    for name, indices in {"eye": range(36, 48), "nose": range(27, 36), "mouth": range(48, 60)}.items():
        x0, y0, x1, y1 = made.facts["boxes"][name]
        x, y = points[list(indices)].mean(0)
        assert x0 < x < x1 and y0 < y < y1
        assert np.array_equal(made.images[f"roi/{name}"], chip[y0:y1, x0:x1])
    aligned = Regions(aligned=True, detector="whole").open()(chip)
    assert np.abs(np.array(list(aligned.facts["boxes"].values())) - np.array(list(made.facts["boxes"].values()))).max() <= 8


def test_regions_of_an_aligned_image_are_those_of_the_face_in_the_middle(portrait: np.ndarray) -> None:
    square = np.full((900, 900, 3), 200, np.uint8)
    face = Image.fromarray(portrait[25:215, 130:320])
    square[10:330, 10:330] = np.asarray(face.resize((320, 320)))
    square[340:560, 340:560] = np.asarray(face.resize((220, 220)))
    made = Regions(aligned=True, detector="retinaface").open()(square)
    x0, y0, x1, _ = np.array(made.facts["boxes"]["eye"]) * 900 / SIDE
    assert made.facts["faces"] == 2 and 340 < x0 < x1 < 560 and y0 > 340


# Annotations


def annotation_file(path: Path, complete: int, missing: dict[str, int]) -> None:
    """Rows that lack exactly what they are listed under."""
    lines = ["image,valence,arousal,expression,aus"]
    for lack, number in {"": complete, **missing}.items():
        affect = "-5,-5" if "valence" in lack else "0.25,-0.5"
        expression = "-1" if "expression" in lack else "3"
        units = ",".join(["-1" if "units" in lack else "1", *"01010101010"])
        lines += [f"video/{row:05d}.jpg,{affect},{expression},{units}" for row in range(number)]
    path.write_text("\n".join(lines) + "\n")


def test_annotations_are_filtered_and_the_losses_named(tmp_path: Path) -> None:
    missing = {"valence and arousal": 3, "expression": 4, "expression, action units": 2, "action units": 1}
    annotation_file(tmp_path / "training_set_annotations.txt", 5, missing)
    with (tmp_path / "training_set_annotations.txt").open("a") as file:
        file.write("video/1.jpg,1\n")
    [table] = curate(tmp_path, tmp_path / "out")
    assert (table.rows, table.kept, table.unreadable, table.published) == (15, 5, 1, None)
    assert table.dropped == missing
    lines = (tmp_path / "out" / table.file).read_text().splitlines()
    assert lines[0] == "image,valence,arousal,expression," + ",".join(ACTION_UNITS) and len(lines) == 6
    assert lines[1] == "video/00000.jpg,0.25,-0.5,3,1,0,1,0,1,0,1,0,1,0,1,0"
    for which, kept in {"none": 15, "expression": 9, "valence-arousal": 12, "action-units": 12}.items():
        [table] = curate(tmp_path, tmp_path / which, which)
        assert table.kept == kept
    assert "video/00000.jpg,-5,-5,3," in (tmp_path / "none" / table.file).read_text()


def test_full_annotation_files_must_give_the_published_counts(tmp_path: Path) -> None:
    annotation_file(tmp_path / "validation_set_annotations.txt", 15440, {"expression": 26876 - 15440})
    [table] = curate(tmp_path, tmp_path / "out")
    assert table.published is True
    annotation_file(tmp_path / "validation_set_annotations.txt", 15439, {"expression": 26877 - 15440})
    with pytest.raises(DatasetError):
        curate(tmp_path, tmp_path / "out")


def test_annotations_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        curate(tmp_path, tmp_path / "out")
    with pytest.raises(ConfigError):
        curate(tmp_path, tmp_path / "out", "best")


def test_a_contact_sheet_holds_its_images_in_order() -> None:
    faces = [(f"face {seed}", draw_face("anger", seed)) for seed in range(5)]
    sheet = np.asarray(contact_sheet(faces, side=48, columns=3))
    assert sheet.shape == (2 * (48 + 14 + 4) + 4, 3 * 52 + 4, 3)
    assert np.array_equal(sheet[4:52, 4:52, 0], faces[0][1])
    assert np.array_equal(sheet[70:118, 56:104, 0], faces[4][1])
    assert contact_sheet([]).size[0] > 0


def test_long_names_keep_their_ends_on_a_contact_sheet() -> None:
    face = np.zeros((9, 9, 3), np.uint8)
    short, long = (np.asarray(contact_sheet([(name, face)], side=48, columns=1)) for name in ("image", "x" * 99 + "image"))
    assert not np.array_equal(short, long)
    ends = np.asarray(contact_sheet([("y" * 500 + "x" * 99 + "image", face)], side=48, columns=1))
    assert np.array_equal(long, ends)


def test_an_image_that_shows_no_face_has_none() -> None:
    assert FacePicker("whole")(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)) is None
