"""Degraded faces, and their effect on models with known outputs."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from command import mien as run
from PIL import Image

import mien
from evaluations import eye_reader
from mien.data.datasets import Dataset, Sample, open_dataset
from mien.data.labeled_faces import Face, FaceFinder
from mien.errors import ConfigError
from mien.evaluation.robustness import DEGRADATIONS, Degradation, robustness
from mien.labels import FER2013

BY_NAME = {each.name: each for each in DEGRADATIONS}


@pytest.fixture
def dotted() -> Face:
    """A gray image of one face, 96 pixels, with a bright square right of its center."""
    pixels = np.full((96, 96, 3), 100, np.uint8)
    pixels[44:52, 68:76] = 250
    return Face(7, "dotted", pixels)


def bright(face: Face) -> np.ndarray:
    """Return (x, y) of the middle of the bright pixels, from the middle of the image."""
    y, x = np.nonzero(face.pixels[..., 0] > 180)
    return np.array([x.mean(), y.mean()]) + 0.5 - np.array(face.pixels.shape[1::-1]) / 2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tight crop", (24 / 0.8, 0)),
        ("loose crop", (24 / 1.2, 0)),
        ("turned left", (24 * np.cos(np.radians(15)), -24 * np.sin(np.radians(15)))),  # y points down
        ("turned right", (24 * np.cos(np.radians(15)), 24 * np.sin(np.radians(15)))),
    ],
)
def test_another_window_of_an_image(dotted: Face, name: str, expected: tuple[float, float]) -> None:
    seen = BY_NAME[name](dotted)
    assert seen.pixels.shape == dotted.pixels.shape
    assert bright(seen) == pytest.approx(expected, abs=0.3)
    assert (seen.pixels[:8] == 100).all()  # the outside repeats the edge


def test_a_crop_of_a_photograph_changes_as_an_image_does(shared: Path) -> None:
    """The crop aligned to moved points correlates most with the same window of an aligned crop."""
    pixels = np.asarray(Image.open(shared / "data/photos/lisa1.jpg").convert("RGB"))
    (face,) = FaceFinder("detect", "blazeface")([0], [Sample("lisa1", pixels)], [pixels])
    assert face is not None and face.mesh is not None
    names = ("tight crop", "loose crop", "turned left", "turned right")
    cut = mien.load().preprocess.cut
    crop = cut(face.pixels, face.mesh)["image"]
    whole = Face(0, "", np.repeat(crop, 3, axis=2))
    middle = slice(12, 36), slice(12, 36), 0
    windows = [crop[middle].ravel(), *(BY_NAME[name](whole).pixels[middle].ravel() for name in names)]
    for place, name in enumerate(names, 1):
        moved = BY_NAME[name](face)
        assert moved.mesh is not None
        ours = cut(moved.pixels, moved.mesh)["image"][middle].ravel()
        alike = [np.corrcoef(ours, window)[0, 1] for window in windows]
        assert int(np.argmax(alike)) == place and alike[place] > 0.9


@pytest.mark.parametrize("degrade", DEGRADATIONS, ids=lambda each: each.name)
def test_degradations(degrade: Degradation, sample: Path) -> None:
    pixels = np.asarray(Image.open(sample).convert("RGB"))[60:220, 150:310]
    face, before = Face(3, "sample", pixels), pixels.copy()
    after = degrade(face)
    assert np.array_equal(face.pixels, before) and after.pixels.dtype == np.uint8 and after.pixels.shape == pixels.shape
    assert not np.array_equal(after.pixels, pixels)
    assert np.array_equal(after.pixels, degrade(face).pixels)  # deterministic for a face
    thumbnail = Face(3, "small", np.ascontiguousarray(pixels[:7, :5]))
    assert degrade(thumbnail).pixels.shape == (7, 5, 3)


def test_chance_differs_from_face_to_face(dotted: Face) -> None:
    other = Face(8, dotted.sample, dotted.pixels)
    assert not np.array_equal(BY_NAME["noise"](dotted).pixels, BY_NAME["noise"](other).pixels)
    assert not np.array_equal(BY_NAME["noise"](dotted).pixels, BY_NAME["noise"](dotted, seed=1).pixels)


def test_the_window_of_a_photograph() -> None:
    pixels = np.arange(100 * 120 * 3, dtype=np.uint32).astype(np.uint8).reshape(100, 120, 3)
    face = Face(0, "", pixels, box=np.array([40, 50, 60, 70]))
    assert np.array_equal(Degradation("", "", window=1.5).cut(face), pixels[45:75, 35:65])
    assert np.array_equal(Degradation("", "", window=9).cut(face), pixels)


@pytest.fixture(scope="module")
def lights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces whose class follows from their brightness: happiness is 150 … 170 gray, sadness 60 … 80."""
    root = tmp_path_factory.mktemp("lights")
    for number in range(40):
        name, light = (("happiness", 150), ("sadness", 60))[number % 2]
        path = root / name / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((48, 48, 3), light + number // 2, np.uint8)).save(path)
    return root


def opened(root: Path) -> Dataset:
    return open_dataset("folder", root, "all", labels="fer2013")  # pyrefly: ignore


def by_light(images: list[np.ndarray]) -> np.ndarray:
    happy = np.array([image.mean() > 115 for image in images])
    return np.eye(7)[np.where(happy, FER2013.index("happiness"), FER2013.index("sadness"))]


by_light.labels = FER2013  # pyrefly: ignore


def test_the_effect_of_each_degradation(lights: Path) -> None:
    found = robustness(by_light, opened(lights))
    rows = {row.name: row for row in found.rows}
    assert (found.faces, found.accuracy, found.tight_to_loose) == (40, 1.0, 0.0)
    dark = rows["dark"]  # happiness becomes 75 … 85
    assert (dark.accuracy, dark.change, dark.same, dark.moved) == (0.5, -0.5, 0.5, 0.5)
    assert dark.low < -0.5 < dark.high < 0
    for name in ("blur", "turned left", "no color", "loose crop"):
        assert (rows[name].change, rows[name].low, rows[name].high, rows[name].moved) == (0, 0, 0, 0)


def test_no_number_of_the_image_is_cut_off(lights: Path) -> None:
    figure = robustness(by_light, opened(lights)).figure()
    figure.canvas.draw()
    texts = [text for axes in figure.axes for text in axes.texts]
    heads = [text.get_window_extent() for text in texts[:3]]
    assert all(left.x1 + 3 < right.x0 for left, right in itertools.pairwise(heads))
    assert len(texts) == 3 * (len(DEGRADATIONS) + 1)
    for text in texts:
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1


def test_persons_are_resampled_as_a_whole(lights: Path) -> None:
    """With few persons, intervals are wider than over images."""
    data = opened(lights)
    two = dataclasses.replace(data, subject=data.label.astype(str))
    widths = []
    for each in (data, two):
        (dark,) = robustness(by_light, each, degradations=[BY_NAME["dark"]]).rows
        widths.append(dark.high - dark.low)
    assert widths[1] > 2 * widths[0]


def test_a_gray_network_sees_only_the_gray_levels_of_a_color_cast(shared: Path, tmp_path: Path) -> None:
    """Crops of the input size are not resampled, so equal gray levels are equal inputs and give equal probabilities."""
    size = mien.load("mien-nano").preprocess.size
    (tmp_path / "happiness").mkdir()
    for path in sorted((shared / "data/london/images").glob("*_08.jpg"))[:10]:
        Image.open(path).convert("RGB").resize(size[::-1]).save(tmp_path / "happiness" / f"{path.stem}.png")
    without, cast = BY_NAME["no color"].change, BY_NAME["color cast"].change
    assert without is not None and cast is not None
    gray_cast = Degradation("gray cast", "", lambda pixels, at, rng: without(cast(pixels, at, rng), at, rng))
    degradations = [BY_NAME["no color"], BY_NAME["color cast"], gray_cast]
    none, colored, gray = robustness("mien-nano", opened(tmp_path), degradations=degradations, faces="whole").rows
    assert (none.same, none.moved) == (1, 0)
    assert colored.moved == gray.moved > 0


def test_gray_before_or_after_the_crop_differs_by_rounding(shared: Path) -> None:
    """Each of the two ways rounds twice, by half a gray level at most."""
    pixels = np.asarray(Image.open(shared / "data/photos/lisa1.jpg").convert("RGB"))
    (face,) = FaceFinder("detect", "blazeface")([0], [Sample("lisa1", pixels)], [pixels])
    assert face is not None and face.mesh is not None
    cut = mien.load("mien-nano").preprocess.cut
    plain = BY_NAME["no color"](face).pixels
    levels = [cut(each, face.mesh)["image"].astype(int) for each in (face.pixels, plain)]
    assert np.abs(levels[0] - levels[1]).max() <= 2 and levels[0].std() > 10


def test_a_tightly_cropped_photograph_is_predicted_like_a_loose_one(shared: Path) -> None:
    """Detection and alignment are repeated, so the crop of the photo matters little."""
    london = open_dataset("london", shared / "data/london", "all")
    found = robustness("mien-nano", london, limit=8)
    assert [row.name for row in found.rows] == [*BY_NAME, "tight photograph", "loose photograph"]
    assert found.tight_to_loose is not None and found.tight_to_loose_photograph is not None
    assert 0 < found.tight_to_loose_photograph < found.tight_to_loose


def test_regions_are_cut_by_the_mesh(sample: Path, tmp_path: Path) -> None:
    """Also in images that are face crops; the mesh follows the degradation."""
    eyes: list[np.ndarray] = []
    reader = eye_reader(eyes)
    folder = tmp_path / "data" / "anger"
    folder.mkdir(parents=True)
    Image.open(sample).convert("RGB").crop((130, 50, 280, 200)).save(folder / "1.png")  # the face is not centered
    data = opened(folder.parent)
    robustness(reader, data, degradations=[BY_NAME["loose crop"]], faces="whole")
    pixels = data[0].read()
    (face,) = FaceFinder("whole", "blazeface", mesh=True)([0], [data[0]], [pixels])
    assert face is not None and face.mesh is not None
    wanted = reader.preprocess.take(pixels, face.mesh)["eye"]
    assert np.abs(eyes[0][0] - (wanted.transpose(2, 0, 1) / 127.5 - 1)).max() < 1e-5
    assert np.corrcoef(eyes[0].ravel(), eyes[1].ravel())[0, 1] > 0.8


def test_faces_of_others_are_ignored(sample: Path) -> None:
    """If the face of the box of the dataset is not found, no other is taken."""
    pixels = np.asarray(Image.open(sample).convert("RGB"))
    find = FaceFinder("detect", "blazeface")
    assert find.found(0, "", pixels, (0, 400, 40, 440)) is None
    face = find.found(0, "", pixels)
    assert face is not None and face.box is not None
    assert find.found(0, "", pixels, face.box.tolist()) is not None


def test_a_face_that_is_not_found_counts_as_wrong(shared: Path) -> None:
    london = open_dataset("london", shared / "data/london", "all")
    (row,) = robustness("mien-nano", london, degradations=[Degradation("eye", "", window=0.1)], limit=4).rows
    assert (row.accuracy, row.same, row.moved) == (0, 0, 1)


def test_bad_input(lights: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", probs=np.full((40, 7), 1 / 7))
    with pytest.raises(ConfigError):
        robustness(f"peer:x={tmp_path / 'p.npz'}", opened(lights))
    with pytest.raises(ConfigError) as caught:
        robustness(by_light, opened(lights), faces="detect")
    assert (caught.value.value, caught.value.expected) == ("detect", "whole")
    blank = tmp_path / "blank" / "happiness"
    blank.mkdir(parents=True)
    Image.new("RGB", (300, 300)).save(blank / "1.png")
    with pytest.raises(ConfigError):
        robustness("mien-nano", opened(blank.parent), faces="detect")


def test_command(lights: Path, tmp_path: Path) -> None:
    options = ["--dataset", "folder", "--root", str(lights), "--split", "all", "--option", "labels=fer2013"]
    report = run("evaluate", "mien-nano", *options, "--out", str(tmp_path / "report"))
    assert report.returncode == 0, report.stderr
    table, image = tmp_path / "table.csv", tmp_path / "image.png"
    done = run(
        "robustness", "mien-nano", *options, "--limit", "20", "--out", str(table), "--plot", str(image),
        "--report", str(tmp_path / "report"), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["original", *BY_NAME, "tight to loose"]
    assert float(rows[1]["accuracy"]) == pytest.approx(found["rows"][0]["accuracy"], abs=1e-4)
    with Image.open(image) as drawn:
        assert drawn.width > 800
    assert "Degraded faces" in (tmp_path / "report/report.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "table.txt"], "--out table.txt"),
        (["--plot", "image.bmp"], "image.bmp"),
        (["--limit", "-3"], "-3"),
        (["--report", "nowhere"], "nowhere"),
    ],
)
def test_user_errors_are_one_line_and_nothing_is_written(words: list[str], message: str, lights: Path, tmp_path: Path) -> None:
    options = ["--dataset", "folder", "--root", str(lights), "--split", "all", "--option", "labels=fer2013"]
    done = run("robustness", "mien-nano", *options, *words, cwd=tmp_path)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
